"""A Process Run Crate (RO-Crate 1.1) of the results: every file with its digest, and the actions that made them."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dfgs.config import Config
from dfgs.provenance import commit, read_json, write_json

CRATE = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
CONTEXT = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}]
KINDS = {
    ".csv": "text/csv",
    ".gz": "application/gzip",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".tex": "application/x-tex",
}
"""Files that belong to a crate. Images of datasets and features do not: these can be made again, those are not ours."""
GROWING = ("ledger.csv", "attempts", CRATE)
"""What goes on growing after the crate is written, and the crate."""
Entity = dict[str, Any]


def write_crate(config: Config, results: Path) -> None:
    """Write `ro-crate-metadata.json` over the files that are in `results` now."""
    paths = crate_files(results)
    newest = max(path.stat().st_mtime for path in paths)
    entities = [_file(path, results) for path in paths]
    actions = [_run_action(entities), *_training_actions(results, {entity["@id"] for entity in entities})]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": "; ".join(config.experiments[name].title for name in config.run),
        "description": "Results of a dfgs grid: models, scores, tables, figures and the page that sums them up.",
        "datePublished": datetime.fromtimestamp(newest, UTC).date().isoformat(),
        "license": "The results belong to whoever ran the grid; images of a real dataset keep that dataset's terms.",
        "conformsTo": {"@id": PROFILE},
        "hasPart": _links(entity["@id"] for entity in entities),
        "mentions": _links(action["@id"] for action in actions),
    }
    write_json(results / CRATE, {"@context": CONTEXT, "@graph": [*_fixed(), root, *entities, *actions]})


def crate_files(results: Path) -> list[Path]:
    """List the files that a crate of `results` describes, sorted; hidden files and dataset images are none."""
    found = (path for path in results.rglob("*") if path.suffix in KINDS and path.is_file())
    parts = ((path, path.relative_to(results).parts) for path in found)
    return sorted(
        path
        for path, names in parts
        if names[0] not in GROWING
        and not any(name.startswith(".") for name in names)
        and not (names[0] == "worlds" and len(names) > 2)
    )


def sha256(path: Path) -> str:
    """Return a file's whole SHA-256, as a crate has it."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _fixed() -> list[Entity]:
    """Describe the descriptor itself, the profile, and the program that made everything."""
    descriptor = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }
    profile = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    program = {
        "@id": "#dfgs",
        "@type": "SoftwareApplication",
        "name": "dfgs",
        "softwareVersion": f"{version('dfgs')} (commit {commit()})",
        "license": {"@id": "https://spdx.org/licenses/Apache-2.0"},
    }
    return [descriptor, profile, program]


def _file(path: Path, results: Path) -> Entity:
    return {
        "@id": quote(path.relative_to(results).as_posix()),
        "@type": "File",
        "name": path.name,
        "encodingFormat": KINDS[path.suffix],
        "contentSize": str(path.stat().st_size),
        "sha256": sha256(path),
    }


def _run_action(files: list[Entity]) -> Entity:
    """Describe the whole run: from the configuration to everything that is no stage's own."""
    made = [f["@id"] for f in files if f["@id"] != "config.json" and not f["@id"].startswith("runs/")]
    command = "snakemake --cores 2 --configfile results/config.json -- all"
    return _action("#run", "the grid", command, ["config.json"], made)


def _training_actions(results: Path, known: set[str]) -> list[Entity]:
    """Describe every training by its record: prompts in; weights, curve, audit and record out."""
    actions = []
    for path in sorted(results.glob("runs/**/record.json")):
        folder = path.parent.relative_to(results).as_posix()
        trial, record = folder.removeprefix("runs/"), read_json(path)
        source, model, _, seed = trial.split("/")
        prompts = f"prompts/{source}/{model}/{seed}.safetensors"
        made = sorted(name for name in known if name.startswith(f"{folder}/"))
        command = f"snakemake --cores 1 --configfile results/config.json -- results/{folder}/weights.safetensors"
        action = _action(f"#training-{trial.replace('/', '-')}", f"training {trial}", command, [prompts], made)
        actions.append(action | {"description": f"{action['description']} (commit {record['commit']})"})
    return actions


def _action(ident: str, name: str, command: str, used: list[str], made: list[str]) -> Entity:
    return {
        "@id": ident,
        "@type": "CreateAction",
        "name": name,
        "description": command,
        "instrument": {"@id": "#dfgs"},
        "object": _links(used),
        "result": _links(made),
    }


def _links(names: Iterable[str]) -> list[Entity]:
    return [{"@id": name} for name in names]
