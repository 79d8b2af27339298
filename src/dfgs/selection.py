"""Model selection: the candidate that the source's validation identities choose, and the one that the target would.

The second, `oracle`, has seen the labels that it is scored with. It is no result; it tells what choosing could gain.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dfgs.datasets import open_dataset
from dfgs.feature_sets import stored_features
from dfgs.feature_store import candidate
from dfgs.metrics import PROTOCOLS
from dfgs.results import ORACLE, PLAIN, RANKS, SOURCE_VAL
from dfgs.score_files import Extras, Score, score

Row = dict[str, Any]


class Selection:
    """The candidates of one training, of which the last model is one.

    `selection` is that of a score job (epochs of the candidates, the last epoch, the source's datasets), `path` and
    `index` what `dfgs embed` wrote. `validation` holds the mAP (percent) by epoch, the mean over the source's datasets.
    """

    def __init__(self, selection: Mapping[str, Any], path: Path, index: dict[str, Any], extras: Extras) -> None:
        self.path, self.extras = path, extras
        self.indices = {epoch: candidate(index, epoch) for epoch in selection["epochs"]} | {selection["last"]: index}
        self.validation = {epoch: self._validate(found, selection) for epoch, found in self.indices.items()}

    @property
    def chosen(self) -> int:
        """Epoch of the candidate with the highest validation mAP, the later of equal ones."""
        return _best(self.validation)

    def rows(self, target: Mapping[str, Any]) -> list[Row]:
        """Score a target with every candidate and return long rows of the two that are chosen, by split.

        Names of metrics end in `_source_val` and `_oracle`; `epoch` with these endings tells which candidate it is. The
        fingerprint tells how it was chosen, and among which.
        """
        scores = {epoch: self._score(found, target) for epoch, found in self.indices.items()}
        means = {epoch: float(np.mean([s.values["mAP"] for s in of.values()])) for epoch, of in scores.items()}
        among = sorted(scores)
        rows = []
        for ending, epoch in ((SOURCE_VAL, self.chosen), (ORACLE, _best(means))):
            for split, found in scores[epoch].items():
                words = {"checkpoint": ending.removeprefix("_").replace("_", "-"), "candidates": among}
                protocol = found.features.fingerprint(found.protocol, found.distance, **words)
                values = {name + ending: found.values[name] for name in PLAIN} | {f"epoch{ending}": epoch}
                place = {"split": split, "protocol": protocol}
                rows += [{**place, "metric": name, "value": value} for name, value in values.items()]
        return rows

    def _score(self, found: dict[str, Any], target: Mapping[str, Any]) -> dict[str, Score]:
        sets = {split: stored_features(self.path, found, target["dataset"], split) for split in target["splits"]}
        protocol = PROTOCOLS[target["protocol"]]
        return {split: score(images, protocol, images.distance, RANKS, self.extras) for split, images in sets.items()}

    def _validate(self, found: dict[str, Any], selection: Mapping[str, Any]) -> float:
        parts = [
            {"dataset": part, "splits": ["val"], "protocol": open_dataset(part).protocol}
            for part in selection["datasets"]
        ]
        return float(np.mean([self._score(found, part)["val"].values["mAP"] for part in parts]))


def _best(values: Mapping[int, float]) -> int:
    return max(values, key=lambda epoch: (values[epoch], epoch))
