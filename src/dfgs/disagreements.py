"""Where two samplers disagree: queries that one ranks right and the other wrong at rank 1, with their top lists.

`write_disagreements` leaves one JSON file per experiment, self-contained, sorted, the same for the same results:

- `experiment`; `most` and `length`: how many queries per block and direction, how many images per list at most;
- `blocks`, one per planned contrast, model, source, target and split:
  - `sampler`, `baseline`, `model`, `source`, `target`, `split`, `within` (true for the source's own test identities);
  - `seeds`: those that both were trained with. A sampler ranks a query *right* if its nearest image (after what the
    protocol removes) is of the same person for more than half of them, *wrong* if for less than half;
  - `queries`: how many have a match, as a sum of `both_right`, `both_wrong`, `only_sampler` (the sampler right, the
    baseline wrong), `only_baseline` and `undecided` (one of them is right for exactly half of the seeds);
  - `shown`: of the queries that only one ranks right the `most` with the largest difference in average precision:
    `query` (a name in `images`), `row` (its number, as `dfgs show ranked-lists --row` takes it), `right` ("sampler" or
    "baseline"), `votes` (for how many seeds each is right) and `average_precision` (a fraction, the mean over seeds),
    both `{"sampler": …, "baseline": …}`, `seed` (the lowest at which they disagree so) and `lists` of that seed's
    models, `{"sampler": […], "baseline": […]}` of `{"image": name, "right": bool}`, nearest first. Where the first
    places are tied, a list's first image may be right though the query counts as wrong;
- `images`: by name (dataset/file) `pid`, `camid` and `thumbnail`, a `data:` URI 48 × 96 or null: real people are shown
  only where the configuration says `real_people: true`, heads blurred;
- `without_lists`: trials (source/model/sampler/sN) whose features are no longer there (`lean`); where one of the two is
  among them, `lists` is null.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from dfgs.datasets import open_dataset
from dfgs.errors import DfgsError
from dfgs.evaluation_figures.ranked_lists import nearest
from dfgs.feature_sets import is_drawn_world, stored_features
from dfgs.feature_store import read_index, stored
from dfgs.grid import Trial
from dfgs.images import blur_head, read_rgb
from dfgs.metrics import PROTOCOLS
from dfgs.provenance import write_json

MOST, LENGTH = 5, 6
THUMBNAIL = (48, 96)
SIDES = ("sampler", "baseline")
OUTCOMES = ("both_right", "both_wrong", "only_sampler", "only_baseline", "undecided")
VIEW = ["target", "split"]
Entry = dict[str, Any]
Pair = tuple[Trial, Trial]
View = tuple[str, str]
"""A target and one of its splits."""


def write_disagreements(job: Entry, per_query: Iterable[Path], features: Path, output: Path) -> None:
    """Write what this module's docstring describes.

    `job` is that of `Grid.disagreements_job`, `per_query` the files of its trials in their order, `features` the folder
    of all models' features. Raises `DfgsError` for two models that were scored on different queries.
    """
    trials = [Trial(**trial) for trial in job["trials"]]
    rows = {trial: _read(path, job) for trial, path in zip(trials, per_query, strict=True)}
    cells = sorted({(trial.model, trial.source) for trial in trials})
    pairs = [_pairs(rows, model, source, contrast) for contrast in job.get("contrasts", ()) for model, source in cells]
    blocks = [block for found in pairs if found for block in _blocks(job, found, rows)]
    album = _Album(job)
    gone = _add_lists(blocks, album, features)
    found = {"blocks": blocks, "images": album.images, "without_lists": gone}
    write_json(output, {"experiment": job["experiment"], "most": MOST, "length": LENGTH, **found})


def _read(path: Path, job: Entry) -> pd.DataFrame:
    """Read the queries with a match of the experiment's targets: number in their view, right or not, and AP."""
    rows = pd.read_csv(path, usecols=[*VIEW, "query", "average_precision", "first_rank"])
    rows = rows[rows["target"].isin([target["name"] for target in job["targets"]])]
    rows = rows.assign(row=rows.groupby(VIEW).cumcount(), right=rows["first_rank"] == 1)
    return rows.dropna(subset="average_precision").drop(columns="first_rank")


