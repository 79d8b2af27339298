"""Write the page, the configuration that it is about, and the crate that lists the files behind it."""

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from dfgs.config import Config
from dfgs.config.used import used
from dfgs.grid import Grid
from dfgs.page.contents import gather
from dfgs.page.crate import write_crate
from dfgs.page.shown import Page
from dfgs.provenance import write_json, write_text

PAGE, CONFIG = "report.html", "config.json"


def write_page(config: Config, results: Path, *, is_partial: bool) -> Path:
    """Write `report.html`, `config.json` and `ro-crate-metadata.json` into `results`; return the page's path.

    The page is one file that needs no other and no network. Raises `DfgsError` as `contents.gather` does, before
    anything is written.
    """
    text = render(gather(Grid(config), results, is_partial=is_partial))
    write_json(results / CONFIG, used(config))
    write_text(results / PAGE, text)
    write_crate(config, results)
    return results / PAGE


def render(page: Page) -> str:
    """Return the page as HTML; every text in it is escaped."""
    environment = Environment(
        loader=PackageLoader("dfgs.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates = files("dfgs.page") / "templates"
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    return environment.get_template("report.html").render(page=page, style=style, script=script)
