"""What is planned beforehand: contrasts and printed tables in the configuration, and what jobs make of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from dfgs.config import Config
from dfgs.config.files import read_given
from dfgs.errors import DfgsError
from dfgs.grid import Grid
from test_grid import changed, jobs

Values = dict[str, Any]
CONFIGS = Path(__file__).parents[1] / "config"


def planned(values: Values, **keys: Any) -> Values:
    """The configuration with keys of its experiment replaced."""
    values["experiments"]["main"] |= keys
    return values


def refusal(values: Values) -> str:
    with pytest.raises(DfgsError) as caught:
        Config.parse(values)
    return str(caught.value).removeprefix("config: experiments.main.")


def test_a_name_is_compared_with_the_baseline_and_a_map_may_name_its_own(values: Values) -> None:
    chosen = ["random", {"sampler": "gs", "baseline": "random"}, {"sampler": "gs"}]
    config = Config.parse(planned(values, samplers=["pk", "random", "gs"], baseline="pk", contrasts=chosen))
    assert config.experiments["main"].planned == [("random", "pk"), ("gs", "random"), ("gs", "pk")]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"baseline": "pk", "contrasts": ["randon"]},
            "contrasts: no sampler of the experiment is called 'randon' (did you mean 'random'?)",
        ),
        (
            {"baseline": "pk", "contrasts": ["gs"]},
            "contrasts: no sampler of the experiment is called 'gs' (known: pk, random)",
        ),
        (
            {"contrasts": [{"sampler": "random", "baseline": "pkk"}]},
            "contrasts: no sampler of the experiment is called 'pkk' (did you mean 'pk'?)",
        ),
        (
            {"baseline": "kp", "contrasts": ["random"]},
            "baseline: no sampler of the experiment is called 'kp' (did you mean 'pk'?)",
        ),
        ({"baseline": "pk"}, "baseline is 'pk', but contrasts is empty; list samplers"),
        ({"contrasts": ["random"]}, "contrasts: 'random' has no baseline; give the experiment a baseline"),
        (
            {"baseline": "pk", "contrasts": ["pk"]},
            "contrasts: 'pk' against itself; name another sampler or baseline",
        ),
        (
            {"baseline": "pk", "contrasts": ["random", {"sampler": "pk", "baseline": "random"}]},
            "contrasts: 'pk' against 'random' is planned twice; list it once",
        ),
        ({"margin": 0}, "margin is 0: Input should be greater than 0"),
    ],
)
def test_a_contrast_that_cannot_be_judged_is_refused_at_once(values: Values, keys: Values, expected: str) -> None:
    assert refusal(planned(values, **keys)) == expected


def test_a_plan_is_in_no_job_but_the_verdicts(values: Values) -> None:
    before, report = jobs(values), json.dumps(Grid(Config.parse(values)).report_job("main"))
    planned(values, baseline="pk", contrasts=["random"], margin=1.0)
    grid = Grid(Config.parse(values))
    assert changed(before, jobs(values)) == set()
    assert json.dumps(grid.report_job("main")) == report
    job = grid.verdict_job("main")
    assert (job["contrasts"], job["margin"], job["sources"], job["seeds"]) == (
        [["random", "pk"]],
        1.0,
        ["a", "ab"],
        [0, 1],
    )
    assert job["drawn"] is True


def test_what_a_grid_can_decide_is_said_before_it_runs(values: Values) -> None:
    grid = Grid(Config.parse(values))
    assert (grid.has_contrasts("main"), grid.resolvable("main")) == (
        False,
        ("no contrasts are planned: tables and figures, but no verdict",),
    )
    values["models"]["other"] = values["models"]["tiny"]
    grid = Grid(Config.parse(planned(values, models=["tiny", "other"], baseline="pk", contrasts=["random"])))
    assert "4 pairs of trainings (2 sources × 2 seeds), 2 planned contrasts" in grid.resolvable("main")[0]


def test_the_default_grid_cannot_decide_its_contrasts_and_the_ready_one_can() -> None:
    default = Grid(read_given([], on_disk=False))
    ready = Grid(read_given([CONFIGS / "verdict.yaml"], on_disk=False))
    assert default.resolvable("main")[1].startswith("cannot call anything better or worse")
    assert ready.resolvable("verdict")[1].startswith("finds with 80 % power")
    assert set(default.trials("main")) < set(ready.trials("verdict"))
    assert ready.verdict_job("verdict")["contrasts"] == default.verdict_job("main")["contrasts"]
    for trial in default.trials("main"):
        assert default.finetune_job(trial) == ready.finetune_job(trial)


@pytest.mark.parametrize("name", ["ablation", "released"])
def test_ready_grids_at_the_drawn_scale_share_what_they_can_with_the_default(name: str) -> None:
    default = Grid(read_given([], on_disk=False))
    ready = Grid(read_given([CONFIGS / f"{name}.yaml"], on_disk=False))
    shared = set(default.all_trials()) & set(ready.all_trials())
    assert {trial.sampler for trial in shared} >= {"pk", "gs", "dfgs-image", "dfgs-text"}
    assert all(default.finetune_job(trial) == ready.finetune_job(trial) for trial in shared)


def test_a_printed_cell_needs_one_source_that_its_target_is_new_to(values: Values) -> None:
    repeats = {"experiment": "protocol-1", "methods": {"pk": "clip-reid"}}
    planned(values, sources=["a"], targets=["b", "c"], published=repeats)
    job = Grid(Config.parse(values)).published_job("main")
    assert job["cells"] == [
        {"source": "a", "target": "b", "dataset": "drawn-b"},
        {"source": "a", "target": "c", "dataset": "drawn-c"},
    ]
    planned(values, targets=["a", "b"])
    assert refusal(values) == "published: target 'a' is new to 0 sources (none); a printed cell needs one"
    planned(values, sources=["a", "ab"], targets=["c"])
    assert refusal(values) == "published: target 'c' is new to 2 sources (a, ab); a printed cell needs one"
    planned(values, sources=["a"], published=repeats | {"methods": {"kp": "x"}})
    assert refusal(values).startswith("published.methods: no sampler of the experiment is called 'kp' (did you mean")
    values["models"]["other"] = values["models"]["tiny"]
    planned(values, models=["tiny", "other"], published=repeats)
    assert refusal(values) == "published: 2 models; a printed table has one, split them"
