"""Runs the real workflow on the smoke grid, in a copy of the checkout, so that tests may edit files."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "profiles", "config", "src", "envs")
LIMIT = 900


@dataclass(frozen=True)
class Run:
    """A finished Snakemake command."""

    code: int
    text: str

    @property
    def jobs(self) -> dict[str, int]:
        """Planned jobs by rule, `all` left out; empty when nothing is to be done."""
        table = self.text.partition("Job stats:")[2]
        counts = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
        return {name: count for name, count in counts.items() if name not in ("all", "lean", "total")}


@dataclass(frozen=True)
class Copy:
    """A copy of the checkout with results of its own."""

    root: Path

    @classmethod
    def of(cls, root: Path, target: Path) -> "Copy":
        """Copy the parts of a checkout, and its results where it has any."""
        target.mkdir(parents=True, exist_ok=True)
        for part in (*PARTS, "results", ".snakemake"):
            source = root / part
            if source.is_dir():
                shutil.copytree(source, target / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, target / part)
        return cls(target)

    def snakemake(self, *arguments: str, config: str = "config/smoke.yaml", target: str = "all") -> Run:
        """Run Snakemake on the smoke grid."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", config, *arguments, "--", target]
        done = subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True, timeout=LIMIT, check=False
        )
        return Run(done.returncode, done.stdout + done.stderr)

    def dfgs(self, *arguments: str) -> Run:
        """Run this copy's `dfgs` command in it."""
        command = [sys.executable, "-m", "dfgs", *arguments]
        done = subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True, timeout=LIMIT, check=False
        )
        return Run(done.returncode, done.stdout + done.stderr)

    def plan(self) -> dict[str, int]:
        """Jobs that Snakemake would run, by rule."""
        run = self.snakemake("--dry-run")
        assert run.code == 0, run.text
        return run.jobs

    def environment(self) -> dict[str, str]:
        """This copy's package comes first, with its own `dfgs` command."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, "PYTHONPATH": str(self.root / "src"), "PATH": path}

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace the one place where `old` stands in a file."""
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def read(self, file: str) -> bytes:
        """Bytes of a file below the copy."""
        return (self.root / file).read_bytes()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy in which the smoke grid has run; tests must not change it."""
    copy = Copy.of(CHECKOUT, tmp_path_factory.mktemp("finished"))
    shutil.rmtree(copy.root / "results", ignore_errors=True)
    shutil.rmtree(copy.root / ".snakemake", ignore_errors=True)
    run = copy.snakemake()
    assert run.code == 0, run.text
    return copy


@pytest.fixture
def copy(finished: Copy, tmp_path: Path) -> Copy:
    """A copy of the finished checkout that a test may change."""
    return Copy.of(finished.root, tmp_path / "checkout")
