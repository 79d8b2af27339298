"""Camera embedding: a learned vector per training camera, added to the class token."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Camera = tuple[str, int]


class CameraEmbedding(nn.Module):
    """A vector for each of `cameras` (dataset, camid), times `coefficient` (SIE of TransReID, as CLIP-ReID has it).

    It is added to the class token before the position embedding; its initial deviation is 0.02. A camera that was not
    trained on adds nothing.
    """

    def __init__(self, cameras: Sequence[Camera], width: int, coefficient: float, generator: torch.Generator) -> None:
        super().__init__()
        self.cameras, self.coefficient = tuple(cameras), coefficient
        self.table = nn.Parameter(torch.empty(len(cameras), width).normal_(0, 0.02, generator=generator))

    def rows(self, dataset: str, camids: Sequence[int]) -> Tensor:
        """Return the row of each image's camera, int64 (n,); -1 for a camera that was not trained on."""
        known = {camera: row for row, camera in enumerate(self.cameras)}
        return torch.tensor([known.get((dataset, int(camid)), -1) for camid in camids], dtype=torch.int64)

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors (n, width) of the cameras in `rows` (n,), zero for -1."""
        return self.coefficient * torch.cat([self.table, self.table.new_zeros(1, self.table.shape[1])])[rows]
