"""What the command audits: images with features from a file, and samplers from the command line or a configuration."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from dfgs.audit.batches import identity_means
from dfgs.config import check_sampler
from dfgs.errors import DfgsError, did_you_mean
from dfgs.feature_sets import FeatureSet, read_feature_set
from dfgs.metrics import PROTOCOLS
from dfgs.samplers import REGISTRY
from dfgs.samplers._labels import Labels
from dfgs.samplers.base import BatchSampler

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """Images as if they were trained on: features (n, d), and text features (N, e), one row per identity.

    `has_text`: the text features are given; otherwise the identities' mean image features stand in for them.
    """

    name: str
    labels: Labels
    features: NDArray[np.float32]
    text: NDArray[Any]
    has_text: bool


class Setting(NamedTuple):
    """A sampler under the name it is shown by: its class and arguments."""

    name: str
    kind: str
    arguments: dict[str, Any]

    def build(self, labels: Labels, **common: int) -> BatchSampler:
        """Build the sampler; `DfgsError` for impossible settings names it."""
        try:
            sampler: BatchSampler = REGISTRY.load(self.kind)(labels, **common, **self.arguments)
        except DfgsError as error:
            raise DfgsError(f"sampler {self.name}: {error}") from error
        return sampler


def read_training_set(path: Path, view: str | None = None) -> TrainingSet:
    """Read what `dfgs.feature_sets.read_feature_set` reads as training images.

    All images of an all-against-all `.npz`, with its `domains` (n,) and `text` (N, e), rows in the order of the sorted
    pids, where it has them; of other files the query and the gallery together, without junk and distractors. Raises
    `DfgsError` for what that reader refuses, a zero row, and domains or text of another number of rows.
    """
    found = read_feature_set(path, view)
    parts = (found.gallery,) if found.is_all_against_all else (found.query, found.gallery)
    for part in parts:
        zero = np.flatnonzero(part.squared_norms == 0)
        if len(zero):
            raise DfgsError(f"{part.name}: feature row {zero[0]} is all zero ({len(zero)} such); it has no direction")
    features, pids, camids = (np.concatenate([getattr(p, n) for p in parts]) for n in ("features", "pids", "camids"))
    if not found.is_all_against_all:
        rule = PROTOCOLS["market1501"]
        kept = ~np.isin(pids, [*rule.junk_pids, *rule.distractor_pids])
        log.info("%s: %d of %d images, without junk and distractors", found.name, kept.sum(), len(pids))
        features, pids, camids = features[kept], pids[kept], camids[kept]
    domains = found.extras.get("domains", np.zeros(len(pids), dtype=np.int64))
    labels = Labels(pids, camids, domains)
    return TrainingSet(found.name, labels, features, *_text(path, labels, found, features))


def _text(
    path: Path, labels: Labels, found: FeatureSet, features: NDArray[np.float32]
) -> tuple[NDArray[np.float32], bool]:
    if "text" not in found.extras:
        return identity_means(labels, features), False
    text = found.extras["text"]
    number = len(labels.identities)
    if text.ndim != 2 or len(text) != number or text.dtype.kind != "f":
        raise DfgsError(
            f"{path}: text has shape {text.shape} and type {text.dtype}; give floats, one row for each of {number} pids"
        )
    return text.astype(np.float32), True


def read_settings(specs: Sequence[str], config: Path | None = None) -> list[Setting]:
    """Find samplers by `specs`: a name in the configuration's `samplers`, a class, or `class:argument=value,…`.

    Without specs, all samplers of the configuration. Raises `DfgsError` for names and arguments that do not exist, with
    the nearest that do, for a name that is given twice, and where there is no sampler at all.
    """
    known = {} if config is None else _read_samplers(config)
    wanted = list(specs) or list(known)
    if not wanted:
        raise DfgsError("no sampler to audit; give --sampler or --config")
    twice = [name for name in wanted if wanted.count(name) > 1]
    if twice:
        raise DfgsError(f"--sampler {twice[0]} is given {wanted.count(twice[0])} times; give it once")
    return [_setting(name, known, config) for name in wanted]


def _read_samplers(config: Path) -> dict[str, dict[str, Any]]:
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DfgsError(f"cannot read {config}: {' '.join(str(error).split())}") from error
    found = values.get("samplers") if isinstance(values, dict) else None
    if not isinstance(found, dict) or not all(isinstance(setting, dict) for setting in found.values()):
        raise DfgsError(f"{config}: expected a configuration with a map of samplers")
    return {str(name): setting for name, setting in found.items()}


def _setting(spec: str, known: dict[str, dict[str, Any]], config: Path | None) -> Setting:
    if spec in known:
        where, kind = f"{config}: samplers.{spec}", str(known[spec].get("class", spec))
        # `features` says where a training takes its graph's features from; here they are those of the file.
        arguments = {key: value for key, value in known[spec].items() if key not in ("class", "features")}
    else:
        (kind, _, rest), where = spec.partition(":"), f"--sampler {spec}"
        names = {*known, *REGISTRY.names()}
        if kind not in REGISTRY.names():
            raise DfgsError(f"{where}: no sampler is called {kind!r}{did_you_mean(kind, names)}")
        arguments = dict(_argument(where, part) for part in rest.split(",") if part)
    check_sampler(where, kind, set(arguments))
    return Setting(spec, kind, arguments)


def _argument(where: str, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise DfgsError(f"{where}: {text!r}; expected argument=value, as in dfgs:graph=text,neighbours=5")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise DfgsError(f"{where}: {name} is {value!r}; expected a number or a word") from error
