"""The paper's protocols as ready configurations: what their headers promise is what the grid holds."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

import dataset_trees as trees
from dfgs.config import Config
from dfgs.datasets import _files, open_dataset
from dfgs.grid import Grid
from test_config import CONFIGS, merged

READY = ["protocol-1", "protocol-2", "protocol-3", "single-source", "paper-ablation"]
LISTED = {
    "Market-1501-v15.09.15": trees.market1501,
    "CUHK02": trees.cuhk02,
    "cuhk03": trees.cuhk03_np,
    "CUHK-SYSU": trees.cuhk_sysu,
    "prid_2011": trees.prid2011,
    "underground_reid": trees.grid_images,
    "VIPeR": trees.viper,
    "i-LIDS_Pedestrian": trees.ilids,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with every dataset: their folders, lists and split files; names are pretended, no image is made."""
    root = tmp_path_factory.mktemp("data")
    names: dict[Path, list[str]] = {}
    for folder, tree in LISTED.items():
        for part, own in tree().items():
            (root / folder / part).mkdir(parents=True)
            names[root / folder / part] = sorted(own)
    trees.grid_partitions(root / "underground_reid")
    trees.msmt17(root / "MSMT17_V1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files, "listed", lambda folder: names.get(folder, []))
        yield root


def ready(name: str, data: Path) -> Config:
    """A ready configuration over the default one, with the datasets in `data`."""
    parts = [yaml.safe_load((CONFIGS / f"{file}.yaml").read_text(encoding="utf-8")) for file in ("config", name)]
    return Config.parse(merged(merged(*parts), {"data": str(data)}))


@cache
def counts(part: str, view: str, split: str = "") -> tuple[int, int]:
    """Images and identities of a view; `part` is the dataset's entry in a job, as JSON."""
    method = getattr(open_dataset(json.loads(part)), view)
    images = method(split) if split else method()
    return len(images), len(np.unique(images.pids))


def source_lines(grid: Grid) -> Iterator[str]:
    sources = {trial.source: grid.finetune_job(trial)["source"] for trial in grid.all_trials()}
    for name, job in sorted(sources.items()):
        parts = [counts(json.dumps(part), job.get("view", "train")) for part in job["datasets"]]
        images, identities = (sum(column) for column in zip(*parts, strict=True))
        yield f"# Source {name}: {images:,} images, {identities:,} identities."


def target_lines(grid: Grid) -> Iterator[str]:
    jobs = (target for trial in grid.all_trials() for target in grid.score_job(trial)["targets"])
    for name, target in sorted({job["name"]: job for job in jobs}.items()):
        part, splits = json.dumps(target["dataset"]), target["splits"]
        ((query, gallery),) = {tuple(counts(part, v, s)[0] for v in ("query", "gallery")) for s in splits}
        noun = "split" if len(splits) == 1 else "splits"
        yield f"# Target {name}: {len(splits)} {noun} of {query:,} queries and {gallery:,} gallery images."


def jobs_line(grid: Grid) -> str:
    trials = grid.all_trials()
    prompts = {(trial.source, trial.model, trial.seed) for trial in trials}
    scored = {*trials, *(reference for name in grid.config.run for reference in grid.references(name))}
    return f"# Jobs: {len(prompts)} prompts, {len(trials)} fine-tunings, {len(scored)} models embedded and scored."


@pytest.mark.parametrize("name", READY)
def test_a_header_names_the_jobs_images_and_identities_of_its_grid(name: str, data: Path) -> None:
    grid = Grid(ready(name, data))
    header = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").split("\nrun:")[0].splitlines()
    found = [line for line in header if re.match("# (Source|Target|Jobs)", line)]
    assert sorted(found) == sorted([*source_lines(grid), *target_lines(grid), jobs_line(grid)])


@pytest.mark.parametrize("name", ["protocol-3", "single-source"])
def test_nobody_is_scored_on_images_that_he_was_trained_on(name: str, data: Path) -> None:
    grid = Grid(ready(name, data))
    for trial in grid.all_trials():
        trained = {part["root"] for part in grid.finetune_job(trial)["source"]["datasets"]}
        tested = {target["dataset"]["root"] for target in grid.score_job(trial)["targets"]}
        assert tested
        assert not trained & tested


def test_the_papers_table_of_protocol_2_is_the_average_over_the_left_out_datasets(data: Path) -> None:
    grid = Grid(ready("protocol-2", data))
    e = grid.config.experiments["protocol-2"]
    cross = {(s, t) for s in e.sources for t in e.targets} - set(grid.within("protocol-2"))
    assert cross == {(f"all-but-{t}", t) for t in ("cuhk03", "msmt17", "market1501")}


def test_the_ablation_shares_its_runs_with_protocol_1(data: Path) -> None:
    one, other = Grid(ready("protocol-1", data)), Grid(ready("paper-ablation", data))
    shared = set(one.all_trials()) & set(other.all_trials())
    assert {trial.sampler for trial in shared} == {"pk", "gs", "dfgs-image", "dfgs-text"}
    for trial in sorted(shared):
        assert one.finetune_job(trial) == other.finetune_job(trial)
        assert one.prompts_job(trial.source, trial.model, trial.seed) == other.prompts_job(
            trial.source, trial.model, trial.seed
        )


@pytest.mark.parametrize("name", READY)
def test_every_ready_configuration_of_the_paper_is_in_the_readme(name: str) -> None:
    assert f"`{name}.yaml`" in (CONFIGS / "README.md").read_text(encoding="utf-8")
