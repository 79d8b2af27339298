"""A user's mistake in the configuration: one line, status 2, before any job."""

import shutil
from pathlib import Path

import pytest

from conftest import CHECKOUT, Copy


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    copy = Copy.of(CHECKOUT, tmp_path_factory.mktemp("fresh"))
    for left in ("results", ".snakemake"):
        shutil.rmtree(copy.root / left, ignore_errors=True)
    return copy


MISTAKES = {
    "samplers: [pk, dfsg-k3]": "no sampler is called 'dfsg-k3' (did you mean 'dfgs-k3'?)",
    "metrics: [mPA]": "no metric is called 'mPA' (did you mean 'mAP'?)",
    "targets: [tiny-c]": "no target is called 'tiny-c'",
    "seed: [0]": "unknown key 'experiments.smoke.seed' (did you mean 'seeds'?)",
    "figures: [comparisn]": "no figure is called 'comparisn' (did you mean 'comparison'?)",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_wrong_name_ends_in_one_line_with_status_2(fresh: Copy, tmp_path: Path, line: str) -> None:
    key = line.split(":")[0].rstrip("s")
    text = (fresh.root / "config/smoke.yaml").read_text(encoding="utf-8")
    head, tail = text.split("\nsources:", 1)
    kept = [old if not old.strip().startswith(key) else f"    {line}" for old in head.splitlines()]
    config = tmp_path / "wrong.yaml"
    config.write_text("\n".join(kept) + "\nsources:" + tail, encoding="utf-8")
    _check(fresh, config, MISTAKES[line])


def test_a_batch_size_that_is_no_multiple_of_k_names_both_numbers(fresh: Copy, tmp_path: Path) -> None:
    config = _edited(fresh, tmp_path, "size: 32", "size: 30")
    _check(fresh, config, "batch size 30 is not a multiple of instances (K) 4")


def test_an_unknown_argument_of_a_sampler_is_named_before_any_job(fresh: Copy, tmp_path: Path) -> None:
    config = _edited(fresh, tmp_path, "neighbours: 3", "neighbors: 3")
    _check(fresh, config, "class dfgs has no argument 'neighbors' (did you mean 'neighbours'?)")


def test_a_missing_dataset_folder_is_named(fresh: Copy, tmp_path: Path) -> None:
    text = (fresh.root / "config/smoke.yaml").read_text(encoding="utf-8")
    text = text.replace("  tiny-a: [drawn-tiny-a]", "  tiny-a: [market1501]").replace(", batches]", "]")
    config = tmp_path / "wrong.yaml"
    config.write_text(text, encoding="utf-8")
    _check(fresh, config, "datasets.market1501.root: Market-1501-v15.09.15 is not a folder")
    gone = text.replace("datasets:\n", "datasets:\n  market1501: {root: /nowhere/Market}\n", 1)
    config.write_text(gone, encoding="utf-8")
    _check(fresh, config, "datasets.market1501.root: /nowhere/Market is not a folder")


def test_p_larger_than_the_number_of_identities_stops_the_training_in_one_line(copy: Copy) -> None:
    copy.edit("config/smoke.yaml", "size: 32, instances: 4", "size: 128, instances: 2")
    run = copy.snakemake("--until", "learn_prompts")
    assert run.code == 1
    message = "error: batch_size=128 with instances=2 needs 64 identities, the training set has "
    assert message in run.text, run.text


def test_a_results_folder_that_cannot_be_written_is_named(fresh: Copy, tmp_path: Path) -> None:
    blocked = Copy.of(fresh.root, tmp_path / "blocked")
    (blocked.root / "results").mkdir(exist_ok=True)
    (blocked.root / "results" / "worlds").write_text("a file, not a folder")
    run = blocked.snakemake("--until", "draw")
    assert run.code != 0
    assert "results/worlds" in run.text


def _edited(fresh: Copy, tmp_path: Path, old: str, new: str) -> Path:
    text = (fresh.root / "config/smoke.yaml").read_text(encoding="utf-8")
    assert old in text
    config = tmp_path / "wrong.yaml"
    config.write_text(text.replace(old, new), encoding="utf-8")
    return config


def _check(fresh: Copy, config: Path, message: str) -> None:
    run = fresh.snakemake(config=str(config))
    errors = [line for line in run.text.splitlines() if line.startswith("error:")]
    assert run.code == 2, run.text
    assert len(errors) == 1, run.text
    assert message in errors[0]
    assert "Traceback" not in run.text
    assert not (fresh.root / "results").exists()
