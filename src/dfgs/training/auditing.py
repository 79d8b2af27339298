"""The audit of a training: the batches of its first and last epoch, under the features of the model as it then is."""

import csv
import io
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dfgs.audit.measure import NEIGHBOURS, audit
from dfgs.audit.record import COLUMNS, Served
from dfgs.config import FinetuneSettings, InputSettings, TestSettings
from dfgs.data import Loader
from dfgs.datasets import open_dataset
from dfgs.extraction import embed_images
from dfgs.models.clip import ImageEncoder
from dfgs.provenance import write_text
from dfgs.samplers._continued import ContinuedPasses
from dfgs.training.source import Source

HEADER = ("epoch", *COLUMNS, "at_chance", "by_design")


class EpochAudits:
    """Audits the first and the last epoch of a training, unless its job says no or its source has one identity.

    `batches` tells for each audited epoch what the first batch held, by names of images, for a figure.
    All training images are embedded at the epoch's start, without augmentation, features as at test time, not
    normalised: what a graph sampler would get. Global random state and the encoder's mode stay as they are.
    """

    def __init__(
        self, job: dict[str, Any], encoder: ImageEncoder, source: Source, workers: int, device: torch.device
    ) -> None:
        wanted = {1, FinetuneSettings.model_validate(job["finetune"]).epochs}
        self.epochs = wanted if job["audit"] and source.identities > 1 else set()
        self.names = TestSettings.model_validate(job["test"]).features
        self.settings, self.workers = InputSettings.model_validate(job["input"]), workers
        self.encoder, self.source, self.device = encoder, source, device
        self.features: NDArray[np.float32] | None = None
        self.roots = [(part["name"], open_dataset(part).root) for part in job["source"]["datasets"]]
        self.rows: list[dict[str, Any]] = []
        self.batches: dict[str, dict[str, list[Any]]] = {}
        self.seconds = 0.0

    def begin(self, epoch: int) -> None:
        """Embed all training images with the model as it is before `epoch`."""
        if epoch not in self.epochs:
            return
        started = time.perf_counter()
        loader = Loader(self.source.store, self.settings, augment=False, workers=self.workers, device=self.device)
        everything = range(len(self.source.store))
        self.features = embed_images(self.encoder, loader, everything, self.names, self.device).numpy()
        self.seconds += time.perf_counter() - started

    def end(self, epoch: int, passes: ContinuedPasses) -> None:
        """Audit what `epoch` served."""
        if epoch not in self.epochs or self.features is None:
            return
        started = time.perf_counter()
        labels = self.source.labels
        neighbours = min(NEIGHBOURS, self.source.identities - 1)
        found = audit(labels, self.features, Served.of_epoch(passes), neighbours)
        verdict = {"at_chance": int(found.is_at_chance), "by_design": int(passes.sampler.is_graph_by_chance)}
        self.rows.append({"epoch": epoch, **asdict(found), **verdict})
        self.batches[str(epoch)] = self._first_batch(passes)
        self.features = None
        self.seconds += time.perf_counter() - started

    def _first_batch(self, passes: ContinuedPasses) -> dict[str, list[Any]]:
        """Name the images (dataset/file) and the pids of the first batch that the epoch served."""
        batch, labels, paths = passes.images[0], self.source.labels, self.source.store.paths
        places = [
            (*self.roots[domain], paths[image]) for domain, image in zip(labels.domains[batch], batch, strict=True)
        ]
        images = [f"{name}/{path.relative_to(root).as_posix()}" for name, root, path in places]
        return {"images": images, "pids": labels.pids[batch].tolist()}

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs: the features of an epoch that is running, rows, batches, seconds."""
        return {"features": self.features, "rows": self.rows, "batches": self.batches, "seconds": self.seconds}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.features = None if state["features"] is None else np.asarray(state["features"])
        self.rows, self.batches = state["rows"], state["batches"]
        self.seconds += state["seconds"]

    def write(self, path: Path) -> None:
        """Write one row per audited epoch with the columns `HEADER`; nan is left empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, HEADER, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: "" if value != value else value for name, value in row.items()})
        write_text(path, text.getvalue())
