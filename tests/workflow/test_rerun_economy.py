"""What runs again after a change: what the change decides, and nothing else."""

from pathlib import Path

import pytest

from conftest import Copy

# What one more sampler costs on the smoke grid: two sources, one seed.
CELLS = {"finetune": 2, "embed": 2, "score": 2}
TABLES = {"judge": 1, "tabulate": 2, "tabulate_backbone": 1, "tabulate_selection": 1}
REPORT = {"aggregate": 1, "collect": 1, "draw_figure": 8, "report": 1} | TABLES
PLANNED = {"tabulate_queries": 1, "disagreements": 1}
AUDIT = {"tabulate_audit": 1}
SAMPLERS = "samplers: [pk, dfgs-k3]"

TEN_LINES = '''"""The identities in turn: P neighbours by number, each pass from another start."""

import numpy as np

from dfgs.samplers.base import BatchSampler, Pass


class RoundRobin(BatchSampler):
    """Every identity once per pass, P consecutive numbers in a batch."""

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        """Roll the identities by a random number and cut them into batches."""
        rows = np.roll(np.arange(len(self.labels.identities)), rng.integers(len(self.labels.identities)))
        batches = len(rows) // self.identities_per_batch
        return self.serve(rows[: batches * self.identities_per_batch].reshape(batches, -1), self.labels.shuffled(rng))
'''


def add_sampler(copy: Copy) -> None:
    (copy.root / "src/dfgs/samplers/round_robin.py").write_text(TEN_LINES, encoding="utf-8")
    copy.edit("config/smoke.yaml", SAMPLERS, "samplers: [pk, dfgs-k3, round-robin]")
    copy.edit("config/config.yaml", "  pk: {}\n", "  pk: {}\n  round-robin: {}\n")


def test_the_readme_shows_the_sampler_that_these_tests_add() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert TEN_LINES in readme


def test_a_second_call_does_nothing(finished: Copy) -> None:
    assert finished.plan() == {}


def test_one_sampler_added_runs_its_own_cells_and_the_report_alone(copy: Copy) -> None:
    before = copy.read("results/runs/tiny-a/tiny-dfgs/pk/s0/weights.safetensors")
    add_sampler(copy)
    assert copy.plan() == CELLS | REPORT | AUDIT
    run = copy.snakemake()
    assert run.code == 0, run.text
    assert run.jobs == CELLS | REPORT | AUDIT
    assert copy.plan() == {}
    assert b"round-robin" in copy.read("results/tables/smoke/mAP.md")
    assert copy.read("results/runs/tiny-a/tiny-dfgs/pk/s0/weights.safetensors") == before


def test_a_seed_added_runs_its_prompts_and_its_cells(copy: Copy) -> None:
    copy.edit("config/smoke.yaml", "seeds: [0]", "seeds: [0, 1]")
    assert copy.plan() == {"learn_prompts": 2, "finetune": 4, "embed": 4, "score": 4} | REPORT | AUDIT | PLANNED


def test_a_target_added_trains_nothing(copy: Copy) -> None:
    copy.edit("config/smoke.yaml", "targets: [tiny-a, tiny-b]", "targets: [tiny-a, tiny-b, tiny-b-whole]")
    whole = "targets:\n  tiny-b-whole: {dataset: drawn-tiny-b, splits: [test]}\n  tiny-a:"
    copy.edit("config/smoke.yaml", "targets:\n  tiny-a:", whole)
    assert copy.plan() == {"embed": 5, "score": 5} | REPORT | AUDIT | PLANNED


def test_a_changed_sampler_setting_runs_that_sampler_alone(copy: Copy) -> None:
    copy.edit("config/smoke.yaml", "neighbours: 3, skip: 1", "neighbours: 3, skip: 0")
    assert copy.plan() == CELLS | REPORT | AUDIT | PLANNED


@pytest.mark.parametrize("file", ["dfgs.py", "_walk.py"])
def test_an_edited_sampler_file_or_helper_runs_its_samplers_alone(copy: Copy, file: str) -> None:
    path = copy.root / "src/dfgs/samplers" / file
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    assert copy.plan() == CELLS | REPORT | AUDIT | PLANNED


def test_another_contrast_runs_the_tables_and_figures_that_it_may_be_in_alone(copy: Copy) -> None:
    copy.edit("config/smoke.yaml", "    baseline: pk\n    contrasts: [dfgs-k3]\n", "")
    copy.edit("config/smoke.yaml", SAMPLERS, f"{SAMPLERS}\n    contrasts: [{{sampler: pk, baseline: dfgs-k3}}]")
    assert copy.plan() == {"judge": 1, "tabulate": 2, "draw_figure": 8, "report": 1} | PLANNED


def test_a_comment_in_the_config_runs_nothing(copy: Copy) -> None:
    for file in ("config/smoke.yaml", "config/config.yaml"):
        path = copy.root / file
        path.write_text("# a comment\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert copy.plan() == {}


def test_a_moved_checkout_runs_nothing(copy: Copy, tmp_path: Path) -> None:
    assert Copy(copy.root.rename(tmp_path / "elsewhere")).plan() == {}


def test_lean_drops_the_features_once_and_what_needs_them_later_embeds_again(copy: Copy) -> None:
    assert list((copy.root / "results/features").rglob("*.npy"))
    run = copy.snakemake(target="lean")
    assert run.code == 0, run.text
    assert run.jobs == {"drop_features": 5}
    assert not list((copy.root / "results/features").rglob("*.npy"))
    assert copy.plan() == {}
    assert copy.snakemake("--dry-run", target="lean").jobs == {}
    reranked = "splits: [test], reranking: {k1: 5, k2: 2, lambda: 0.3}}"
    copy.edit(
        "config/smoke.yaml",
        "tiny-a: {dataset: drawn-tiny-a, splits: [test]}",
        f"tiny-a: {{dataset: drawn-tiny-a, {reranked}",
    )
    assert copy.plan() == {"embed": 5, "score": 5} | REPORT | PLANNED
