"""The training images of a source: one or several datasets joined, and what a sampler may know of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfgs.config import BackboneSettings, BatchSettings, FinetuneSettings
from dfgs.data import ImageStore
from dfgs.datasets import open_dataset
from dfgs.datasets.base import join
from dfgs.provenance import digest_bytes, digest_json
from dfgs.samplers.base import Labels


@dataclass(frozen=True, slots=True)
class Source:
    """Images and labels; `pids` int64 (n,) holds 0 … N-1, the order of prompts, text features and classifiers.

    `cameras` names each camera by its dataset and its number there, in the order of `labels.camids`.
    """

    name: str
    store: ImageStore
    labels: Labels
    pids: Tensor
    cameras: tuple[tuple[str, int], ...]

    @property
    def identities(self) -> int:
        """Number of training identities N."""
        return len(self.labels.identities)

    @property
    def digest(self) -> str:
        """Digest of the source's name and its images' names and identities, wherever they lie."""
        return digest_json([self.name, [path.name for path in self.store.paths], self.pids.tolist()])

    def pixels_digest(self, sample: int = 64) -> str:
        """Digest a sample of the images as they are decoded: a world that is drawn anew may keep every name."""
        rows = np.unique(np.linspace(0, len(self.store) - 1, sample, dtype=int))
        return digest_bytes(b"".join(self.store[row].numpy().tobytes() for row in rows.tolist()))

    def iterations(self, settings: FinetuneSettings, batch: BatchSettings) -> int:
        """Batches in an epoch, the same for every sampler: as configured, else images / batch size."""
        return settings.iterations or max(1, len(self.store) // batch.size)


def load_source(job: dict[str, Any], backbone: BackboneSettings) -> Source:
    """Open the datasets of a job's source and decode their training images at the backbone's input size.

    With the view `combined` these are all images of each dataset, otherwise those of its training identities.
    """
    datasets = [open_dataset(part) for part in job["datasets"]]
    views = [data.combined() if job.get("view") == "combined" else data.train() for data in datasets]
    images = join(views)
    store = ImageStore(images.paths, backbone.input_size, torch.from_numpy(images.camids))
    labels = Labels(images.pids, images.camids, images.domains)
    cameras = tuple(
        (d.name, int(camid)) for d, view in zip(datasets, views, strict=True) for camid in np.unique(view.camids)
    )
    return Source(job["name"], store, labels, torch.from_numpy(images.pids), cameras)
