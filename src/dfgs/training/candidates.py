"""Candidates of a training: the image tower after chosen epochs, kept beside the last one for model selection."""

from collections.abc import Sequence
from pathlib import Path

from dfgs.errors import DfgsError
from dfgs.models.clip import ImageEncoder
from dfgs.models.towers import candidate_path, save_tower
from dfgs.provenance import digest_file
from dfgs.samplers._continued import ContinuedPasses


class Candidates:
    """Keeps the image tower after each of `epochs`; `digests` tells each file's, by epoch."""

    def __init__(self, epochs: Sequence[int], encoder: ImageEncoder, weights: Path) -> None:
        self.paths = {epoch: candidate_path(weights, epoch) for epoch in epochs}
        self.encoder = encoder
        self.kept: list[int] = []

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the files, by epoch."""
        return {str(epoch): digest_file(path) for epoch, path in self.paths.items()}

    def begin(self, epoch: int) -> None:
        """Do nothing: a candidate is what an epoch ends with."""

    def end(self, epoch: int, passes: ContinuedPasses) -> None:
        """Keep the image tower if `epoch` is one of those."""
        if epoch in self.paths:
            save_tower(self.encoder, self.paths[epoch])
            self.kept.append(epoch)

    def state(self) -> list[int]:
        """Return the epochs whose towers are kept; the files stay where they are."""
        return self.kept

    def restore(self, state: list[int]) -> None:
        """Go on where `state` was taken; `DfgsError` names a tower that has gone since."""
        self.kept = state
        for path in (self.paths[epoch] for epoch in state):
            if not path.is_file():
                raise DfgsError(f"{path} is gone, which an interrupted attempt left; remove its state and run again")
