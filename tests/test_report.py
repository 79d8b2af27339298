"""From metrics and training curves to tables and figures of one experiment."""

import itertools
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dfgs import report
from dfgs.audit.record import COLUMNS
from dfgs.config import Config
from dfgs.errors import DfgsError
from dfgs.figures import REGISTRY as FIGURES
from dfgs.figures.base import FigureData
from dfgs.grid import Grid
from dfgs.provenance import read_json, write_json
from dfgs.report import (
    TableInputs,
    write_audit_table,
    write_backbone_table,
    write_figure,
    write_table,
    write_verdict_tables,
)
from dfgs.results import merge, write_metrics
from dfgs.stats.summary import read_verdict

Values = dict[str, Any]


@pytest.fixture
def job(values: Values) -> dict[str, Any]:
    """The report job of the tiny grid with a DFGS setting in it."""
    values["experiments"]["main"] |= {"samplers": ["pk", "random", "dfgs-k3"], "contrasts": ["random", "dfgs-k3"]}
    values["experiments"]["main"]["baseline"] = "pk"
    found: dict[str, Any] = Grid(Config.parse(values)).figure_job("main")
    return found


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    """Metrics of every cell of that grid."""
    rng = np.random.default_rng(0)
    base = {
        "experiment": "main",
        "split": "test",
        "model": "tiny",
        "protocol": "0" * 16,
        "commit": "c",
        "versions": "v",
    }
    cells = list(itertools.product(("a", "ab"), ("a", "b"), ("pk", "random", "dfgs-k3"), (0, 1)))
    cells += list(itertools.product(("a",), ("a", "b"), ("zero-shot",), (0,)))
    rows = [
        base | {"source": s, "target": t, "sampler": n, "seed": i, "metric": metric, "value": rng.uniform(20, 60)}
        for s, t, n, i in cells
        for metric in ("mAP", "rank1", "rank2", *(["chance_mAP"] if n == "zero-shot" else []))
    ]
    write_metrics(rows, tmp_path / "metrics.csv")
    return tmp_path / "metrics.csv"


@pytest.fixture
def curves(tmp_path: Path) -> tuple[Path, ...]:
    """Two runs whose folders say nothing of what they are."""
    paths = []
    for number, sampler in enumerate(("pk", "dfgs-k3")):
        folder = tmp_path / f"run{number}"
        trial = {"source": "a", "model": "tiny", "sampler": sampler, "seed": number}
        write_json(folder / "record.json", {"trial": trial, **cost(number)} | noted_batches(tmp_path))
        frame = pd.DataFrame({"epoch": [1, 2], "loss": [3.0 + number, 2.0], "hardest_negative": [0.9, None]})
        frame = frame.assign(identities_served=[5, 10], images_served=[20, 40])
        frame.to_csv(folder / "curve.csv", index=False)
        paths.append(folder / "curve.csv")
        audit_rows(sampler, number).to_csv(folder / "audit.csv", index=False)
    return tuple(paths)


def cost(number: int) -> dict[str, Any]:
    """What a record says of time and size."""
    times = {"epoch_seconds": [3.0, 1.0], "sampler_seconds": [0.5, 0.5 * number], "seconds": 9.0}
    return {**times, "identities": 10, "images": 40}


def noted_batches(folder: Path) -> dict[str, Any]:
    """What a record says of its batches: two images of the first and the last epoch, of a drawn world in `folder`."""
    root = folder / "results" / "worlds" / "drawn-a"
    names = [f"bounding_box_train/000{pid}_c1s1_000000_00.jpg" for pid in (1, 2)]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 64), "red").save(root / name)
    batch = {"images": [f"drawn-a/{name}" for name in names], "pids": [1, 2]}
    source = {"datasets": [{"name": "drawn-a", "layout": "market1501", "root": str(root), "options": {}}]}
    return {"job": {"source": source}, "batches": {"1": batch, "2": batch}}


