"""A configuration file as Snakemake would read it: laid over `config.yaml` beside it."""

from pathlib import Path
from typing import Any

import yaml

from dfgs.bases import lay_over
from dfgs.errors import DfgsError

DEFAULT = "config.yaml"


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration and lay it over `config.yaml` in its folder: maps are merged, all else is replaced.

    Raises `DfgsError` that names a file that is missing or no map of keys.
    """
    return dict(lay_over(_read(path.with_name(DEFAULT)), _read(path)))


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DfgsError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise DfgsError(f"{path}: expected a map of keys as in config/config.yaml")
    return values
