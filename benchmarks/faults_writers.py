"""Every kind of writer in the package, with small data of two versions, for `faults_files.py`."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from safetensors.torch import save
from torch import Tensor, tensor

from dfgs.doctor.findings import Finding, write_findings
from dfgs.drawn.world import DomainSpec, publish_domain
from dfgs.feature_store import store_features
from dfgs.figures import base
from dfgs.packs.files import write_pack
from dfgs.per_query import write_queries
from dfgs.provenance import whole_file, write_bytes, write_json, write_text
from dfgs.rendering import Entry, Table
from dfgs.rendering import write as write_table
from dfgs.results import write_metrics
from dfgs.runs.ledger import write_ledger

State = dict[str, str | None]
SIZE = 60_000


@dataclass(frozen=True)
class Writer:
    """A writer: `write(folder, version)` publishes `outputs` into `folder`.

    `may_be_absent`: an earlier artefact may be gone for a moment, but what is there is whole (a drawn world, which its
    manifest describes: the manifest goes first and comes last).
    """

    name: str
    outputs: tuple[str, ...]
    write: Callable[[Path, int], None]
    may_be_absent: bool = False

    def description(self, folder: Path) -> set[str | None]:
        """Digest the file that describes a folder while it stands; of other writers nothing."""
        return {_digest(folder / self.outputs[-1])} if self.may_be_absent else set()

    def state(self, folder: Path) -> State:
        """Digest what is published, by output."""
        return {name: _digest(folder / name) for name in self.outputs}

    def expected(self, folder: Path) -> State:
        """Digest a folder that does not change, once."""
        if folder not in _known:
            _known[folder] = self.state(folder)
        return _known[folder]


_known: dict[Path, State] = {}


def _digest(path: Path) -> str | None:
    try:
        if path.is_dir():
            files = sorted(each for each in path.rglob("*") if each.is_file())
            parts = [f"{each.relative_to(path)} {hashlib.sha256(each.read_bytes()).hexdigest()}" for each in files]
            return hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _numbers(version: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(version).standard_normal(shape, dtype=np.float32)


def _text(folder: Path, version: int) -> None:
    write_text(folder / "curve.csv", f"{version}," * (SIZE // 2))


def _json(folder: Path, version: int) -> None:
    write_json(folder / "record.json", [version] * (SIZE // 4))


def _metrics(folder: Path, version: int) -> None:
    same = {"experiment": "e", "source": "a", "target": "b", "split": "test", "model": "m", "sampler": "pk"}
    same |= {"metric": "mAP", "protocol": "p", "commit": "c", "versions": "v"}
    write_metrics(
        [{**same, "seed": seed, "value": version / (seed + 1)} for seed in range(900)], folder / "metrics.csv"
    )


def _queries(folder: Path, version: int) -> None:
    write_queries(pd.DataFrame({"x": _numbers(version, SIZE // 8)}), folder / "per_query.csv.gz")


def _features(folder: Path, version: int) -> None:
    store_features(_numbers(version, 200, 100), folder / "features.npy")


def _source_features(folder: Path, version: int) -> None:
    with whole_file(folder / "train.npz") as partial, partial.open("wb") as handle:
        np.savez(handle, features=_numbers(version, 200, 100))


def _weights(folder: Path, version: int) -> None:
    rows: Tensor = tensor(_numbers(version, 200, 100))
    write_bytes(folder / "weights.safetensors", save({"a": rows}, metadata={"source": str(version)}))


def _table(folder: Path, version: int) -> None:
    rows = tuple((Entry("pk"), Entry(str(version * i))) for i in range(3000))
    numbers = pd.DataFrame({"sampler": "pk", "value": np.arange(9000) * version})
    write_table(Table("A caption.", ("sampler", "mAP"), 1, rows, (), numbers), folder / "mAP")


def _figure(folder: Path, version: int) -> None:
    with base.style():
        figure, axes = plt.subplots()
        axes.plot(_numbers(version, 2000))
    base.save(figure, folder / "curves")
    plt.close(figure)


def _pack(folder: Path, version: int) -> None:
    write_pack(folder / "set.zip", [(f"{i}.jpg", _numbers(version, 1000).tobytes()) for i in range(16)])


def _findings(folder: Path, version: int) -> None:
    found = [("root", Finding("note", "size", f"image {i}", f"what {version}")) for i in range(1500)]
    write_findings(found, folder / "findings.csv")


def _ledger(folder: Path, version: int) -> None:
    write_ledger([{"stage": "embed", "cell": f"c{i}", "seconds": version} for i in range(2000)], folder / "ledger.csv")


def _picture(folder: Path, version: int) -> None:
    pixels = np.random.default_rng(version).integers(0, 256, (150, 150, 3), dtype=np.uint8)
    with whole_file(folder / "1_001_1_01.png") as partial:
        Image.fromarray(pixels).save(partial, "PNG")


def _world(folder: Path, version: int) -> None:
    spec = DomainSpec(version, 0.2, 2, 8, 8, 1, 2, 2, 2)
    publish_domain(spec, folder / "world", folder / "world.json")
    assert json.loads((folder / "world.json").read_text())["spec"]["seed"] == version


WRITERS = (
    Writer("text", ("curve.csv",), _text),
    Writer("json", ("record.json",), _json),
    Writer("metrics", ("metrics.csv",), _metrics),
    Writer("per query", ("per_query.csv.gz",), _queries),
    Writer("features", ("features.npy",), _features),
    Writer("training features", ("train.npz",), _source_features),
    Writer("weights", ("weights.safetensors",), _weights),
    Writer("table", ("mAP.csv", "mAP.md", "mAP.tex", "mAP.html"), _table),
    Writer("figure", ("curves.png", "curves.pdf", "curves.svg"), _figure),
    Writer("pack", ("set.zip",), _pack),
    Writer("findings", ("findings.csv",), _findings),
    Writer("ledger", ("ledger.csv",), _ledger),
    Writer("picture", ("1_001_1_01.png",), _picture),
    Writer("drawn world", ("world", "world.json"), _world, may_be_absent=True),
)
