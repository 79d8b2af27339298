"""The smoke grid for real: what it leaves, and what happens when things go wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from conftest import CHECKOUT, LIMIT, Copy

WEIGHTS = "results/runs/tiny-ab/tiny-dfgs/dfgs-k3/s0/weights.safetensors"


def test_the_smoke_grid_leaves_metrics_tables_figures_and_per_query_rows(finished: Copy) -> None:
    rows = pd.read_csv(finished.root / "results/metrics.csv")
    assert set(rows["source"]) == {"tiny-a", "tiny-ab"}
    assert set(rows["sampler"]) == {"pk", "dfgs-k3", "zero-shot"}
    assert set(rows.loc[rows["target"] == "tiny-b", "split"]) == {"half-0", "half-1"}
    maps = rows.loc[rows["metric"] == "mAP", "value"]
    assert maps.between(0, 100, inclusive="neither").all()
    for kind in ("csv", "md", "tex", "html"):
        for table in ("mAP", "audit", "verdict", "blocks", "queries"):
            assert (finished.root / f"results/tables/smoke/{table}.{kind}").stat().st_size
    assert "one seed: no training is repeated" in finished.read("results/tables/smoke/verdict.md").decode()
    figures = yaml.safe_load((CHECKOUT / "config/smoke.yaml").read_text())["experiments"]["smoke"]["figures"]
    for figure in figures:
        assert finished.read(f"results/figures/smoke/{figure}.png").startswith(b"\x89PNG")
        assert finished.read(f"results/figures/smoke/{figure}.pdf").startswith(b"%PDF")
        assert b"<svg" in finished.read(f"results/figures/smoke/{figure}.svg")[:500]
    (block, *_) = json.loads(finished.read("results/experiments/smoke/disagreements.json"))["blocks"]
    assert (block["sampler"], block["baseline"]) == ("dfgs-k3", "pk")
    queries = pd.read_csv(finished.root / "results/scores/tiny-a/tiny-dfgs/pk/s0/per_query.csv.gz")
    scored = rows[(rows["source"] == "tiny-a") & (rows["sampler"] == "pk") & (rows["metric"] == "mAP")]
    means = queries.groupby(["target", "split"])["average_precision"].mean() * 100
    for _, row in scored.iterrows():
        assert means[row["target"], row["split"]] == pytest.approx(row["value"], abs=1e-9)


def test_snakemake_report_is_written_with_captions(finished: Copy, tmp_path: Path) -> None:
    run = finished.snakemake("--report", str(tmp_path / "report.html"))
    assert run.code == 0, run.text
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "drawn by the package itself" in text
    assert "What the batches of every sampler held" in text


def test_a_killed_training_and_a_repeated_command_end_as_an_undisturbed_run(finished: Copy, tmp_path: Path) -> None:
    copy = Copy.of(CHECKOUT, tmp_path / "killed")
    for left in ("results", ".snakemake"):
        shutil.rmtree(copy.root / left, ignore_errors=True)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config/smoke.yaml", "--", "all"]
    log = (tmp_path / "log").open("w")
    with subprocess.Popen(command, cwd=copy.root, env=copy.environment(), stdout=log, stderr=log) as running:
        os.kill(_training_pid(copy), signal.SIGKILL)
        assert running.wait(LIMIT) == 1
    run = copy.snakemake()
    assert run.code == 0, run.text
    assert copy.read("results/metrics.csv") == finished.read("results/metrics.csv")
    assert copy.read(WEIGHTS) == finished.read(WEIGHTS)
    assert not list((copy.root / "results").rglob("*.part"))


def _training_pid(copy: Copy) -> int:
    """Wait for a fine-tuning of this copy and return the process id of its Python."""
    for _ in range(LIMIT):
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"finetune" in words and (folder / "cwd").resolve() == copy.root.resolve():
                    return int(folder.name)
            except OSError:
                continue  # it has ended meanwhile
        time.sleep(0.5)
    raise AssertionError("no fine-tuning started")


def test_a_corrupt_image_is_named_and_the_repaired_run_goes_on(copy: Copy) -> None:
    image = sorted((copy.root / "results/worlds/drawn-tiny-a/bounding_box_train").glob("*.jpg"))[0]
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    copy.edit("config/smoke.yaml", "seeds: [0]", "seeds: [1]")
    broken = copy.snakemake("--until", "learn_prompts")
    assert broken.code == 1
    assert f"error: image results/worlds/drawn-tiny-a/bounding_box_train/{image.name}" in broken.text
    assert "Traceback" not in broken.text.partition("error: image")[2].partition("\n")[2][:300]
    image.write_bytes(whole)
    assert copy.snakemake("--until", "learn_prompts").code == 0


def test_a_diverged_cell_is_named_and_the_others_go_on(copy: Copy) -> None:
    copy.edit("config/smoke.yaml", "models: [tiny-dfgs]", "models: [tiny-dfgs, tiny-hot]")
    copy.edit("config/smoke.yaml", "sources: [tiny-a, tiny-ab]", "sources: [tiny-a]")
    text = (copy.root / "config/smoke.yaml").read_text(encoding="utf-8")
    recipe = text.partition("  tiny-dfgs:\n")[2].replace("learning_rate: 5.0e-4", "learning_rate: 1.0e+30")
    start, prompts = recipe.index("    prior:"), recipe.index("    prompts:")
    hot_recipe = recipe[:start] + "    prior: null\n" + recipe[prompts:]
    (copy.root / "config/smoke.yaml").write_text(text + "  tiny-hot:\n" + hot_recipe, encoding="utf-8")
    run = copy.snakemake("--keep-going")
    assert run.code == 1
    assert "stage 2 with sampler 'pk': the loss is" in run.text
    assert "stage 2 with sampler 'dfgs-k3': the loss is" in run.text
    assert "at step " in run.text
    assert (copy.root / "results/scores/tiny-a/tiny-hot/zero-shot/s0/metrics.csv").exists()
    assert not (copy.root / "results/runs/tiny-a/tiny-hot/pk/s0/weights.safetensors").exists()


def test_the_page_holds_the_grid_and_every_digest_is_right(finished: Copy) -> None:
    text = finished.read("results/report.html").decode()
    assert "<title>Smoke grid</title>" in text
    assert "dfgs reproduce smoke/tiny-a/tiny-b:half-1/tiny-dfgs/pk/s0/mAP" in text
    run = finished.dfgs("verify")
    assert run.code == 0, run.text
    assert not re.search(r": 0 checked|[1-9]\d* wrong", run.text), run.text


def test_a_number_is_made_again_and_another_recorded_digest_is_told(copy: Copy, tmp_path: Path) -> None:
    command = ["reproduce", "smoke/tiny-a→tiny-b:half-1/tiny-dfgs/pk/s0/mAP", "--scratch", str(tmp_path / "again")]
    run = copy.dfgs(*command)
    assert run.code == 0, run.text
    assert run.text.count(": same\n") == 5  # weights, candidates, curve, audit, value
    record = "results/runs/tiny-a/tiny-dfgs/pk/s0/record.json"
    copy.edit(record, '"weights": "', '"weights": "0')
    run = copy.dfgs(*command)
    assert run.code == 1
    assert run.text.count(": DIFFERENT\n") == 1
    assert copy.dfgs("verify").code == 1


def test_an_unfinished_grid_has_a_page_only_when_asked_for_a_partial_one(copy: Copy) -> None:
    shutil.rmtree(copy.root / "results/scores/tiny-ab/tiny-dfgs/pk")
    refused = copy.dfgs("report", "config/smoke.yaml")
    assert refused.code == 2
    assert refused.text.startswith(
        "error: 3 of the grid's cells are missing: smoke/tiny-ab/tiny-dfgs/pk/s0 on tiny-a, "
    )
    assert refused.text.count("\n") == 1
    assert copy.dfgs("report", "--partial", "config/smoke.yaml").code == 0
    assert b"<title>Partial: Smoke grid</title>" in copy.read("results/report.html")
