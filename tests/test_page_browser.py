"""The page in a real headless browser: it renders, sorts and filters, and asks nobody for anything."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from dfgs.config import Config
from dfgs.page.write import write_page
from dfgs.provenance import write_json

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium")
DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(finished_results: Path, finished_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a whole grid whose title is hostile, with one query on which samplers disagree."""
    results = Path(shutil.copytree(finished_results, tmp_path_factory.mktemp("browser") / "results"))
    images = {"q": {"pid": 1, "camid": 1, "thumbnail": DOT}}
    query = {"query": "q", "right": "sampler", "votes": {"sampler": 2, "baseline": 0}, "seed": 0, "lists": None}
    query |= {"average_precision": {"sampler": 0.9, "baseline": 0.1}}
    block = {
        "sampler": "random",
        "baseline": "pk",
        "model": "tiny",
        "source": "a",
        "target": "b",
        "split": "test",
        "within": False,
    }
    counts = dict.fromkeys(("queries", "both_right", "both_wrong", "only_sampler", "only_baseline", "undecided"), 1)
    found = {"blocks": [block | counts | {"seeds": [0, 1], "shown": [query]}], "images": images}
    write_json(results / "experiments/main/disagreements.json", found)
    main = finished_config.experiments["main"].model_copy(update={"title": "<script>document.title = 'owned'</script>"})
    return write_page(finished_config.model_copy(update={"experiments": {"main": main}}), results, is_partial=False)


@pytest.fixture
def open_page(browser: Browser, file: Path) -> Iterator[Open]:
    """Open the page from its file; a message in the console or a request that leaves the file fails the test."""
    contexts, said = [], []

    def opened(**settings: object) -> Page:
        context = browser.new_context(**settings)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request", lambda sent: None if sent.url.startswith(("data:", file.as_uri())) else said.append(sent.url)
        )
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def column(table: Locator, place: int) -> list[str]:
    """Texts of the visible cells of one column of a table's own rows."""
    rows = table.locator("tbody").first.locator("tr:visible")
    return [row.locator("th, td").nth(place).inner_text() for row in rows.all()]


def test_it_opens_from_a_file_without_a_word_in_the_console_and_without_any_request(open_page: Open) -> None:
    page = open_page()
    assert page.title() == "<script>document.title = 'owned'</script>"
    assert page.get_by_role("heading", level=1).inner_text() == page.title()
    assert page.locator("figure img").count() == 1
    natural = page.locator("img[src]").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert natural
    assert min(natural) > 0


def test_a_click_on_a_header_sorts_up_then_down_then_back(open_page: Open) -> None:
    table = open_page().locator("#main-mAP")
    header = table.locator("thead th").nth(1)
    first = column(table, 0)
    numbers = [float(text.split()[0]) for text in column(table, 1)]
    for state, wanted in (("ascending", sorted(numbers)), ("descending", sorted(numbers, reverse=True))):
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == state
        assert [float(text.split()[0]) for text in column(table, 1)] == wanted
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "none"
    assert column(table, 0) == first
    assert table.locator("tbody.reference tr").inner_text().startswith("zero-shot")


def test_the_keyboard_sorts_too_and_the_change_is_told(open_page: Open) -> None:
    page = open_page()
    table = page.locator("#main-mAP")
    table.locator("thead th").first.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert column(table, 0) == ["pk", "random"]
    assert page.get_by_role("status").inner_text() == "Sorted by sampler, ascending."
    page.keyboard.press("Space")
    assert column(table, 0) == ["random", "pk"]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == table.locator("thead th").nth(1).inner_text()


def test_what_is_missing_goes_last_in_either_direction(open_page: Open) -> None:
    page = open_page()
    table = page.locator("#main-mAP")
    table.locator("tbody").first.locator("tr").first.locator("td").first.evaluate(
        "cell => { cell.textContent = '–'; delete cell.dataset.value; }"
    )
    button = table.locator("thead th").nth(1).get_by_role("button")
    for _ in range(2):
        button.click()
        assert column(table, 1)[-1] == "–"


def test_a_filter_keeps_the_rows_with_all_its_words(open_page: Open) -> None:
    page = open_page()
    page.locator("summary", has_text="Every single number").click()
    table = page.locator("#main-numbers")
    whole = len(column(table, 0))
    page.locator("[data-sheet]", has=table).get_by_label("Filter rows").press_sequentially("PK rank1 half-0")
    kept = table.locator("tbody tr:visible").all_inner_texts()
    assert 0 < len(kept) < whole
    assert all("pk" in row and "rank1" in row and "half-0" in row for row in kept)
    assert page.get_by_role("status").inner_text() == f"{len(kept)} of {whole} rows"
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    assert len(column(table, 0)) == whole


def test_the_first_key_skips_to_the_verdict(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "verdict"


def test_focus_can_be_seen(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    style = page.evaluate(
        "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))"
    )
    assert style == ["solid", "3px"]


def test_a_command_is_copied(open_page: Open) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_text("Commands that make these numbers again").first.click()
    command = page.locator(".commands .command", has_text="main/a/b/tiny/pk/mAP").first
    command.get_by_role("button").click()
    assert page.evaluate("navigator.clipboard.readText()") == "dfgs reproduce main/a/b/tiny/pk/mAP"
    assert page.get_by_role("status").inner_text() == "Copied."


def _contrast(page: Page, selector: str) -> float:
    """Contrast of a text with the page's ground, by WCAG 2."""
    colours = [
        page.locator(name).first.evaluate(f"element => getComputedStyle(element).{what}")
        for name, what in ((selector, "color"), ("body", "backgroundColor"))
    ]
    lights = []
    for colour in colours:
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_both_be_read(open_page: Open, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) > 384) == (scheme == "light")
    assert all(_contrast(page, selector) >= 4.5 for selector in ("main p", ".note", "nav a", "thead th", "summary"))


def test_print_has_the_numbers_and_no_controls(open_page: Open) -> None:
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("#main-mAP").is_visible()
    assert not page.locator("nav").is_visible()
    assert page.locator(".filter:visible, .command button:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#main-audit").evaluate("table => getComputedStyle(table.parentNode).overflowX") == "visible"


def test_a_narrow_window_scrolls_tables_and_never_the_page(open_page: Open) -> None:
    page = open_page(viewport={"width": 400, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(found => { found.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_without_scripts_every_number_is_still_there(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator("#main-mAP tbody tr").count() == 3
    assert page.locator("button, input").count() == 0


def test_pictures_of_people_come_from_the_album(open_page: Open) -> None:
    page = open_page()
    page.get_by_text("random against pk, a→b, tiny").click()
    shot = page.get_by_role("img", name="query: person 1, camera 1")
    assert shot.is_visible()
    assert shot.get_attribute("src") == DOT
