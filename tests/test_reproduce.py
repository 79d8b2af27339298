"""`dfgs reproduce` compares what a run leaves with what was recorded; the run itself is in tests/workflow."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfgs.cli.page import reproduce as command
from dfgs.config import Config
from dfgs.errors import DfgsError
from dfgs.grid import Grid, Trial
from dfgs.page import reproduce as module
from dfgs.page.cells import Cell
from dfgs.page.reproduce import Compared, reproduce
from dfgs.provenance import read_json, write_json
from page_results import write_scores

PK = Trial("a", "tiny", "pk", 0)
Change = Callable[[Path], None]


@pytest.fixture
def again(
    results: Path, finished_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., list[Compared]]:
    """Reproduce a cell by a run that leaves a copy of the results, with a change."""

    def compare(cell: str, change: Change = lambda found: None) -> list[Compared]:
        def run(config: Config, trials: list[Trial], recorded: Path, scratch: Path, cores: int) -> None:
            shutil.copytree(recorded, scratch / "results")
            change(scratch / "results")

        monkeypatch.setattr(module, "_run", run)
        return list(reproduce(Cell.parse(cell), finished_config, results, tmp_path / "scratch", 1))

    return compare


def test_an_equal_run_is_the_same_in_weights_curve_audit_and_value(again: Callable[..., list[Compared]]) -> None:
    found = again("main/a/b/tiny/pk/s0/mAP")
    assert [one.what for one in found] == [
        *(f"digest of the {part} of a/tiny/pk/s0" for part in ("weights", "curve", "audit")),
        "mAP of a→b:half-0/tiny/pk/s0",
        "mAP of a→b:half-1/tiny/pk/s0",
    ]
    assert all(one.is_same for one in found)
    assert str(found[0]).endswith(": same")


@pytest.mark.parametrize(
    ("cell", "things"),
    [
        ("main/a/a/tiny/pk/s1/rank1", 3 + 1),
        ("main/a/b:half-1/tiny/pk/mAP", 2 * 3 + 2),  # both seeds
        ("main/average/tiny/pk/s0/mAP", 2 * 3 + 2 * 3),  # both sources, three splits each
        ("main/ab/a/tiny/zero-shot/mAP", 1 + 1),  # the backbone's weights
    ],
)
def test_everything_behind_a_number_is_compared(again: Callable[..., list[Compared]], cell: str, things: int) -> None:
    assert len(again(cell)) == things


def _weights(results: Path) -> None:
    path = results / "runs" / PK.path / "record.json"
    write_json(path, read_json(path) | {"weights": "0" * 16})


def _audit(column: str) -> Change:
    def change(results: Path) -> None:
        path = results / "runs" / PK.path / "audit.csv"
        header, row = path.read_text(encoding="utf-8").split()
        cells = row.split(",")
        cells[header.split(",").index(column)] = "0.5"
        path.write_text(f"{header}\n{','.join(cells)}\n", encoding="utf-8")

    return change


def test_other_weights_differ(again: Callable[..., list[Compared]]) -> None:
    assert [one.what for one in again("main/a/a/tiny/pk/s0/mAP", _weights) if not one.is_same] == [
        "digest of the weights of a/tiny/pk/s0"
    ]


def test_an_audit_differs_by_what_it_found_and_not_by_its_seconds(
    again: Callable[..., list[Compared]], tmp_path: Path
) -> None:
    assert all(one.is_same for one in again("main/a/a/tiny/pk/s0/mAP", _audit("graph_seconds")))
    shutil.rmtree(tmp_path / "scratch")
    found = again("main/a/a/tiny/pk/s0/mAP", _audit("neighbour_share"))
    assert [one.what for one in found if not one.is_same] == ["digest of the audit of a/tiny/pk/s0"]


def test_another_value_is_printed_beside_the_recorded_one_and_the_status_is_1(
    again: Callable[..., list[Compared]],
    finished_config: Config,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(config: Any, trials: Any, recorded: Path, scratch: Path, cores: int) -> None:
        shutil.copytree(recorded, scratch / "results")
        write_scores(Grid(finished_config), PK, scratch / "results", np.random.default_rng(99))

    monkeypatch.setattr(module, "_run", run)
    monkeypatch.setattr(module, "config_of", lambda *given: finished_config)
    assert command.callback is not None
    with pytest.raises(SystemExit) as caught:
        command.callback("main/a→a/tiny/pk/s0/mAP", None, 1, results, ())
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    assert "mAP of a→a:test/tiny/pk/s0: recorded " in out
    assert "DIFFERENT" in out
    assert err.startswith("not reproduced: commit c0ffee123456 then, ")


def test_a_configuration_of_another_training_is_refused_and_the_key_is_named(
    page_values: dict[str, Any], results: Path, tmp_path: Path
) -> None:
    page_values["models"]["tiny"]["batch"]["size"] = 4
    with pytest.raises(DfgsError, match=r"record\.json: the recorded job has batch = .*'size': 8.* gives .*'size': 4"):
        list(reproduce(Cell.parse("main/a/a/tiny/pk/s0/mAP"), Config.parse(page_values), results, tmp_path / "s", 1))


def test_relative_paths_of_a_configuration_lead_from_where_it_ran(page_values: dict[str, Any], results: Path) -> None:
    data = {"data": None, "datasets": {"real": {"root": "mine"}, "drawn": {"root": None}}, "backbones": {}}
    moved = module._absolute(data, Path("/where"))
    assert moved["datasets"] == {"real": {"root": "/where/mine"}, "drawn": {"root": None}}
    data = {"data": "all", "datasets": {"real": {"root": "mine"}}, "backbones": {}}
    moved = module._absolute(data, Path("/where"))
    assert (moved["data"], moved["datasets"]["real"]["root"]) == ("/where/all", "mine")


def test_the_configuration_that_the_page_has_left_is_taken_unless_another_is_given(
    results: Path, finished_config: Config
) -> None:
    from dfgs.config.used import used

    assert module.config_of(results, ()).run == ("main",)
    assert "small-dfgs" in module.config_of(results, ()).models  # the default one, since no page was written
    write_json(results / "config.json", used(finished_config))
    assert set(module.config_of(results, ()).models) == {"tiny"}