def audit_rows(sampler: str, number: int) -> pd.DataFrame:
    """Audits of the first and the last epoch; DFGS's graph is at chance in the last."""
    rows = pd.DataFrame([dict.fromkeys(COLUMNS, 0.25 + number)] * 2)
    rows["epoch"], rows["by_design"], rows["memory_mb"] = [1, 2], 0, None
    if sampler == "pk":
        rows["graph_fidelity"] = rows["graph_chance"] = None
    return rows.assign(at_chance=[0, number])


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[FigureData]:
    """What figures are asked to draw from now on."""
    seen: list[FigureData] = []

    class Picture:
        def applies(self, data: FigureData) -> bool:
            seen.append(data)
            return True

        def draw(self, data: FigureData) -> matplotlib.figure.Figure:
            return matplotlib.figure.Figure()

    monkeypatch.setattr(report.FIGURES, "load", lambda _: Picture)
    return seen


def test_a_table_shows_the_samplers_in_the_order_of_the_experiment(
    job: dict[str, Any], metrics: Path, tmp_path: Path
) -> None:
    write_table(job, "mAP", TableInputs(metrics), tmp_path / "t" / "mAP")
    text = (tmp_path / "t" / "mAP.md").read_text()
    places = [text.index(f"\n| {name}") for name in ("pk", "random", "dfgs-k3", "*zero-shot*")]
    assert places == sorted(places)
    assert "a→a (within)" in text
    assert "ab→b (within)" in text
    assert "a→b |" in text
    assert {path.suffix for path in (tmp_path / "t").iterdir()} == {".md", ".csv", ".tex", ".html"}


def test_the_backbone_table_shows_chance(metrics: Path, tmp_path: Path) -> None:
    write_backbone_table(metrics, tmp_path / "backbone")
    assert "chance" in (tmp_path / "backbone.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in FIGURES.names()
        if name not in ("settings", "critical-difference", "seed-spread", "seeds-needed")
    ],
)
def test_every_figure_is_written_as_png_pdf_and_svg(
    job: dict[str, Any], metrics: Path, curves: tuple[Path, ...], tmp_path: Path, name: str
) -> None:
    write_figure(job, name, metrics, curves, tmp_path / name)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert b"<svg" in (tmp_path / f"{name}.svg").read_bytes()[:500]


def test_a_figure_with_nothing_to_show_is_refused_by_name(job: dict[str, Any], metrics: Path, tmp_path: Path) -> None:
    for name in ("training-curves", "audit", "settings", "hardness", "cost-gain", "batches"):
        with pytest.raises(DfgsError, match=f"figure '{name}' has nothing to show in experiment 'main'; leave it out"):
            write_figure(job, name, metrics, (), tmp_path / name)
    assert not list(tmp_path.glob("settings*"))


def test_a_figure_gets_curves_with_the_identity_of_their_records(
    job: dict[str, Any], metrics: Path, curves: tuple[Path, ...], tmp_path: Path, shown: list[FigureData]
) -> None:
    write_figure(job, "training-curves", metrics, curves, tmp_path / "f")
    frame = shown[0].curves
    assert frame[["source", "model", "sampler", "seed", "epoch"]].to_numpy().tolist() == [
        ["a", "tiny", "pk", 0, 1],
        ["a", "tiny", "pk", 0, 2],
        ["a", "tiny", "dfgs-k3", 1, 1],
        ["a", "tiny", "dfgs-k3", 1, 2],
    ]
    assert frame["loss"].tolist() == [3.0, 2.0, 4.0, 2.0]


def test_a_figure_gets_the_plan_and_what_the_records_say_of_costs_and_batches(
    job: dict[str, Any], metrics: Path, curves: tuple[Path, ...], tmp_path: Path, shown: list[FigureData]
) -> None:
    write_figure(job | {"margin": 0.7}, "forest", metrics, curves, tmp_path / "f")
    (data,) = shown
    assert data.contrasts == (("random", "pk"), ("dfgs-k3", "pk"))
    assert data.margin == 0.7
    assert data.costs[["sampler", "seconds", "sampler_share", "identities", "images"]].to_numpy().tolist() == [
        ["pk", 9.0, 0.125, 10, 40],
        ["dfgs-k3", 9.0, 0.25, 10, 40],
    ]
    assert data.batches[["sampler", "epoch", "pid"]].to_numpy().tolist() == [
        [name, epoch, pid] for name in ("pk", "dfgs-k3") for epoch in (1, 2) for pid in (1, 2)
    ]
    assert all(path.is_file() for path in data.batches["path"])
    assert data.batches["is_drawn"].all()


