"""`dfgs verify` finds every file that is not what the others say of it, and nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfgs.cli.page import verify as command
from dfgs.config import Config
from dfgs.errors import DfgsError
from dfgs.page.verify import CHECKS, verify
from dfgs.page.write import write_page
from dfgs.provenance import read_json, write_json

RUN = "runs/a/tiny/pk/s0"
SCORES = "scores/a/tiny/pk/s0"


@pytest.fixture(scope="module")
def whole(finished_results: Path, finished_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished results with their page and crate; not to be changed."""
    results = Path(shutil.copytree(finished_results, tmp_path_factory.mktemp("verify") / "results"))
    write_page(finished_config, results, is_partial=False)
    return results


@pytest.fixture
def results(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "results"))


def faults(results: Path) -> dict[str, tuple[str, ...]]:
    return {checked.kind: checked.faults for checked in verify(results) if checked.faults}


def test_untouched_results_have_no_fault_and_every_kind_is_checked(whole: Path) -> None:
    found = {checked.kind: (checked.count, checked.faults) for checked in verify(whole)}
    assert set(found) == set(CHECKS)
    assert all(count > 0 and not wrong for count, wrong in found.values())
    assert found["weights against records"][0] == 16  # weights and prompts of 8 trainings


def _swap(file: str, other: str) -> Callable[[Path], None]:
    """Put another training's file in the place of `file`."""

    def swap(results: Path) -> None:
        shutil.copy(results / other, results / file)

    return swap


def _edit(file: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(results: Path) -> None:
        text = (results / file).read_text(encoding="utf-8")
        assert old in text
        (results / file).write_text(text.replace(old, new, 1), encoding="utf-8")

    return edit


def _truncate(pattern: str) -> Callable[[Path], None]:
    def truncate(results: Path) -> None:
        path = sorted(results.glob(pattern))[0]
        path.write_bytes(path.read_bytes()[:-1])

    return truncate


def _remove(pattern: str) -> Callable[[Path], None]:
    return lambda results: sorted(results.glob(pattern))[0].unlink()


def _nan(results: Path) -> None:
    path = sorted((results / "features/a/tiny/pk/s0").glob("*.npy"))[0]
    np.save(path, np.full_like(np.load(path), np.nan))


def _table(results: Path) -> None:
    path = results / "tables/main/mAP.csv"
    table = pd.read_csv(path)
    table.loc[0, "mean"] += 1e-6
    table.to_csv(path, index=False)


def _manifest(results: Path) -> None:
    path = results / "worlds/drawn-a.json"
    write_json(path, read_json(path) | {"digest": "0" * 16})


def _extra_image(results: Path) -> None:
    (results / "worlds/drawn-a/query/9999_c1s1_000000_00.jpg").write_bytes(b"more")


WEIGHTS, PROMPTS, FEATURES, WORLDS = list(CHECKS)[:4]
SCORED, METRICS, TABLES, CRATE = list(CHECKS)[4:]
TAMPERED: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "another training's weights": (
        _swap(f"{RUN}/weights.safetensors", "runs/a/tiny/pk/s1/weights.safetensors"),
        WEIGHTS,
        "record.json says",
    ),
    "weights removed": (_remove(f"{RUN}/weights.safetensors"), WEIGHTS, "is missing"),
    "other prompts": (
        _edit(f"{RUN}/record.json", '"prompts": "', '"prompts": "0'),
        WEIGHTS,
        "s0.safetensors: its digest is",
    ),
    "prompts cut short": (_truncate("prompts/a/tiny/s0.safetensors"), PROMPTS, "bytes long, its head says"),
    "features of another input": (
        _edit(f"{RUN}/record.json", '"normalise": "clip"', '"normalise": "half"'),
        FEATURES,
        "these features are not of",
    ),
    "a feature file removed": (_remove("features/a/tiny/pk/s0/*.npy"), FEATURES, "is missing"),
    "a feature file cut short": (_truncate("features/a/tiny/pk/s0/*.npy"), FEATURES, ".npy: "),
    "features that are no numbers": (_nan, FEATURES, "not every feature is a finite number"),
    "an image cut short": (_truncate("worlds/drawn-a/query/*.jpg"), WORLDS, "1 images are not as drawn"),
    "an image more": (_extra_image, WORLDS, "9999_c1s1_000000_00.jpg"),
    "a manifest's digest": (_manifest, WORLDS, "drawn anew"),
    "a trial's mAP": (_edit(f"{SCORES}/metrics.csv", ",mAP,", ",mAP,1"), SCORED, "its queries give"),
    "another commit": (
        _edit(f"{RUN}/record.json", '"commit": "c0ffee', '"commit": "decaf'),
        SCORED,
        "its commit is not that of",
    ),
    "another trial's scores": (
        _swap(f"{SCORES}/metrics.csv", "scores/a/tiny/random/s0/metrics.csv"),
        SCORED,
        "it holds numbers of a/tiny/random/s0",
    ),
    "an experiment's number": (
        _edit("experiments/main/metrics.csv", ",rank1,50,", ",rank1,51,"),
        METRICS,
        "1 numbers are not those of the scores",
    ),
    "the number of all": (
        _edit("metrics.csv", ",rank1,50,", ",rank1,51,"),
        METRICS,
        "it is not what the experiments' numbers make",
    ),
    "a table's mean": (_table, TABLES, "the numbers give"),
    "the page": (
        _edit("report.html", "</main>", "<p>One word more.</p></main>"),
        CRATE,
        "report.html: it is not the file",
    ),
    "a figure removed": (_remove("figures/main/*.png"), CRATE, "is missing"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_changed_is_found_and_named(results: Path, what: str) -> None:
    change, kind, words = TAMPERED[what]
    change(results)
    found = faults(results)
    assert any(words in fault for fault in found[kind]), found


def test_damaged_queries_are_a_fault(results: Path) -> None:
    path = results / SCORES / "per_query.csv.gz"
    path.write_bytes(path.read_bytes()[:40])
    assert "the rest of this kind was not checked" in faults(results)[SCORED][0]


def test_a_changed_page_alone_is_one_fault(results: Path) -> None:
    TAMPERED["the page"][0](results)
    assert {kind: len(wrong) for kind, wrong in faults(results).items()} == {CRATE: 1}


def test_a_file_that_cannot_be_read_is_a_fault_and_the_other_kinds_are_checked(results: Path) -> None:
    (results / RUN / "record.json").write_text("{", encoding="utf-8")
    found = faults(results)
    assert "cannot read" in found[WEIGHTS][0]
    assert METRICS not in found


def test_the_status_is_1_for_a_fault_and_each_is_printed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.callback is not None
    with pytest.raises(SystemExit) as caught:
        command.callback(results)
    assert caught.value.code == 0
    assert f"{WEIGHTS}: 16 checked, 0 wrong\n" in capsys.readouterr().out
    TAMPERED["the page"][0](results)
    with pytest.raises(SystemExit) as caught:
        command.callback(results)
    assert caught.value.code == 1
    out = capsys.readouterr().out
    assert f"{CRATE}: " in out
    assert "report.html: it is not the file that" in out


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DfgsError, match="no results there"):
        list(verify(tmp_path))
