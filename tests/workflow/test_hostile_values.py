"""Values of a configuration that a shell would run: refused in one line or handed through, nothing executed."""

import copy
import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import CHECKOUT, Copy
from dfgs.config import Config
from dfgs.errors import DfgsError
from dfgs.grid import Grid

CANARY = "canary"
HOSTILE = {
    "single quotes": f"'; touch {CANARY}; '",
    "double quotes": f'"; touch {CANARY}; "',
    "substitution": f"$(touch {CANARY})",
    "backticks": f"`touch {CANARY}`",
    "semicolon": f"x; touch {CANARY} #",
    "newline": f"x\ntouch {CANARY}\n",
    "braces": "{input} {params.job} {{x}} {0.__class__}",
    "parent": "../../../../etc",
    "option": "--help",
    "long": "x" * 4096,
}
# Where a value stands in a configuration: its path, or the map whose key it is.
VALUES = (
    "data",
    "experiments.smoke.title",
    "experiments.smoke.figures.0",
    "datasets.drawn-tiny-a.layout",
    "datasets.drawn-tiny-a.options.validation",
    "targets.tiny-a.splits.0",
    "targets.tiny-a.protocol",
    "backbones.tiny.pretrained",
    "backbones.tiny.architecture",
    "samplers.dfgs-k3.graph",
)
# Free text: it travels inside a job's JSON, and the stage that reads it knows more than a check at the start.
FREE = ("data", "experiments.smoke.title", "datasets.drawn-tiny-a.options.validation", *VALUES[-3:])
KEYS = ("experiments", "sources", "targets", "datasets", "samplers", "models", "backbones")
STUB = """#!{python}
import json, os, sys
with open(os.environ["SEEN"], "a") as seen:
    seen.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def smoke() -> dict[str, Any]:
    """The smoke grid's configuration, with the default's samplers, as a plain dictionary of its own."""
    values = yaml.safe_load((CHECKOUT / "config/smoke.yaml").read_text(encoding="utf-8"))
    values["samplers"]["pk"] = {}
    return copy.deepcopy(values)


def put(values: Any, path: str, value: str) -> None:
    """Replace the value that a dotted path leads to."""
    *folders, last = path.split(".")
    for part in folders:
        values = values[int(part)] if isinstance(values, list) else values[part]
    values[int(last) if isinstance(values, list) else last] = value


def is_refused(values: dict[str, Any]) -> bool:
    """Tell whether a configuration is refused, in one short line."""
    try:
        Grid(Config.parse(values))
    except DfgsError as error:
        message = str(error)
        assert "\n" not in message, message
        assert len(message) < 5000
        return True
    return False


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("folder", KEYS)
def test_a_hostile_name_is_refused_in_one_line(folder: str, text: str) -> None:
    values = smoke()
    values[folder][text] = next(iter(values[folder].values()))
    assert is_refused(values)
    values = smoke()
    lists = {"experiments": values, "backbones": None}.get(folder, values["experiments"]["smoke"])
    if lists is not None:
        lists["run" if folder == "experiments" else folder if folder in lists else "sources"] = [text]
        assert is_refused(values)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("path", VALUES)
def test_a_hostile_value_is_refused_in_one_line_or_is_free_text(path: str, text: str) -> None:
    values = smoke()
    put(values, path, text)
    assert is_refused(values) or path in FREE


def test_hostile_text_that_is_handed_through_reaches_the_stages_as_it_is(tmp_path: Path) -> None:
    """Titles, data folders and weight files: Snakemake's own command lines, run with a stage that only notes."""
    fresh = Copy.of(CHECKOUT, tmp_path / "checkout")
    text = "".join(HOSTILE.values())
    name = text[:200].replace("/", "\N{DIVISION SLASH}")  # what a file system takes
    folder = fresh.root / "roots" / name
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").touch()
    lines = commands(fresh, text, folder)
    seen = run(fresh, lines)
    jobs = [json.loads(a[a.index("--job") + 1]) for a in seen if "--job" in a]
    assert len(seen) >= len(lines) > 10
    assert text in [job.get("title") for job in jobs]
    assert str(folder) in [job["source"]["datasets"][0]["root"] for job in jobs if "source" in job]
    assert str(folder / "weights.safetensors") in [job.get("backbone", {}).get("pretrained") for job in jobs]
    assert not list(tmp_path.rglob(CANARY))


def commands(fresh: Copy, title: str, folder: Path) -> list[str]:
    """Shell lines of a dry run of one small cell."""
    values = smoke()
    cell = {"sources": ["tiny-a"], "targets": ["tiny-a"], "samplers": ["pk"], "figures": ["comparison"], "title": title}
    kept = {key: values["experiments"]["smoke"][key] for key in ("models", "seeds", "metrics")}
    values["experiments"]["smoke"] = kept | cell
    values["datasets"]["drawn-tiny-a"] |= {"root": str(folder), "draw": None}
    values["backbones"]["tiny"] |= {"pretrained": str(folder / "weights.safetensors"), "pretrain": None}
    config = fresh.root / "hostile.yaml"
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    dry = fresh.snakemake("--dry-run", "--printshellcmds", config=str(config))
    assert dry.code == 0, dry.text[-3000:]
    marker = "Shell command: "
    lines = [line.removeprefix(marker) for line in dry.text.splitlines() if line.startswith(marker)]
    return [line for line in lines if line != "None"]


def run(fresh: Copy, lines: list[str]) -> list[list[str]]:
    """Run shell lines with a `dfgs` that notes its arguments; return these."""
    stub = fresh.root / "stub" / "dfgs"
    stub.parent.mkdir(exist_ok=True)
    environment = fresh.environment()
    stub.write_text(STUB.format(python="/usr/bin/env python3"), encoding="utf-8")
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    seen = fresh.root / "seen"
    seen.unlink(missing_ok=True)
    environment |= {"SEEN": str(seen), "PATH": f"{stub.parent}{os.pathsep}{environment['PATH']}"}
    for line in lines:
        log = re.findall(r"> (logs/[\w./-]+)", line)[-1]
        (fresh.root / log).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["bash", "-euo", "pipefail", "-c", line], cwd=fresh.root, env=environment, check=True)
    return [json.loads(line) for line in seen.read_text(encoding="utf-8").splitlines()]