def test_batches_of_real_people_are_kept_from_figures_unless_they_are_allowed(
    job: dict[str, Any], metrics: Path, curves: tuple[Path, ...], tmp_path: Path, shown: list[FigureData]
) -> None:
    (tmp_path / "results" / "worlds").rename(tmp_path / "results" / "real")
    for path in curves:
        record = read_json(path.with_name("record.json"))
        record["job"]["source"]["datasets"][0]["root"] = str(tmp_path / "results" / "real" / "drawn-a")
        write_json(path.with_name("record.json"), record)
    write_figure(job, "batches", metrics, curves, tmp_path / "f")
    write_figure(job | {"real_people": True}, "batches", metrics, curves, tmp_path / "f")
    assert shown[0].batches.empty
    assert len(shown[1].batches) == 8
    assert not shown[1].batches["is_drawn"].any()


def test_a_figure_gets_every_argument_of_a_sampler_with_its_defaults(
    job: dict[str, Any], metrics: Path, tmp_path: Path, shown: list[FigureData]
) -> None:
    write_figure(job, "settings", metrics, (), tmp_path / "f")
    data = shown[0]
    assert data.samplers == ("pk", "random", "dfgs-k3")
    assert data.settings["pk"] == {"class": "pk", "args": {"features": "fresh"}}
    expected = {"graph": "image", "neighbours": 3, "skip": 1, "order": "shuffled", "representation": "one"}
    assert data.settings["dfgs-k3"] == {
        "class": "dfgs",
        "args": {"features": "fresh", **expected, "restart": True, "exact_below": 150_000},
    }
    assert data.within == {("a", "a"), ("ab", "a"), ("ab", "b")}
    assert data.experiment == "main"


def test_settings_with_other_features_are_told_apart(
    job: dict[str, Any], metrics: Path, tmp_path: Path, shown: list[FigureData]
) -> None:
    job["settings"]["dfgs-k3"]["features"] = "bank"
    write_figure(job, "settings", metrics, (), tmp_path / "f")
    assert shown[0].settings["dfgs-k3"]["args"]["features"] == "bank"


