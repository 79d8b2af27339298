"""The ledger of attempts, its audit against the grid, the plan before a grid runs and the status while it does."""

import csv
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from dfgs.cli import cli
from dfgs.config import Config
from dfgs.config.files import read_given
from dfgs.errors import BadDataError, DfgsError
from dfgs.grid import Grid
from dfgs.provenance import write_text
from dfgs.runs import plan as plan_module
from dfgs.runs import status
from dfgs.runs.attempts import alike, attempt, read_attempt
from dfgs.runs.cells import OUTPUTS, RULES, Cell, cells_of
from dfgs.runs.lease import Terms, read_record
from dfgs.runs.ledger import COLUMNS, attempts_of, audit, read_attempts, write_ledger
from dfgs.runs.rates import SHIPPED, Rates

CHECKOUT = Path(__file__).parents[1]
TERMS = Terms(seconds=5, wait=0)


@pytest.fixture
def grid(values: dict[str, Any]) -> Grid:
    """The tiny grid: two sources, two samplers, two seeds."""
    return Grid(Config.parse(values))


def make(cell: Cell, results: Path, error: Exception | None = None) -> None:
    """Run an attempt at a cell that makes empty files, or ends with `error`."""
    outputs = cell.outputs(results)
    try:
        with attempt(cell.rule, cell.job, outputs, TERMS):
            if error is not None:
                raise error
            for path in outputs:
                write_text(path, "")
    except BadDataError:
        pass


def one(cells: list[Cell], rule: str) -> Cell:
    return next(cell for cell in cells if cell.rule == rule)


def test_the_cells_are_the_jobs_of_the_workflow(grid: Grid) -> None:
    cells = cells_of(grid)
    counts = {rule: sum(cell.rule == rule for cell in cells) for rule in RULES}
    assert counts == {"draw": 2, "pretrain": 1, "learn_prompts": 4, "finetune": 8, "embed": 9, "score": 9}
    needs = {cell.key: cell.needs for cell in cells}
    assert needs["learn_prompts", "ab/tiny/s1"] == (("draw", "drawn-a"), ("draw", "drawn-b"), ("pretrain", "small"))
    assert needs["finetune", "a/tiny/pk/s1"] == (("learn_prompts", "a/tiny/s1"),)
    assert ("finetune", "a/tiny/pk/s1") in needs["embed", "a/tiny/pk/s1"]
    assert all(rule != "finetune" for rule, _ in needs["embed", "a/tiny/zero-shot/s0"])
    assert needs["score", "a/tiny/pk/s1"] == (("embed", "a/tiny/pk/s1"),)
    keys = [cell.key for cell in cells]
    assert len(set(keys)) == len(keys)
    for number, cell in enumerate(cells):
        assert {keys.index(need) for need in cell.needs} <= set(range(number))


def test_the_outputs_are_those_that_the_rules_declare() -> None:
    text = "".join(path.read_text() for path in sorted((CHECKOUT / "workflow" / "rules").glob("*.smk")))
    declared = set(re.findall(r'"results/((?:worlds|backbones|prompts|runs|features|scores)/[^"]*)"', text))
    trial = "{source}/{model}/{sampler}/s{seed}"
    cell = {"draw": "{dataset}", "pretrain": "{backbone}", "learn_prompts": "{source}/{model}/s{seed}"}
    ours = {path.format(cell=cell.get(rule, trial)) for rule, paths in OUTPUTS.items() for path in paths}
    assert ours <= declared
    assert declared - ours == {f"features/{trial}/dropped.txt", "worlds/{dataset}"}


