"""Features of a query and a gallery with their labels, from anybody's file or from a trained model's stored ones."""

import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfgs.datasets import open_dataset
from dfgs.datasets.base import Images
from dfgs.errors import DfgsError, did_you_mean
from dfgs.feature_store import load_features, read_index
from dfgs.metrics import Distance, Embeddings, Protocol, unit_rows
from dfgs.provenance import digest_json, read_json

Arrays = Mapping[str, NDArray[Any]]
Keys = tuple[str, str, str]

VIEWS = ("query", "gallery")
TWO_SETS = tuple(f"{view}_{what}" for view in VIEWS for what in ("features", "pids", "camids"))
ONE_SET = ("features", "pids", "camids")
PATHS = ("query_paths", "gallery_paths", "paths")
EXTRAS = ("domains", "text")
"""Arrays of an all-against-all file that `dfgs audit` takes."""
MAT = ("query_f", "query_label", "query_cam", "gallery_f", "gallery_label", "gallery_cam")
MAT_NOTES = ("__header__", "__version__", "__globals__")
WORLDS = ("results", "worlds")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSet:
    """What is scored and drawn: a query and a gallery, and where their images are.

    `query_paths`, `gallery_paths`: an image file per row, or empty where the file names none; `root` is the folder of
    the dataset that they belong to. `distance` is what the features are compared by unless the caller says otherwise;
    `is_normalised` tells that rows were scaled to length 1 on reading. `is_all_against_all`: every image is query and
    gallery. `is_drawn`: the images show no real people.
    `known` is what is known of the images and the features: it enters the fingerprint of a number, where there is
    nothing as a digest of the labels.
    `extras`: the arrays of `EXTRAS` that the file has, not checked.
    """

    name: str
    query: Embeddings
    gallery: Embeddings
    query_paths: tuple[Path, ...] = ()
    gallery_paths: tuple[Path, ...] = ()
    root: Path = Path()
    distance: Distance = "cosine"
    is_normalised: bool = False
    is_all_against_all: bool = False
    is_drawn: bool = False
    known: Mapping[str, Any] = field(default_factory=dict)
    extras: Arrays = field(default_factory=dict)

    def fingerprint(self, protocol: Protocol, distance: Distance, **settings: Any) -> str:
        """Return the protocol fingerprint of a number of these features; `settings` as of `Protocol.fingerprint`."""
        rows = "length-1" if self.is_normalised else "as-they-are"
        known = self.known or {"labels": _digest_labels(self.query, self.gallery)}
        return protocol.fingerprint(distance=distance, rows=rows, **known, **settings)

    def check(self, protocol: Protocol) -> None:
        """Raise `DfgsError` if under `protocol` every image would find itself."""
        if self.is_all_against_all and not protocol.removes_same_camera:
            raise DfgsError(
                f"{self.name}: under protocol {protocol.name!r} every image of an all-against-all file would find "
                f"itself; use a protocol that removes the same camera, or give {', '.join(TWO_SETS)}"
            )


def read_feature_set(path: Path, view: str | None = None) -> FeatureSet:
    """Read features by the name's suffix; float16, float64, int8 and uint8 become float32, which is logged.

    - `.npz`: `query_features` (q, d), `query_pids` (q,), `query_camids` (q,), `gallery_features` (g, d),
      `gallery_pids`, `gallery_camids`; or `features`, `pids`, `camids`, all against all, and the arrays of `EXTRAS`.
      `query_paths` and `gallery_paths` (or `paths`), text, name image files, relative ones from the file's folder.
    - `.mat` (Market-1501 style, version 7 or older): `query_f`, `query_label`, `query_cam`, `gallery_f`,
      `gallery_label`, `gallery_cam`.
    - `.json`: the index of `dfgs embed`; `view` is `DATASET/SPLIT` and may be left out where there is one.

    Raises `DfgsError` for another suffix, a file that cannot be read, other keys (expected against found), pickled
    objects (refused), labels that are no whole numbers, and whatever `Embeddings` refuses: shapes that disagree, no
    rows, NaN or infinity in a row, which is named.
    """
    readers: dict[str, Callable[[], FeatureSet]] = {
        ".npz": lambda: _read_npz(path),
        ".mat": lambda: _read_mat(path),
        ".json": lambda: _read_index(path, view),
    }
    if path.suffix not in readers:
        raise DfgsError(f"{path}: the suffix is {path.suffix!r}; expected one of {', '.join(readers)}")
    if not path.is_file():
        raise DfgsError(f"{path}: no such file; expected features")
    if view is not None and path.suffix != ".json":
        raise DfgsError(f"{path}: {view!r} chooses a view of an index.json; a features file has one, leave it out")
    return readers[path.suffix]()