def test_the_audit_table_has_a_row_per_sampler_and_epoch_and_marks_graphs_at_chance(
    job: dict[str, Any], curves: tuple[Path, ...], tmp_path: Path
) -> None:
    trial = {"source": "a", "model": "tiny", "sampler": "pk", "seed": 5}
    write_json(curves[0].with_name("record.json"), {"trial": trial})
    audits = tuple(path.with_name("audit.csv") for path in curves)
    write_audit_table(job, audits[::-1], tmp_path / "t" / "audit")
    lines = [line for line in (tmp_path / "t" / "audit.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:2] for row in cells[2:]] == [["pk", "1"], ["pk", "2"], ["dfgs-k3", "1"], ["dfgs-k3", "2"]]
    place = cells[0].index("true edges (%)")
    assert [row[place] for row in cells[2:]] == ["–", "–", "125.0", "125.0 at chance"]
    assert "memory (MB)" not in cells[0]  # nobody measured it
    assert {path.suffix for path in (tmp_path / "t").iterdir()} == {".md", ".csv", ".tex", ".html"}
    numbers = pd.read_csv(tmp_path / "t" / "audit.csv")
    assert numbers[["source", "model", "sampler", "seed", "epoch"]].to_numpy().tolist() == [
        ["a", "tiny", "pk", 5, 1],
        ["a", "tiny", "pk", 5, 2],
        ["a", "tiny", "dfgs-k3", 1, 1],
        ["a", "tiny", "dfgs-k3", 1, 2],
    ]


def test_the_cells_of_an_audit_table_are_means_over_sources_and_seeds(
    job: dict[str, Any], curves: tuple[Path, ...], tmp_path: Path
) -> None:
    for path in curves:
        write_json(path.with_name("record.json"), {"trial": {"source": "a", "model": "m", "sampler": "pk", "seed": 0}})
    audits = tuple(path.with_name("audit.csv") for path in curves)
    write_audit_table(job, audits, tmp_path / "audit")
    text = (tmp_path / "audit.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| pk")]
    assert len(lines) == 2
    assert "0.750 |" in lines[0]  # between 0.25 and 1.25
    assert "at chance in 1 of 2" in lines[1]


def test_runs_without_audits_have_no_audit_table(job: dict[str, Any], curves: tuple[Path, ...], tmp_path: Path) -> None:
    audits = tuple(path.with_name("audit.csv") for path in curves)
    for path in audits:
        path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(DfgsError, match=r"no audit in .*audit\.csv and 1 others; set audit: true"):
        write_audit_table(job, audits, tmp_path / "audit")


def test_an_unknown_figure_and_missing_metrics_are_named(job: dict[str, Any], metrics: Path, tmp_path: Path) -> None:
    with pytest.raises(DfgsError, match="no figure is called 'comparson'"):
        write_figure(job, "comparson", metrics, (), tmp_path / "f")
    with pytest.raises(DfgsError, match=r"missing\.csv"):
        write_table(job, "mAP", TableInputs(tmp_path / "missing.csv"), tmp_path / "t")


def test_the_verdict_and_its_tables_are_written_and_marked_in_the_comparison(
    values: Values, metrics: Path, tmp_path: Path
) -> None:
    experiment = values["experiments"]["main"]
    experiment |= {"samplers": ["pk", "random", "dfgs-k3"], "baseline": "pk", "contrasts": ["random", "dfgs-k3"]}
    grid = Grid(Config.parse(values))
    write_verdict_tables(grid.verdict_job("main"), metrics, tmp_path / "verdict.json", tmp_path / "t")
    found = read_verdict(tmp_path / "verdict.json")
    assert [(c.sampler, c.baseline) for c in found.contrasts] == [("random", "pk"), ("dfgs-k3", "pk")]
    names = {f"{table}.{kind}" for table in ("verdict", "blocks") for kind in ("md", "csv", "tex", "html")}
    assert {path.name for path in (tmp_path / "t").iterdir()} == names
    record = {"trial": {"source": "a", "model": "tiny", "sampler": "pk", "seed": 0}, "seconds": 3600.0}
    record |= {"audit_seconds": 0.0, "epoch_seconds": [8.0], "sampler_seconds": [2.0], "device": "cpu"}
    write_json(tmp_path / "record.json", record)
    inputs = TableInputs(metrics, tmp_path / "verdict.json", (tmp_path / "record.json",))
    write_table(grid.report_job("main"), "mAP", inputs, tmp_path / "mAP")
    text = (tmp_path / "mAP.md").read_text()
    assert f"- Verdict: {found.sentences[0]}" in text
    assert "CPU hours | sampler (%) |" in text
    assert "| 25.0 |" in text.replace("    ", " ").replace("  ", " ").replace("  ", " ")


def test_a_cell_with_two_numbers_stops_the_collection_and_names_both_files(metrics: Path, tmp_path: Path) -> None:
    text = metrics.read_text()
    line = next(line for line in text.splitlines() if ",pk,0,mAP," in line)
    (tmp_path / "other.csv").write_text(text.splitlines()[0] + "\n" + line.replace(line.split(",")[8], "12.5") + "\n")
    with pytest.raises(
        DfgsError, match=r"one cell, two numbers: .* sampler pk.* is .* in .*csv and .* in .*csv"
    ) as found:
        merge([metrics, tmp_path / "other.csv"])
    assert all(str(path) in str(found.value) for path in (metrics, tmp_path / "other.csv"))
