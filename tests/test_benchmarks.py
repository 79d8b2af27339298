"""Benchmarks that need no GPU to be wrong: they run at the smallest size and claim nothing that was not measured."""

import gzip
import importlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str) -> str:
    settings = {"CUDA_VISIBLE_DEVICES": "", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | settings).stdout


def test_without_a_gpu_the_check_says_so_and_writes_no_table(tmp_path: Path) -> None:
    table = tmp_path / "gpu.md"
    said = run(str(ROOT / "benchmarks" / "gpu_check.sh"), str(table))
    assert said == "no GPU here: nothing was run, no table was written\n"
    assert not table.exists()


def test_tests_that_need_a_gpu_are_not_collected_with_the_others() -> None:
    options = ["--collect-only", "-q", "-p", "no:cacheprovider", "--ignore-glob=*test_[!bg]*"]
    collected = run(sys.executable, "-m", "pytest", *options, str(ROOT / "tests"))
    assert "test_benchmarks.py" in collected
    assert "test_gpu.py" not in collected
    assert "test_gpu.py" in run(sys.executable, "-m", "pytest", *options, str(ROOT / "tests" / "gpu"))


def test_parity_of_the_cpu_with_itself_is_exact_in_float32(tmp_path: Path) -> None:
    table = tmp_path / "parity.md"
    options = ["--device", "cpu", "--architectures", "dfgs-small", "--out", str(table)]
    said = run(sys.executable, str(ROOT / "benchmarks" / "parity.py"), *options)
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if "e-" in line or "e+" in line]
    far = {row[0]: float(row[1]) for row in rows}
    assert len(far) == 12
    assert {name for name, found in far.items() if found > 1e-4} == {
        "features, dfgs-small, bf16",
        "features, dfgs-small, fp16",
    }
    assert table.read_text(encoding="utf-8").strip() == said.strip()


def test_the_training_benchmark_measures_on_the_cpu_and_leaves_the_rows_of_a_gpu_empty(tmp_path: Path) -> None:
    table = tmp_path / "training.md"
    options = ["--images", "192", "--steps", "1", "--only", "stage 2", "small-dfgs", "--out", str(table)]
    run(sys.executable, str(ROOT / "benchmarks" / "training.py"), "--device", "cpu", *options)
    rows = [line.strip("| ").split(" | ") for line in table.read_text(encoding="utf-8").splitlines() if "batch" in line]
    measured = [row for row in rows if len(row) == 10]
    assert [row[0] for row in measured] == ["stage 2, small-dfgs, small, batch 64"]
    assert float(measured[0][1]) > 0
    assert float(measured[0][3].rstrip("%")) > 1
    empty = [row for row in rows if "vit-b-16" in row[0]]
    assert len(empty) == 17
    assert not any(cell.strip(" |") for row in empty for cell in row[1:])


def grid_results(tree: Path, *, value: str, weights: bytes) -> Path:
    """Leave one training's weights, queries and number as a grid would."""
    for name in ("runs", "scores"):
        (tree / "results" / name / "a").mkdir(parents=True)
    (tree / "results/runs/a/weights.safetensors").write_bytes(weights)
    (tree / "results/scores/a/per_query.csv.gz").write_bytes(gzip.compress(value.encode(), mtime=int(value)))
    header = "experiment,source,target,split,model,sampler,seed,metric,value"
    (tree / "results/metrics.csv").write_text(f"{header}\nmain,a,b,test,m,pk,0,mAP,{value}\n", encoding="utf-8")
    return tree


def test_two_grids_agree_only_where_every_weight_query_and_number_does(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    compared = importlib.import_module("default_grid")
    one = grid_results(tmp_path / "one", value="7", weights=b"w")
    others = [("7", b"w", [1, 1, 1]), ("8", b"w", [1, 0, 0]), ("7", b"v", [0, 1, 1])]
    for number, (value, weights, expected) in enumerate(others):
        other = grid_results(tmp_path / f"other-{number}", value=value, weights=weights)
        both = [(name, *(dict(read(tree)) for tree in (one, other))) for name, read in compared.COMPARED.items()]
        assert [compared.agree(*results) for results in both] == [bool(count) for count in expected]
        assert [line for line in capsys.readouterr().out.splitlines() if "of 1" in line] == [
            f"{name}: {count} of 1 equal" for name, count in zip(compared.COMPARED, expected, strict=True)
        ]
    assert not compared.agree("weights", {}, {}), "nothing is no agreement"
    assert not compared.agree("weights", {"a": "1", "b": "2"}, {"a": "1"}), "nor is a lack"
    assert compared.agree("weights", {"a": "1"}, {"a": "1", "b": "2"})