def _pairs(known: Iterable[Trial], model: str, source: str, contrast: Sequence[str]) -> list[Pair]:
    """Pair the trials of a contrast (sampler, baseline) by seed, the lowest first."""
    first, second = (
        {t.seed: t for t in known if (t.model, t.source, t.sampler) == (model, source, name)} for name in contrast
    )
    return [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]


def _blocks(job: Entry, pairs: list[Pair], rows: Mapping[Trial, pd.DataFrame]) -> list[Entry]:
    """Compare two samplers on every view that their models were scored on; lists are still missing."""
    (first, second), seeds = pairs[0], [pair[0].seed for pair in pairs]
    joined = pd.concat([_join(pair, rows).assign(seed=pair[0].seed) for pair in pairs], ignore_index=True)
    blocks = []
    for (target, split), view in joined.groupby(VIEW):
        votes = count_votes(view)
        counts = {name: int((votes["outcome"] == name).sum()) for name in OUTCOMES}
        names = {"sampler": first.sampler, "baseline": second.sampler, "model": first.model, "source": first.source}
        place = {"target": target, "split": split, "within": [first.source, target] in job["within"]}
        shown = [_entry(row, view) for row in _choose(votes).itertuples()]
        blocks.append({**names, **place, "seeds": seeds, "queries": len(votes), **counts, "shown": shown})
    return blocks


def _join(pair: Pair, rows: Mapping[Trial, pd.DataFrame]) -> pd.DataFrame:
    """Put the rows of two models beside each other, measures with the suffix of their side."""
    first, second = (f"_{side}" for side in SIDES)
    both = rows[pair[0]].merge(
        rows[pair[1]], on=[*VIEW, "query", "row"], how="outer", suffixes=(first, second), indicator=True
    )
    alone = both[both["_merge"] != "both"]
    if len(alone):
        row, trial = alone.iloc[0], pair[int(alone.iloc[0]["_merge"] == "right_only")]
        raise DfgsError(
            f"{pair[0].path} and {pair[1].path} were scored on different queries: {row['query']} of target "
            f"{row['target']} (split {row['split']}) is only in {trial.path}; score both on the same images"
        )
    return both.drop(columns="_merge").astype({f"right_{side}": bool for side in SIDES})


def count_votes(view: pd.DataFrame) -> pd.DataFrame:
    """Reduce rows per query and seed (`query, row, seed, right_*, average_precision_*`) to one per query.

    Returns `query, row, right_*` (for how many seeds), `average_precision_*` (mean) and `outcome`, one of `OUTCOMES`.
    """
    sums = {f"right_{side}": "sum" for side in SIDES} | {f"average_precision_{side}": "mean" for side in SIDES}
    votes = view.groupby(["query", "row"], as_index=False).agg(sums)
    half = view["seed"].nunique() / 2
    first, second = (np.sign(votes[f"right_{side}"] - half) for side in SIDES)
    cases = [
        (first > 0) & (second > 0),
        (first < 0) & (second < 0),
        (first > 0) & (second < 0),
        (first < 0) & (second > 0),
    ]
    return votes.assign(outcome=np.select(cases, OUTCOMES[:4], OUTCOMES[4]))


def _choose(votes: pd.DataFrame) -> pd.DataFrame:
    """Choose the queries shown: of each direction `MOST`, those first whose average precisions are farthest apart."""
    apart = (votes["average_precision_sampler"] - votes["average_precision_baseline"]).abs()
    ordered = votes.assign(apart=apart).sort_values(["apart", "query"], ascending=[False, True])
    return pd.concat([ordered[ordered["outcome"] == f"only_{side}"].head(MOST) for side in SIDES])


