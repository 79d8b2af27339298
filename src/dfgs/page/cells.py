"""The name of a number: `main/a/b/small-dfgs/pk/s0/mAP`, what the page prints and `dfgs reproduce` takes."""

import re
from dataclasses import dataclass

import pandas as pd

from dfgs.errors import DfgsError, did_you_mean
from dfgs.results import REFERENCE
from dfgs.stats import AVERAGE

FORM = (
    "EXPERIMENT/SOURCE/TARGET/MODEL/SAMPLER/sSEED/METRIC, as in main/a/b/small-dfgs/pk/s0/mAP; TARGET:SPLIT for one "
    "split, no sSEED for all seeds, average in place of SOURCE/TARGET"
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A number: of one seed, or (None) the mean over seeds; of one split, or ("") the mean over a target's splits.

    Source and target are those of `AVERAGE` for the mean over the cross-domain targets.

    >>> str(Cell("main", "a", "b", "", "small", "pk", 0, "mAP"))
    'main/a/b/small/pk/s0/mAP'
    """

    experiment: str
    source: str
    target: str
    split: str
    model: str
    sampler: str
    seed: int | None
    metric: str

    @classmethod
    def parse(cls, text: str) -> "Cell":
        """Read a name; an arrow (`→` or `->`) may stand between source and target. Raises `DfgsError`."""
        experiment, *parts = re.split("/|→|->", text)
        place, rest = (["", parts[0]], parts[1:]) if parts[:1] == [AVERAGE[1]] else (parts[:2], parts[2:])
        seed = None
        if len(rest) == 4 and (found := re.fullmatch("s([0-9]{1,18})", rest[2])):
            seed = int(found[1])
            del rest[2]
        if len(rest) != 3 or not all([experiment, place[1], *rest]):
            raise DfgsError(f"cell {text!r}: expected {FORM}")
        target, _, split = place[1].partition(":")
        return cls(experiment, place[0], target, split, rest[0], rest[1], seed, rest[2])

    def __str__(self) -> str:
        target = f"{self.target}:{self.split}" if self.split else self.target
        seed = "" if self.seed is None else f"s{self.seed}"
        parts = (self.experiment, self.source, target, self.model, self.sampler, seed, self.metric)
        return "/".join(part for part in parts if part)

    @property
    def command(self) -> str:
        """The command that makes the number again."""
        return f"dfgs reproduce {self}"

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the long rows that the number is made of; the untuned backbone's belong to any source.

        An average is over all transfers of the sampler, within-domain ones included, whoever leaves these out. Raises
        `DfgsError` naming the part of the name that no row has.
        """
        wanted = {"experiment": self.experiment, "model": self.model, "sampler": self.sampler, "metric": self.metric}
        if (self.source, self.target) != AVERAGE:
            wanted |= {"target": self.target} | ({} if self.sampler == REFERENCE else {"source": self.source})
        wanted |= {"split": self.split} if self.split else {}
        for column, value in wanted.items():
            found = frame[frame[column] == value]
            if found.empty:
                near = did_you_mean(value, frame[column].unique())
                raise DfgsError(f"cell {self}: there is no {column} {value!r} among these results{near}")
            frame = found
        if self.seed is not None and self.sampler != REFERENCE:
            frame = frame[frame["seed"] == self.seed]
        if frame.empty:
            raise DfgsError(f"cell {self}: there is no seed {self.seed} among these results")
        return frame