def test_every_attempt_is_a_row_and_the_grid_adds_up(grid: Grid, tmp_path: Path) -> None:
    results, cells = tmp_path / "results", cells_of(grid)
    draw, pretrain, prompts = one(cells, "draw"), one(cells, "pretrain"), one(cells, "learn_prompts")
    make(draw, results)
    make(pretrain, results, BadDataError("image x is cut"))
    make(prompts, results, BadDataError("image y is cut"))
    make(prompts, results)
    found = audit(cells, results, TERMS)
    assert found.line == "33 planned = 2 done + 1 failed + 0 running + 30 to do"
    assert found.reasons == {pretrain.key: "bad data: image x is cut"}
    assert found.faults == []
    write_ledger(read_attempts(results, TERMS), results / "ledger.csv")
    rows = list(csv.DictReader((results / "ledger.csv").open(newline="")))
    assert tuple(rows[0]) == COLUMNS
    told = {(row["stage"], row["cell"], row["attempt"], row["outcome"]) for row in rows}
    assert told == {
        ("draw", draw.name, "1", "completed"),
        ("pretrain", "small", "1", "bad data"),
        ("learn_prompts", prompts.name, "1", "bad data"),
        ("learn_prompts", prompts.name, "2", "completed"),
    }
    assert all(float(row["seconds"]) >= float(row["wasted_seconds"]) >= 0 for row in rows)
    assert {row["wasted_share"] for row in rows} == {"0.0", "1.0"}


def test_what_completed_and_is_gone_does_not_add_up_but_dropped_features_do(grid: Grid, tmp_path: Path) -> None:
    results, cells = tmp_path / "results", cells_of(grid)
    for rule in ("embed", "score"):
        cell = one(cells, rule)
        make(cell, results)
        cell.outputs(results)[0].unlink()
    (one(cells, "embed").outputs(results)[0].parent / "dropped.txt").touch()
    found = audit(cells, results, TERMS)
    assert found.faults == [f"score {one(cells, 'score').name}: attempt 1 completed, but what it made is not there"]


def test_two_attempts_that_overlapped_and_both_completed_do_not_add_up(grid: Grid, tmp_path: Path) -> None:
    results, cell = tmp_path / "results", one(cells_of(grid), "score")
    for number in (1, 2):
        make(cell, results)
        path = cell.attempts(results) / f"000{number}.json"
        path.write_text(json.dumps({**read_record(path), "born": 100.0 + number, "seconds": 50.0}))
    found = audit([cell], results, TERMS)
    assert found.faults == [f"score {cell.name}: attempts 1 and 2 ran at the same time and both completed"]
    path.write_text(json.dumps({**read_record(path), "outcome": "superseded"}))
    assert audit([cell], results, TERMS).faults == []


def test_a_record_left_open_is_settled_once_its_process_is_gone_and_only_then(grid: Grid, tmp_path: Path) -> None:
    results, cell = tmp_path / "results", one(cells_of(grid), "score")
    make(cell, results)
    path = cell.attempts(results) / "0001.json"
    record = read_record(path)
    running = {**record, "state": "running", "holder": {**record["holder"], "place": "elsewhere"}}
    path.write_text(json.dumps(running))
    assert attempts_of(cell, results, TERMS)[0]["outcome"] == "running"
    os.utime(path, (1, 1))
    assert attempts_of(cell, results, TERMS)[0]["outcome"] == "node lost"
    assert read_record(path)["state"] == "running"
    path.write_text(json.dumps({**record, "state": "running", "holder": {**record["holder"], "started": 1}}))
    assert attempts_of(cell, results, TERMS)[0]["outcome"] == "killed"
    assert read_attempt(path)["outcome"] == "killed"


def test_a_plan_takes_the_mean_of_the_most_similar_attempts(grid: Grid) -> None:
    cell = next(cell for cell in cells_of(grid) if cell.rule == "finetune")
    narrow, middle, wide = alike(cell.job)
    assert len({narrow, middle, wide}) == 3

    def seconds(*rows: tuple[str, float, str]) -> float:
        listed = [
            {"stage": "finetune", "outcome": outcome, "alike": digest, "seconds": value, "gpu_seconds": value / 2}
            for digest, value, outcome in rows
        ]
        cost = Rates(listed, "ledger").cost(cell, {})
        assert cost is not None
        assert cost.gpu_seconds == cost.seconds / 2
        return cost.seconds

    assert seconds((wide, 1.0, "completed")) == 1
    assert seconds((wide, 1.0, "completed"), (f"{middle} x", 5.0, "completed")) == 5
    assert seconds((narrow, 7.0, "completed"), (narrow, 9.0, "completed"), (middle, 5.0, "completed")) == 8
    assert seconds((narrow, 100.0, "killed"), (middle, 5.0, "completed")) == 5


