"""The configuration that a command line names: as Snakemake would read it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dfgs.bases import lay_over
from dfgs.config import Config
from dfgs.errors import DfgsError
from dfgs.provenance import PACKAGE_ROOT

DEFAULT = PACKAGE_ROOT / "config" / "config.yaml"


def read_given(files: Sequence[Path], settings: Sequence[str] = ()) -> Config:
    """Lay `files`, in order, over the checkout's default configuration, then `settings` (`key=value`, YAML).

    Maps are merged, all else is replaced, as by `--configfile` and `--config`. Raises `DfgsError` for a file that is
    missing or holds no map, a setting without `=`, and what `Config.parse` refuses.
    """
    values: dict[str, Any] = {}
    for path in (DEFAULT, *files):
        values = lay_over(values, _read(path))
    for text in settings:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise DfgsError(f"--config {text!r}: expected key=value, as in run='[main]'")
        values = lay_over(values, {key: _parse(f"--config {key}", value)})
    return Config.parse(values)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DfgsError(f"cannot read the configuration {path}: {error}") from error
    values = _parse(f"the configuration {path}", text)
    if not isinstance(values, dict):
        raise DfgsError(f"the configuration {path} holds no map of keys; see config/README.md")
    return values


def _parse(where: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DfgsError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
