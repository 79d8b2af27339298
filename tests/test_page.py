"""The page: what it says, what it refuses, and that it is one file that runs nothing of its users'."""

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dfgs.cli.page import report
from dfgs.config import Config
from dfgs.config.used import used
from dfgs.errors import DfgsError
from dfgs.grid import Grid, Trial
from dfgs.metrics import PROTOCOLS
from dfgs.page.cells import Cell
from dfgs.page.contents import gather
from dfgs.page.cost import LEDGER_COLUMNS
from dfgs.page.crate import crate_files, sha256
from dfgs.page.fragments import read_fragment
from dfgs.page.grid_results import read_scores
from dfgs.page.pictures import LARGEST, data_uri, small_uri
from dfgs.page.protocols import MEANING, sentence, sentences, words
from dfgs.page.write import write_page
from dfgs.provenance import read_json, write_json
from dfgs.rendering import Entry
from dfgs.stats.summary import Contrast, Pair, Verdict, write_verdict
from page_results import write_scores

Values = dict[str, Any]
PK = Trial("a", "tiny", "pk", 1)


@pytest.fixture
def config(page_values: Values) -> Config:
    return Config.parse(page_values)


@pytest.fixture
def page(config: Config, results: Path) -> Callable[..., str]:
    """Write the page of `results` and return its text."""

    def write(is_partial: bool = False) -> str:
        return write_page(config, results, is_partial=is_partial).read_text(encoding="utf-8")

    return write