def _read_npz(path: Path) -> FeatureSet:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = [name for name in archive.files if name in (*TWO_SETS, *ONE_SET, *PATHS, *EXTRAS)]
            found = list(archive.files)
            arrays = {name: _npz_array(path, archive, name) for name in names}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DfgsError(f"cannot read {path}: {error}; expected a .npz of plain arrays") from error
    if set(TWO_SETS) <= set(found):
        _tell_ignored(path, found, (*TWO_SETS, *PATHS[:2]))
        features = _two_sets(path, arrays, TWO_SETS)
        query, gallery = (_paths(path, arrays, f"{v}_paths", features) for v in ("query", "gallery"))
    elif set(ONE_SET) <= set(found):
        _tell_ignored(path, found, (*ONE_SET, "paths", *EXTRAS))
        images = _embeddings(path, arrays, ("features", "pids", "camids"), "images")
        extras = {name: arrays[name] for name in EXTRAS if name in arrays}
        features = FeatureSet(path.stem, images, images, is_all_against_all=True, extras=extras)
        query = gallery = _paths(path, arrays, "paths", features)
    else:
        raise _other_keys(path, f"{', '.join(TWO_SETS)}; or {', '.join(ONE_SET)} (all against all)", found)
    folders = {image.parent for image in (*query, *gallery)}
    drawn = bool(folders) and all(is_drawn_world(folder) or is_drawn_world(folder.parent) for folder in folders)
    return replace(features, query_paths=query, gallery_paths=gallery, is_drawn=drawn)