def test_seeds_are_alike_samplers_less_and_other_data_least(grid: Grid) -> None:
    jobs = {cell.name: alike(cell.job) for cell in cells_of(grid) if cell.rule == "finetune"}
    of = jobs["a/tiny/pk/s0"]
    shared = {name: [mine == other for mine, other in zip(of, jobs[name], strict=True)] for name in jobs}
    assert shared["a/tiny/pk/s1"] == [True, True, True]
    assert shared["a/tiny/random/s0"] == [False, True, True]
    assert shared["ab/tiny/pk/s0"] == [False, False, True]


def test_without_figures_for_a_backbone_a_plan_says_that_it_does_not_know(
    values: dict[str, Any], tmp_path: Path
) -> None:
    rates = Rates([], "none")
    known = plan_module.make_plan(Config.parse(values), tmp_path, rates)
    assert known.unknown == []
    assert known.sources == [SHIPPED]
    values["backbones"]["small"]["input_size"] = [128, 64]
    config = Config.parse(values)
    unknown = plan_module.make_plan(config, tmp_path, rates)
    lines = "\n".join(plan_module.told(unknown, config, [1]))
    assert "Not known: how long 1 pretrain, 4 learn_prompts, 8 finetune, 9 embed take" in lines
    assert "At 1 slot: at least" in lines
    assert "22 jobs leave files whose size is not known" in lines


def test_the_shipped_figures_foresee_the_default_grid(tmp_path: Path) -> None:
    config = read_given([])
    plan = plan_module.make_plan(config, tmp_path, Rates([], "none"))
    assert len(plan.left) == 102
    assert plan_module.finish(plan, 2) == pytest.approx(683, rel=0.1)  # measured: 20:59:47 to 21:11:10, two at a time


def test_the_finish_is_that_of_a_slow_simulation(grid: Grid, tmp_path: Path) -> None:
    plan = plan_module.make_plan(grid.config, tmp_path, Rates([], "none"))
    seconds = {cell.key: round(cost.seconds, 1) for cell in plan.left if (cost := plan.costs[cell.key])}
    for slots in (1, 2, 5):
        assert plan_module.finish(plan, slots) == pytest.approx(_tick(plan.left, seconds, slots), abs=3)
    assert plan_module.finish(plan, 1) == pytest.approx(sum(cost.seconds for cost in plan.costs.values() if cost))


def _tick(cells: list[Cell], seconds: dict[Any, float], slots: int) -> float:
    """Advance by tenths of a second."""
    left, running, done, now = list(cells), {}, set(), 0.0
    while left or running:
        done |= {key for key, end in running.items() if end <= now + 1e-6}
        running = {key: end for key, end in running.items() if key not in done}
        for cell in list(left):
            if len(running) < slots and set(cell.needs) <= done:
                running[cell.key] = now + seconds[cell.key]
                left.remove(cell)
        now += 0.1
    return now