class Tags(HTMLParser):
    """Every start tag of a page with its attributes, and every text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_needs_no_other_file(page: Callable[..., str]) -> None:
    tags = Tags(page())
    links = [a[key] for _, a in tags.found for key in ("src", "href", "srcset", "action") if a.get(key)]
    assert links
    assert all(str(link).startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|url\(", page())
    assert "default-src 'none'" in str(tags.all("meta"))


def test_every_link_inside_the_page_leads_somewhere_and_no_name_is_given_twice(page: Callable[..., str]) -> None:
    tags = Tags(page())
    names = [str(a["id"]) for _, a in tags.found if "id" in a]
    assert len(names) == len(set(names))
    wanted = {str(a["href"])[1:] for a in tags.all("a")}
    wanted |= {str(a[key]) for _, a in tags.found for key in ("aria-labelledby", "aria-describedby") if key in a}
    assert wanted <= set(names)


def test_tables_and_pictures_can_be_read_aloud(page: Callable[..., str]) -> None:
    tags = Tags(page())
    assert len(tags.all("caption")) == len(tags.all("table")) > 4
    assert all(a.get("scope") in ("col", "row") for a in tags.all("th"))
    assert tags.all("img")
    assert all(a.get("alt") for a in tags.all("img"))
    assert len(tags.all("main")) == len(tags.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in tags.found if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_what_users_write_is_text_and_never_runs(page_values: Values, results: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    page_values["experiments"]["main"]["title"] = evil
    config = Config.parse(page_values)
    write_scores(Grid(config), PK, results, np.random.default_rng(9), commit="<b>bold</b>")
    text = write_page(config, results, is_partial=False).read_text(encoding="utf-8")
    tags = Tags(text)
    assert len(tags.all("script")) == 2
    assert not [a for a in tags.all("img") if "onerror" in a]
    assert not tags.all("b")
    assert any(evil in said for said in tags.texts)
    assert any("<b>bold</b>" in said for said in tags.texts)


def test_the_album_of_pictures_cannot_end_its_script(page: Callable[..., str], results: Path) -> None:
    _disagree(results, "data:image/png;base64,</script><script>alert(1)</script>")
    assert len(Tags(page()).all("script")) == 2


def test_every_number_has_a_command_that_names_its_own_rows(
    page: Callable[..., str], config: Config, results: Path
) -> None:
    commands = {said for said in Tags(page()).texts if said.startswith("dfgs reproduce main")}
    rows = read_scores(Grid(config), results)
    cells = [Cell.parse(command.removeprefix("dfgs reproduce ")) for command in commands]
    assert all(len(cell.rows(rows)) for cell in cells)
    single = [cell for cell in cells if cell.seed is not None]
    chosen = rows[rows["metric"].isin(["mAP", "rank1"])]
    assert len(single) == len(chosen)
    assert all(len(cell.rows(rows)) == 1 for cell in single)
    means = {str(cell) for cell in cells if cell.seed is None}
    assert {"main/a/b/tiny/pk/mAP", "main/average/tiny/random/rank1", "main/a/b/tiny/zero-shot/chance_mAP"} <= means


def test_the_page_names_no_folder_of_the_machine(page: Callable[..., str], results: Path) -> None:
    assert str(results.parent) not in page()


def test_the_same_results_give_the_same_page(page: Callable[..., str]) -> None:
    assert page() == page()


def test_without_a_verdict_the_page_says_so_and_means_prove_nothing(page: Callable[..., str]) -> None:
    text = page()
    assert "No verdict: no planned comparison of this experiment has been judged." in text
    assert "mean ± 95 % t-interval over n = 2 seeds" in text


VERDICT = Verdict(
    experiment="main",
    title="Main",
    metric="mAP",
    margin=0.5,
    level=0.05,
    sentences=("Nothing is proved.", "Seven seeds more."),
    notes=("One backbone.",),
    averaged={"a": ("b",)},
    is_within=False,
    commits=("c0ffee",),
    contrasts=(
        Contrast(
            *("tiny", "random", "pk", -2.0, -9.0, 5.0, "t", "", 1.5, 0.5, 0.5, "undecided", 7),
            pairs=(Pair("a", 0, -1.0), Pair("a", 1, -3.0)),
        ),
    ),
    blocks=(),
)


def test_a_table_marks_whom_a_sampler_beats_and_a_small_p_is_not_zero(page: Callable[..., str], results: Path) -> None:
    won = replace(VERDICT.contrasts[0], verdict="better", adjusted=0.01, seeds_needed=0)
    assert "beats" not in page()
    write_verdict(replace(VERDICT, contrasts=(won,)), results / "experiments/main/verdict.json")
    assert "beats" in page()
    small = replace(VERDICT.contrasts[0], adjusted=0.000122)
    write_verdict(replace(VERDICT, contrasts=(small,)), results / "experiments/main/verdict.json")
    assert "0.00012" in page()


def test_the_two_sentences_of_a_verdict_come_before_everything(page: Callable[..., str], results: Path) -> None:
    path = results / "experiments/main/verdict.json"
    write_verdict(VERDICT, path)
    text = page()
    assert "No verdict" not in text
    body = text[text.index("<main>") :]
    assert body.index("Nothing is proved. Seven seeds more.") < body.index("One backbone.") < body.index("<img")
    assert body.index("<img") < body.index("random − pk") < body.index("Results</h2>")
    write_json(path, read_json(path) | {"schema": 2})
    with pytest.raises(DfgsError, match=r"verdict\.json: no verdict of schema 1"):
        page()


def test_an_unfinished_grid_is_refused_in_one_line_that_counts_and_names_what_is_missing(
    page: Callable[..., str], results: Path
) -> None:
    shutil.rmtree(results / "scores" / PK.path)
    shutil.rmtree(results / "scores/ab/tiny/random/s0")
    before = sorted(path.name for path in results.iterdir())
    with pytest.raises(DfgsError) as caught:
        page()
    # a: one split, b: two
    assert str(caught.value).startswith("6 of the grid's cells are missing: main/a/tiny/pk/s1 on a, b (2 splits); ")
    assert "main/ab/tiny/random/s0 on a, b (2 splits); run snakemake again, or take --partial" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in results.iterdir()) == before


def test_a_partial_page_says_so_and_names_what_is_missing(page: Callable[..., str], results: Path) -> None:
    shutil.rmtree(results / "scores" / PK.path)
    write_verdict(replace(VERDICT, sentences=("Of the whole grid.", "Old.")), results / "experiments/main/verdict.json")
    text = page(is_partial=True)
    assert "<title>Partial: Main</title>" in text
    assert "Unfinished: 3 cells of the grid have no numbers yet." in text
    assert "<code>main/a/tiny/pk/s1 on a, b (2 splits)</code>" in text
    assert "Of the whole grid" not in text
    assert "dfgs reproduce main/a/a:test/tiny/pk/s0/mAP" in text


def test_a_whole_grid_is_not_marked_as_partial(page: Callable[..., str]) -> None:
    text = page(is_partial=True)
    assert "Partial" not in text
    assert "Unfinished" not in text


def test_a_cell_with_two_numbers_is_refused_and_both_files_are_named(page: Callable[..., str], results: Path) -> None:
    other = results / "scores/a/tiny/pk/s0/metrics.csv"
    text = other.read_text(encoding="utf-8").replace(",0,mAP,", ",1,mAP,")
    other.write_text(text, encoding="utf-8")
    with pytest.raises(
        DfgsError, match=r"one cell, two numbers: .*seed 1.*pk/s0/metrics\.csv and .*pk/s1/metrics\.csv"
    ):
        page()


def test_numbers_of_two_commits_are_named_in_a_banner(page: Callable[..., str], config: Config, results: Path) -> None:
    write_scores(Grid(config), PK, results, np.random.default_rng(9), commit="deadbeef0000+")
    text = page()
    assert re.search(r"Mixed: the numbers come from 2 commits: c0ffee123456 \(\d+ numbers\); deadbeef0000\+ \(9", text)
    assert "Made from a checkout with uncommitted changes: deadbeef0000+." in text


def test_numbers_of_two_protocols_are_refused_and_both_are_named(
    page: Callable[..., str], config: Config, results: Path
) -> None:
    write_scores(Grid(config), PK, results, np.random.default_rng(9), rule="cuhk03-new")
    with pytest.raises(DfgsError, match=r"2 protocols: rule market1501 and cuhk03-new;.*seed 0\) and .*seed 1\)"):
        page()


def test_one_seed_has_no_interval_and_the_page_says_why(page_values: Values, results: Path) -> None:
    page_values["experiments"]["main"]["seeds"] = [0]
    text = write_page(Config.parse(page_values), results, is_partial=False).read_text(encoding="utf-8")
    assert "One seed only: a single training shows no spread, so no interval is given" in text
    assert "±" not in text[text.index("<main>") :].partition("Sampler audit")[0]


def test_nothing_scored_is_refused(page: Callable[..., str], results: Path) -> None:
    shutil.rmtree(results / "scores")
    with pytest.raises(DfgsError, match="none of the 9 models of this grid is scored"):
        page(is_partial=True)


def test_failures_and_cost_come_from_records_and_the_ledger(page: Callable[..., str], results: Path) -> None:
    text = page()
    assert "None of the 8 trainings collapsed." in text
    assert "There is no ledger of attempts" in text
    scores = results / "scores" / PK.path / "metrics.csv"
    scores.write_text(re.sub(r"(,collapsed,)0,", r"\g<1>1,", scores.read_text(encoding="utf-8")), encoding="utf-8")
    rows = [
        "stage,cell,attempt,outcome,reason,seconds,wasted_seconds,node",
        "finetune,a/tiny/pk/s0,1,preempted,asked to leave,7200,900,n1",
        "finetune,a/tiny/pk/s1,1,preempted,asked to leave,3600,900,n1",
        "finetune,a/tiny/pk/s0,2,completed,,3600,0,n1",
        "score,a/tiny/pk/s0,1,bad data,<b>image</b> cut short,0,0,n1",
    ]
    (results / "ledger.csv").write_text("\n".join(rows), encoding="utf-8")
    text = page()
    assert "1 of 8 trainings collapsed, their features are all alike: a/tiny/pk/s1." in text
    assert "There is no ledger" not in text
    line = text[text.index(">preempted<") :]
    assert re.findall(r"<td>(.*?)</td>", line)[:3] == ["2", "3.00", "0.50"]
    assert "4.00 hours. 12.5 % of them were wasted" in text
    assert "Attempts that failed (1), and why." in text
    assert "&lt;b&gt;image&lt;/b&gt; cut short" in text
    (results / "ledger.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DfgsError, match=r"ledger\.csv.*expected the columns stage, cell, attempt, outcome"):
        page()


FRAGMENT = """<table>
<caption>Experiment main, level of datasets: ranks. Mean rank: 1 is best.</caption>
<thead><tr><th scope="col">sampler</th><th scope="col">against</th><th scope="col">mean rank</th></tr></thead>
<tbody>
<tr><th scope="row">random</th><th scope="row">pk</th><td data-value="1.2"><strong>1.2</strong><sup>a</sup></td></tr>
<tr><th scope="row">&lt;b&gt;pk</th><th scope="row"></th><td data-value=""><u>&#8211;</u></td></tr>
</tbody>
<tbody class="reference">
<tr><th scope="row">zero-shot</th><th scope="row"></th><td data-value="3">3.0</td></tr>
</tbody>
</table>
<ul class="notes">
<li>Few blocks<script>alert(1)</script>.</li>
</ul>
"""


def test_a_table_that_the_workflow_wrote_is_read_as_text(page: Callable[..., str], results: Path) -> None:
    path = results / "tables/main/blocks.html"
    path.write_text(FRAGMENT, encoding="utf-8")
    sheet = read_fragment(path, "x")
    assert (sheet.title, sheet.note) == (
        "Experiment main, level of datasets: ranks.",
        "Mean rank: 1 is best. Few blocksalert(1).",
    )
    assert (sheet.header, sheet.labels) == (("sampler", "against", "mean rank"), 2)
    assert sheet.rows[0] == (Entry("random"), Entry("pk"), Entry("1.2 [a]", 1))
    assert sheet.rows[1] == (Entry("<b>pk"), Entry(""), Entry("–", 2))
    assert sheet.reference_rows == ((Entry("zero-shot"), Entry(""), Entry("3.0")),)
    for name in ("verdict", "mAP"):  # the page makes these itself
        path.with_stem(name).write_text(FRAGMENT.replace("ranks", name), encoding="utf-8")
    text = page()
    assert text.count("level of datasets: ranks.") == 1
    assert "level of datasets: verdict" not in text
    assert "level of datasets: mAP" not in text
    assert "&lt;b&gt;pk" in text


def test_a_figure_full_of_pictures_comes_as_webp(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "batches.png")
    svg = tmp_path / "batches.svg"
    svg.write_bytes(b"<svg/>".ljust(LARGEST))
    assert small_uri(svg) == data_uri(svg)
    svg.write_bytes(b"<svg/>".ljust(LARGEST + 1))
    kind, _, data = small_uri(svg).partition(";base64,")
    assert kind == "data:image/webp"
    with Image.open(io.BytesIO(base64.b64decode(data))) as drawn:
        assert (drawn.format, drawn.size) == ("WEBP", (30, 20))


def test_a_figures_own_description_stands_in_for_it(page: Callable[..., str], results: Path) -> None:
    path, words = results / "figures/main/comparison.png", PngInfo()
    words.add_text("Description", "Two samplers, <pk> ahead.")
    Image.new("RGB", (4, 4)).save(path, pnginfo=words)
    assert 'alt="Two samplers, &lt;pk&gt; ahead."' in page()
    path.with_suffix(".svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
    text = page()
    assert 'src="data:image/svg+xml;base64,' in text
    assert 'src="data:image/png' not in text


def _disagree(results: Path, thumbnail: str) -> None:
    """Write what the disagreement explorer reads: one query with its two lists."""
    images = {
        "d/q.jpg": {"pid": 3, "camid": 1, "thumbnail": thumbnail},
        "d/g.jpg": {"pid": 4, "camid": 2, "thumbnail": None},
    }
    shown = {"query": "d/q.jpg", "right": "baseline", "votes": {"sampler": 0, "baseline": 2}, "seed": 0}
    shown |= {"average_precision": {"sampler": 0.1, "baseline": 0.9}}
    shown |= {"lists": {s: [{"image": "d/g.jpg", "right": s == "baseline"}] for s in ("sampler", "baseline")}}
    block = {
        "sampler": "random",
        "baseline": "pk",
        "model": "tiny",
        "source": "a",
        "target": "b",
        "split": "test",
        "within": False,
    }
    block |= {"seeds": [0, 1], "queries": 9, "both_right": 4, "both_wrong": 2, "only_sampler": 0, "only_baseline": 2}
    found = {"blocks": [block | {"undecided": 1, "shown": [shown]}], "images": images}
    write_json(results / "experiments/main/disagreements.json", found)


def test_disagreements_tell_what_each_sampler_found(page: Callable[..., str], results: Path) -> None:
    _disagree(results, "data:image/png;base64,AAAA")
    text = page()
    assert "random against pk, a→b, tiny" in text
    assert "4 have a right first place under both and 2 under neither; 0 only under random, 2 only under pk" in text
    assert "right under pk (2 of 2 seeds, AP 90), wrong under random (0 of 2, AP 10)" in text
    assert text.count("data:image/png;base64,AAAA") == 1
    assert 'data-shot="d/q.jpg" alt="query: person 3, camera 1"' in text
    assert 'data-shot="d/g.jpg"' not in text


def test_the_protocol_is_explained_word_by_word(config: Config, results: Path) -> None:
    rows = read_scores(Grid(config), results)
    found = dict(words(rows))
    assert found["rule"] == MEANING["rule"]
    assert set(found) == {"rule", "split", "input", "same_camera", "junk", "distractors", "repeats", "seed"}
    assert dict(sentences(rows))["a"] == (
        "rule market1501, without images of the query's person by its own camera, images of person -1 removed as junk, "
        "person 0 kept as a wrong answer, from images of 64 × 32 pixels, split test"
    )
    reranked = PROTOCOLS["plain"].fingerprint(rows="length-1", distance="cosine", k1=20, k2=6, **{"lambda": 0.3})
    assert sentence(reranked) == (
        "rule plain, all cameras kept, scaled to length 1, by cosine distance, re-ranked (k1 20, k2 6, λ 0.3)"
    )
    shown = gather(Grid(config), results, is_partial=False).protocols
    assert len(shown.rows) == 3  # a's split, and the two of b


@pytest.mark.parametrize(
    "text",
    [
        "main/a/b/tiny/pk/s0/mAP",
        "main/a/b:half-0/tiny/pk/s0/mAP",
        "main/a/b/tiny/pk/mAP",
        "main/average/tiny/pk/s1/rank1",
        "main/average/tiny/pk/mAP",
    ],
)
def test_a_cells_name_reads_back(text: str) -> None:
    assert str(Cell.parse(text)) == text
    assert Cell.parse(text) == Cell.parse(text.replace("a/b", "a→b")) == Cell.parse(text.replace("a/b", "a->b"))


@pytest.mark.parametrize(
    "text", ["", "main", "main/a/b/tiny/pk", "main/a/b/tiny/pk/0/mAP", "main/a//tiny/pk/s0/mAP", "a/b/c/d/e/f/g/h"]
)
def test_another_text_is_no_cell_and_the_form_is_told(text: str) -> None:
    with pytest.raises(DfgsError, match=r"expected EXPERIMENT/SOURCE/TARGET/MODEL/SAMPLER/sSEED/METRIC"):
        Cell.parse(text)


def test_a_cell_that_is_not_there_names_the_part_that_is_wrong(config: Config, results: Path) -> None:
    rows = read_scores(Grid(config), results)
    with pytest.raises(DfgsError, match=r"there is no sampler 'pkk' among these results \(did you mean 'pk'\?\)"):
        Cell.parse("main/a/b/tiny/pkk/s0/mAP").rows(rows)
    with pytest.raises(DfgsError, match="there is no seed 5"):
        Cell.parse("main/a/b/tiny/pk/s5/mAP").rows(rows)


def test_the_recorded_configuration_gives_the_same_jobs(
    page: Callable[..., str], config: Config, results: Path
) -> None:
    page()
    grid, again = Grid(config), Grid(Config.parse(read_json(results / "config.json")))
    assert again.all_trials() == grid.all_trials()
    for trial in [*grid.all_trials(), *grid.references("main")]:
        assert again.score_job(trial) == grid.score_job(trial)
        assert again.embed_job(trial) == grid.embed_job(trial)
    for trial in grid.all_trials():
        assert again.finetune_job(trial) == grid.finetune_job(trial)
        assert again.prompts_job(*_prompts(trial)) == grid.prompts_job(*_prompts(trial))
    assert "dfgs-k3" not in used(config)["samplers"]


def _prompts(trial: Trial) -> tuple[str, str, int]:
    return trial.source, trial.model, trial.seed


def test_the_crate_holds_what_ro_crate_asks_for(page: Callable[..., str], results: Path) -> None:
    page()
    crate = read_json(results / "ro-crate-metadata.json")
    assert crate["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    assert all("@type" in entity for entity in entities.values())
    descriptor, root = entities["ro-crate-metadata.json"], entities["./"]
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert {"name", "description", "datePublished", "license"} <= root.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", root["datePublished"])
    parts = {part["@id"] for part in root["hasPart"]}
    assert parts == {name for name, entity in entities.items() if entity["@type"] == "File"}
    actions = [entities[link["@id"]] for link in root["mentions"]]
    assert len(actions) == 1 + 8
    for action in actions:
        assert action["@type"] == "CreateAction"
        assert entities[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"
        assert {link["@id"] for key in ("object", "result") for link in action[key]} <= parts


def test_the_crate_lists_every_file_with_its_digest_but_no_image_of_a_dataset(
    page: Callable[..., str], results: Path
) -> None:
    (results / "ledger.csv").write_text(f"{','.join(LEDGER_COLUMNS)}\n", encoding="utf-8")
    write_json(results / "attempts/a/1.json", {})
    page()
    graph = read_json(results / "ro-crate-metadata.json")["@graph"]
    files = {entity["@id"]: entity for entity in graph if entity["@type"] == "File"}
    assert {path.relative_to(results).as_posix() for path in crate_files(results)} == set(files)
    for name in (
        "report.html",
        "config.json",
        "metrics.csv",
        "runs/a/tiny/pk/s0/weights.safetensors",
        "worlds/drawn-a.json",
    ):
        assert files[name]["sha256"] == sha256(results / name)
        assert files[name]["contentSize"] == str((results / name).stat().st_size)
    assert not [name for name in files if name.endswith((".jpg", ".npy", "ledger.csv", "attempts/a/1.json"))]


def test_the_command_takes_configurations_and_writes_where_it_is_told(
    results: Path, page_values: Values, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(used(Config.parse(page_values))), encoding="utf-8")
    assert report.callback is not None
    report.callback(partial=False, job=None, results=results, configs=(path,))
    one = (results / "report.html").read_text(encoding="utf-8")
    report.callback(partial=False, job=used(Config.parse(page_values)), results=results, configs=())
    assert (results / "report.html").read_text(encoding="utf-8") == one
    assert asdict(PK)["sampler"] in one
