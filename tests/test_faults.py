"""A short version of `benchmarks/faults.py files`: crashes, full disks, two launches at once, strays."""

import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def files() -> Any:
    """The campaign's module, which lies outside the package."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import faults_files
    finally:
        sys.path.remove(str(BENCHMARKS))
    return faults_files


LIGHT = ("text", "per query", "features", "weights", "pack", "table", "drawn world")


def test_a_crash_at_any_call_leaves_the_earlier_or_the_new_artefact_whole(
    files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WRITERS", [writer for writer in files.WRITERS if writer.name in LIGHT])
    tally = files.Tally({"partial reads": 0})
    files.crashes(42, tally)
    assert tally.faults == []
    assert tally.counts["partial reads"] == 0
    assert tally.counts["crashes"] >= 42
    assert tally.counts["reads while writing"] > tally.counts["crashes"]


def test_a_full_disk_is_told_with_path_and_need_and_spares_the_earlier_artefact(files: Any) -> None:
    tally = files.Tally()
    files.full_disks(tally, levels=(0.6,))
    assert tally.faults == []
    assert tally.counts["full disks"] == len(files.WRITERS)


def test_a_job_that_crashes_at_any_call_of_its_lease_is_taken_over_at_once(files: Any) -> None:
    tally = files.Tally()
    files.lease_crashes(tally)
    assert tally.faults == []
    assert tally.counts["crashes of a lease"] > 20


def test_of_two_launches_at_once_one_computes_and_the_other_waits_or_leaves(files: Any) -> None:
    tally = files.Tally()
    files.launches(4, tally)
    assert tally.faults == []
    assert tally.counts["published once"] == 4


def test_a_holder_that_slept_through_its_lease_publishes_nothing(files: Any) -> None:
    tally = files.Tally({"strays that published": 0})
    files.strays(2, tally)
    files.strays_in_the_window(2, tally)
    assert tally.faults == []
    assert tally.counts["strays that published"] == 0


def test_the_campaign_sees_a_writer_that_is_not_whole(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(folder: Path, version: int) -> None:
        (folder / "curve.csv").write_text(f"{version}," * 20_000)

    monkeypatch.setattr(files, "WRITERS", [files.Writer("careless", ("curve.csv",), careless)])
    tally = files.Tally()
    files.crashes(8, tally)
    assert tally.counts["partial reads"] > 0
    files.full_disks(full := files.Tally(), levels=(0.3,))
    assert full.faults