def _entry(row: Any, view: pd.DataFrame) -> Entry:
    """Describe a query (`row` of `count_votes`) on which one side is right; `view` has its rows by seed."""
    right = row.outcome.removeprefix("only_")
    wrong = SIDES[1 - SIDES.index(right)]
    # With a majority each way there is a seed at which they disagree so.
    is_so = (view["query"] == row.query) & view[f"right_{right}"] & ~view[f"right_{wrong}"]
    return {
        **{"query": row.query, "row": row.row, "right": right, "seed": int(view[is_so]["seed"].min())},
        "votes": {side: int(getattr(row, f"right_{side}")) for side in SIDES},
        "average_precision": {side: getattr(row, f"average_precision_{side}") for side in SIDES},
        "lists": None,
    }


def _add_lists(blocks: list[Entry], album: "_Album", features: Path) -> list[str]:
    """Name the queries and fill in their lists; return the trials (as paths) whose features are no longer there."""
    asked: dict[tuple[Trial, View], list[tuple[Entry, str]]] = {}
    gone: set[str] = set()
    for block in blocks:
        view = block["target"], block["split"]
        for entry in block["shown"]:
            trials = {s: Trial(block["source"], block["model"], block[s], entry["seed"]) for s in SIDES}
            missing = {t.path for t in trials.values() if not _is_stored(features / t.path / "index.json")}
            gone |= missing
            entry["query"] = album.add(*view, "query", entry["row"])
            if not missing:
                entry["lists"] = {}
                for side, trial in trials.items():
                    asked.setdefault((trial, view), []).append((entry, side))
    for (trial, view), entries in sorted(asked.items(), key=lambda item: item[0]):
        found = _nearest(features / trial.path / "index.json", album, view, [entry["row"] for entry, _ in entries])
        for (entry, side), images in zip(entries, found, strict=True):
            entry["lists"][side] = images
    return sorted(gone)


def _is_stored(index: Path) -> bool:
    """Tell whether a model's features are all there."""
    return index.is_file() and all(stored(index.with_name(name)) for name in read_index(index)["features"].values())


def _nearest(index: Path, album: "_Album", view: View, rows: list[int]) -> list[list[Entry]]:
    """Return the nearest images of query rows by one model, each with whether it is of the query's person."""
    target = album.targets[view[0]]
    features = stored_features(index, read_index(index), target["dataset"], view[1])
    lists = nearest(features, PROTOCOLS[target["protocol"]], features.distance, rows, LENGTH)
    pids, people = features.gallery.pids, features.query.pids[rows]
    return [
        [{"image": album.add(*view, "gallery", i), "right": bool(pids[i] == pid)} for i in found.tolist()]
        for pid, found in zip(people, lists, strict=True)
    ]


class _Album:
    """The images that are named, each once; `images` is the file's part of that name."""

    def __init__(self, job: Entry) -> None:
        self.targets = {target["name"]: target for target in job["targets"]}
        self.shows_real_people = job.get("real_people", False)
        self.images: dict[str, Entry] = {}
        self._views: dict[tuple[str, str, str], Any] = {}

    def add(self, target: str, split: str, view: str, row: int) -> str:
        """Add the image at a row of a view and return its name."""
        dataset, images = self._open(target, split, view)
        path = images.paths[row]
        name = f"{dataset.name}/{path.relative_to(dataset.root).as_posix()}"
        if name not in self.images:
            labels = {"pid": int(images.pids[row]), "camid": int(images.camids[row])}
            self.images[name] = {**labels, "thumbnail": self._thumbnail(path, is_drawn_world(dataset.root))}
        return name

    def _open(self, target: str, split: str, view: str) -> Any:
        key = (target, split, view)
        if key not in self._views:
            dataset = open_dataset(self.targets[target]["dataset"])
            self._views[key] = dataset, getattr(dataset, view)(split)
        return self._views[key]

    def _thumbnail(self, path: Path, is_drawn: bool) -> str | None:
        if not (is_drawn or self.shows_real_people):
            return None
        small = read_rgb(path).resize(THUMBNAIL, Image.Resampling.BILINEAR)
        data = io.BytesIO()
        (small if is_drawn else blur_head(small)).save(data, "WEBP", quality=75)
        return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
