"""What the default grid costs at two commits, one after the other on the same machine, and whether they agree.

    python benchmarks/default_grid.py BEFORE [AFTER] [--cores 2] [--config FILE] [--scratch DIR]

Each commit is cloned into DIR and its whole grid is run there with the packages of this environment; a run with the
same cores and configuration that is there already is not made again. CPU seconds are those of all processes. Nothing
else should run meanwhile. Exit status 1 if weights, ranked queries or numbers of BEFORE are others in AFTER or lacking
there: then the two are not the same work.
"""

import argparse
import csv
import gzip
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--config", default="config/config.yaml")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "dfgs-default-grid")
    arguments = parser.parse_args()
    commits = [resolved(name) for name in (arguments.before, arguments.after)]
    trees = [arguments.scratch / commit for commit in commits]
    costs = [cost(commit, tree, arguments) for commit, tree in zip(commits, trees, strict=True)]
    print(f"\n{arguments.config}, --cores {arguments.cores}\n")
    print("| commit | CPU s | wall s | jobs |\n| --- | --- | --- | --- |")
    for commit, row in zip(commits, costs, strict=True):
        print(f"| {commit} | {row['cpu']:.0f} | {row['wall']:.0f} | {row['jobs']:.0f} |")
    ratios = [costs[1][name] / costs[0][name] for name in ("cpu", "wall")]
    print(f"| after / before | {ratios[0]:.3f} | {ratios[1]:.3f} | |\n")
    found = [agree(name, *(dict(results(tree)) for tree in trees)) for name, results in COMPARED.items()]
    if not all(found):
        sys.exit("the two commits do not agree")


def resolved(name: str) -> str:
    git = ["git", "-C", str(ROOT), "rev-parse", "--short=12", f"{name}^{{commit}}"]
    found = subprocess.run(git, check=False, capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"error: {name!r} is no commit of {ROOT}; give a commit, branch or tag")
    return found.stdout.strip()


def cost(commit: str, tree: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Run a commit's grid in its clone and return CPU and wall seconds and the jobs; or read what it has cost."""
    note, asked = tree / "cost.json", {"cores": arguments.cores, "config": arguments.config}
    found: dict[str, float] = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    if not asked.items() <= found.items():
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tree)], check=True)
        subprocess.run(["git", "-C", str(tree), "checkout", "--quiet", commit], check=True)
        found = run(tree, arguments)
        note.write_text(json.dumps(found | asked), encoding="utf-8")
    return found


def run(tree: Path, arguments: argparse.Namespace) -> dict[str, float]:
    settings = {"PYTHONPATH": str(tree / "src"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-m", "compileall", "-q", "src"], cwd=tree, check=True)
    command = ["snakemake", "--cores", str(arguments.cores), "--configfile", arguments.config, "--", "all"]
    began, before = time.monotonic(), used()
    with (tree / "snakemake.log").open("w", encoding="utf-8") as log:
        subprocess.run(command, cwd=tree, env=os.environ | settings, stdout=log, stderr=log, check=True)
    jobs = (tree / "snakemake.log").read_text(encoding="utf-8").count("Finished jobid")
    return {"cpu": used() - before, "wall": time.monotonic() - began, "jobs": jobs}


def used() -> float:
    """CPU seconds of all processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def weights(tree: Path) -> Iterator[tuple[str, str]]:
    """Digest what was trained, the image towers."""
    for path in sorted((tree / "results" / "runs").rglob("weights.safetensors")):
        yield str(path.relative_to(tree)), hashlib.sha256(path.read_bytes()).hexdigest()


def queries(tree: Path) -> Iterator[tuple[str, str]]:
    """Digest the rank of every query of every model."""
    for path in sorted((tree / "results" / "scores").rglob("per_query.csv.gz")):
        yield str(path.relative_to(tree)), hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()


def cells(tree: Path) -> Iterator[tuple[str, str]]:
    """Read every number, by what it is the number of."""
    with (tree / "results" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            names = ("experiment", "source", "target", "split", "model", "sampler", "seed", "metric")
            yield "/".join(row[name] for name in names), row["value"]


COMPARED = {"weights": weights, "ranked queries": queries, "numbers": cells}


def agree(name: str, before: dict[str, str], after: dict[str, str]) -> bool:
    """Tell how many of the results of `before` are the same in `after`; whether all are, and there are some."""
    differing = [key for key in sorted(before) if before[key] != after.get(key)]
    print(f"{name}: {len(before) - len(differing)} of {len(before)} equal", *differing[:3], sep="\n  ")
    return bool(before) and not differing


if __name__ == "__main__":
    main()
