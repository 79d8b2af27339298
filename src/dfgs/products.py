"""Dot products on a torch device, block by block, for `dfgs.metrics.rank`: how an evaluation uses a GPU."""

import numpy as np
import torch
from numpy.typing import NDArray

from dfgs.metrics import Embeddings, Products


class DeviceProducts:
    """Makes the `products` of `dfgs.metrics.rank` for a query and a gallery, whose features stay on `device`.

    Products are full float32 (no TF32). A GPU may round a sum by its place, so copies of an image need not tie there.

    >>> make = DeviceProducts(torch.device("cpu"))
    >>> images = Embeddings(np.eye(2, dtype=np.float32), np.array([1, 2]), np.array([1, 1]))
    >>> make(images, images)(np.array([0, 1]), np.array([1])).tolist()
    [[0.0], [1.0]]
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, query: Embeddings, gallery: Embeddings) -> Products:
        """Move both sets' features to the device and return the function of two arrays of row numbers."""
        ones, others = (torch.from_numpy(images.features).to(self.device) for images in (query, gallery))

        def products(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
            left, right = ones[torch.from_numpy(rows)], others[torch.from_numpy(columns)]
            block: NDArray[np.float32] = (left @ right.T).cpu().numpy()
            return block

        return products
