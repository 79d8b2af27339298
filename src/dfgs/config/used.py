"""Configuration files as Snakemake reads them, and the part of a configuration that decides its results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dfgs.bases import lay_over
from dfgs.config import Config, used_datasets
from dfgs.errors import DfgsError
from dfgs.provenance import PACKAGE_ROOT

DEFAULT = PACKAGE_ROOT / "config" / "config.yaml"


def read_config(paths: Sequence[Path]) -> Config:
    """Read the default configuration with `paths` laid over it, one after the other, as `--configfile` does.

    Maps are merged, anything else is replaced. Raises `DfgsError` for a file that is missing or no map, and whatever
    `Config.parse` refuses.
    """
    values: dict[str, Any] = {}
    for path in (DEFAULT, *paths):
        values = lay_over(values, _read(path))
    return Config.parse(values)


def used(config: Config) -> dict[str, Any]:
    """Return what the experiments in `run` use, as a complete configuration of its own; the same jobs come from it."""
    values = config.model_dump(mode="json", by_alias=True)
    running = [values["experiments"][name] for name in values["run"]]
    names = {key: {n for e in running for n in e[key]} for key in ("sources", "targets", "samplers", "models")}
    names["experiments"], names["datasets"] = set(values["run"]), used_datasets(config)
    names["backbones"] = {values["models"][name]["backbone"] for name in names["models"]}
    kept = {key: {name: values[key][name] for name in sorted(chosen)} for key, chosen in names.items()}
    return values | kept


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DfgsError(f"cannot read the configuration {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise DfgsError(f"the configuration {path} holds no map of keys; see config/README.md")
    return values