def test_the_status_names_who_runs_where_marks_the_silent_and_shows_the_last_line(grid: Grid, tmp_path: Path) -> None:
    results, cells = tmp_path / "results", cells_of(grid)
    cell = one(cells, "finetune")
    log = tmp_path / "logs" / "finetune" / f"{cell.name}.log"
    log.parent.mkdir(parents=True)
    log.write_text("start\nstage 2 epoch 1/2: loss 3\rhalf\n\n")
    lines: list[str] = []
    late: list[str] = []

    def look_and_end() -> None:
        with attempt(cell.rule, cell.job, cell.outputs(results), TERMS):
            lines.extend(status.told(grid.config, results, TERMS))
            path = cell.attempts(results) / "0001.json"
            os.utime(path, (time.time() - 4, time.time() - 4))
            late.extend(line for line in status.told(grid.config, results, TERMS) if line.startswith("running"))
            raise RuntimeError("end")

    with pytest.raises(RuntimeError):
        look_and_end()
    assert [line.split() for line in lines[1:3]] == [["draw", "0", "0", "0", "2"], ["pretrain", "0", "0", "0", "1"]]
    running = [line for line in lines if line.startswith("running: finetune a/tiny/pk/s0 on ")]
    assert len(running) == 1
    assert running[0].endswith(": half")
    assert "STALE" not in running[0]
    assert "(STALE: no heartbeat for 4 s)" in late[0]
    assert "33 planned = 0 done + 0 failed + 1 running + 32 to do" in lines
    failed = [line for line in status.told(grid.config, results, TERMS) if line.startswith("failed")]
    assert failed == ["failed: finetune a/tiny/pk/s0: bug: RuntimeError: end"]


def test_a_configuration_is_read_as_snakemake_reads_it(tmp_path: Path) -> None:
    for name, seeds in (("one", [5]), ("two", [7, 8])):
        text = yaml.safe_dump({"experiments": {"main": {"seeds": seeds}}})
        (tmp_path / f"{name}.yaml").write_text(text)
    files = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    assert read_given([]).experiments["main"].seeds == (0, 1, 2)
    assert read_given(files).experiments["main"].seeds == (7, 8)
    config = read_given(files, ["audit=false", "experiments={main: {seeds: [3], figures: []}}"])
    assert (config.audit, config.experiments["main"].seeds) == (False, (3,))
    assert config.experiments["main"].samplers == read_given([]).experiments["main"].samplers


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("[1]", [], "holds no map of keys"),
        ("a: [", [], "is not YAML"),
        (None, [], "cannot read the configuration"),
        ("{}", ["audit"], "--config 'audit': expected key=value"),
        ("{}", ["audit=["], "--config audit is not YAML"),
        ("{runs: 1}", [], "runs"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_refused(
    tmp_path: Path, text: str | None, settings: list[str], said: str
) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DfgsError, match=re.escape(said)) as caught:
        read_given([path], settings)
    assert "\n" not in str(caught.value)


def test_the_commands_plan_tell_and_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner()
    told = run.invoke(cli, ["plan", "--slots", "3"], catch_exceptions=False).output
    assert "finetune          30      0     30" in told
    assert "At 3 slots: " in told
    assert "Experiment main: 6 pairs of trainings (2 sources × 3 seeds)" in told
    assert run.invoke(cli, ["status"]).output.endswith("102 planned = 0 done + 0 failed + 0 running + 102 to do\n")
    audited = run.invoke(cli, ["ledger"])
    assert (audited.exit_code, audited.output) == (0, "102 planned = 0 done + 0 failed + 0 running + 102 to do\n")
    assert Path("results/ledger.csv").read_text() == ",".join(COLUMNS) + "\n"
    cell = one(cells_of(Grid(read_given([]))), "draw")
    make(cell, Path("results"))
    cell.outputs(Path("results"))[0].unlink()
    failed = run.invoke(cli, ["ledger"])
    assert failed.exit_code == 1
    assert "does not add up: draw drawn-a: attempt 1 completed" in failed.output
    assert run.invoke(cli, ["ledger", "--no-audit"]).exit_code == 0
    told = run.invoke(cli, ["plan", "--rates", "results/ledger.csv"], catch_exceptions=False).output
    assert "results/ledger.csv" in told
    with pytest.raises(DfgsError, match=r"cannot read the ledger none\.csv"):
        run.invoke(cli, ["plan", "--rates", "none.csv"], catch_exceptions=False)