def _npz_array(path: Path, archive: Any, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = archive[name]
    except ValueError as error:
        if "pickle" in str(error) or "Object arrays" in str(error):
            raise DfgsError(
                f"{path}: {name!r} holds pickled objects, which can run code and are refused; save plain arrays"
            ) from error
        raise
    return array


def _read_mat(path: Path) -> FeatureSet:
    import scipy.io

    try:
        arrays = scipy.io.loadmat(path)
    except NotImplementedError as error:
        raise DfgsError(f"cannot read {path}: it is MATLAB 7.3 (HDF5); save it with -v7") from error
    except Exception as error:  # a damaged file makes scipy raise whatever it stumbles over
        raise DfgsError(f"cannot read {path}: {error}; expected a MATLAB file of version 7 or older") from error
    found = [name for name in arrays if name not in MAT_NOTES]
    if not set(MAT) <= set(found):
        raise _other_keys(path, ", ".join(MAT), found)
    objects = [name for name in MAT if arrays[name].dtype.kind not in "fiu"]
    if objects:
        raise DfgsError(f"{path}: {objects[0]!r} holds {arrays[objects[0]].dtype} values; expected a matrix of numbers")
    _tell_ignored(path, found, MAT)
    return _two_sets(path, arrays, MAT)


def _two_sets(path: Path, arrays: Arrays, keys: tuple[str, ...]) -> FeatureSet:
    query = _embeddings(path, arrays, (keys[0], keys[1], keys[2]), "query")
    return FeatureSet(path.stem, query, _embeddings(path, arrays, (keys[3], keys[4], keys[5]), "gallery"))


def _embeddings(path: Path, arrays: Arrays, keys: Keys, view: str) -> Embeddings:
    pids, camids = (_whole_numbers(path, key, arrays[key]) for key in keys[1:])
    return Embeddings(arrays[keys[0]], pids, camids, name=f"{view} of {path}")


def _whole_numbers(path: Path, key: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return labels as a vector of integers: MATLAB keeps vectors as matrices and whole numbers as doubles."""
    if values.ndim == 2 and 1 in values.shape:
        values = values.ravel()
    if values.dtype.kind != "f":
        return values
    wrong = np.flatnonzero(~(np.isfinite(values) & (values == np.floor(values))))
    if wrong.size:
        raise DfgsError(f"{path}: {key} row {wrong[0]} is {values.ravel()[wrong[0]]}; expected a whole number")
    return values.astype(np.int64)


def _paths(path: Path, arrays: Arrays, key: str, features: FeatureSet) -> tuple[Path, ...]:
    if key not in arrays:
        return ()
    count = len(features.query if key == "query_paths" else features.gallery)
    if arrays[key].dtype.kind != "U" or arrays[key].shape != (count,):
        raise DfgsError(
            f"{path}: {key} have shape {arrays[key].shape} and type {arrays[key].dtype}; expected {count} texts"
        )
    return tuple(path.parent / name for name in arrays[key].tolist())


def _other_keys(path: Path, expected: str, found: list[str]) -> DfgsError:
    return DfgsError(f"{path}: expected the keys {expected}; found {', '.join(found) or 'none'}")


def _tell_ignored(path: Path, found: list[str], known: tuple[str, ...]) -> None:
    ignored = [name for name in found if name not in known]
    if ignored:
        log.info("%s: not used: %s", path, ", ".join(ignored))


def _read_index(path: Path, view: str | None) -> FeatureSet:
    index = read_index(path)
    parts = {f"{part['name']}/{split}": (part, split) for part in index["datasets"] for split in part["splits"]}
    if view is None and len(parts) > 1:
        raise DfgsError(f"{path}: holds {', '.join(sorted(parts))}; choose one with --of")
    chosen = view or next(iter(parts))
    if chosen not in parts:
        raise DfgsError(f"{path}: no features are called {chosen!r}{did_you_mean(chosen, parts)}")
    return stored_features(path, index, *parts[chosen])


def stored_features(path: Path, index: Mapping[str, Any], part: dict[str, Any], split: str) -> FeatureSet:
    """Return the stored features of one split of a dataset (`part` describes it) that the index at `path` names.

    Raises `DfgsError` where it names none, and for features of another number of images.
    """
    dataset = open_dataset(part)
    keys = {view: f"{dataset.name}/{split}/{view}" for view in VIEWS}
    missing = [key for key in keys.values() if key not in index["features"]]
    if missing:
        raise DfgsError(f"{path}: holds no features of {missing[0]}; run `dfgs embed` on this target first")
    query, gallery = dataset.query(split), dataset.gallery(split)

    def embeddings(view: str, images: Images) -> Embeddings:
        features = load_features(file := path.with_name(index["features"][keys[view]]))
        rows = unit_rows(features) if index["normalise"] else features
        return Embeddings(rows, images.pids, images.camids, name=str(file))

    return FeatureSet(
        "/".join([*path.resolve().parts[-5:-1], dataset.name, split]),
        embeddings("query", query),
        embeddings("gallery", gallery),
        query.paths,
        gallery.paths,
        dataset.root,
        distance=index["distance"],
        is_normalised=index["normalise"],
        is_drawn=is_drawn_world(dataset.root),
        known={
            "dataset": digest_json([index["images"][key] for key in keys.values()]),
            "split": split,
            **index["settings"],
        },
    )


def _digest_labels(*sets: Embeddings) -> str:
    return digest_json([sorted(zip(e.pids.tolist(), e.camids.tolist(), strict=True)) for e in sets])


def is_drawn_world(folder: Path) -> bool:
    """Tell whether a folder lies among the drawn worlds or the manifest of one stands beside it."""
    parts = folder.resolve().parts
    if WORLDS in pairwise(parts):
        return True
    manifest = folder.with_name(f"{folder.name}.json")
    if not manifest.is_file():
        return False
    found = read_json(manifest)
    return isinstance(found, dict) and {"digest", "images", "spec"} <= set(found)
