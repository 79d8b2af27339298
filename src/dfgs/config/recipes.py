"""Settings of models: backbone, input, batches, the stages of training, and the test."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dfgs.config.base import Name, Settings, Share

Feature = Literal["intermediate", "pooled", "projected"]


def is_weight_file(pretrained: str) -> bool:
    """Tell whether `pretrained` is a file and not an open_clip tag."""
    return "/" in pretrained or pretrained.endswith((".safetensors", ".pt", ".pth", ".bin"))


class PretrainSettings(Settings):
    """How the small CLIP is trained on drawn captioned people."""

    seed: int
    domains: PositiveInt
    pictures: PositiveInt
    held_out: PositiveInt
    gap: Share
    steps: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    warmup_steps: PositiveInt
    weight_decay: Annotated[float, Field(ge=0)]


class BackboneSettings(Settings):
    """A CLIP model: architecture by open_clip name, weights, and the input size it is used at.

    `pretrained`: `drawn` (trained here, by `pretrain`), an open_clip tag, a weight file, or null (random weights).
    """

    architecture: str
    pretrained: str | None
    input_size: tuple[PositiveInt, PositiveInt]
    stride: PositiveInt | None
    last_stride: Literal[1, 2]
    pretrain: PretrainSettings | None

    @model_validator(mode="after")
    def _drawn_needs_recipe(self) -> Self:
        if (self.pretrained == "drawn") != (self.pretrain is not None):
            raise ValueError("pretrained: drawn and a pretrain: recipe belong together")
        return self


class AugmentSettings(Settings):
    """Training augmentation, applied in the order of these keys; probabilities, and pixels for `pad`."""

    grey: Share
    pad: Annotated[int, Field(ge=0)]
    flip: Share
    jitter: Share
    augmix: Share
    erase: Share


class InputSettings(Settings):
    """From file to tensor: `normalise` by CLIP's mean and deviation, by 0.5 (`half`), or per image (`instance`)."""

    normalise: Literal["clip", "half", "instance"]
    augment: AugmentSettings


class BatchSettings(Settings):
    """Images in a batch, and images per identity (K) for identity samplers."""

    size: PositiveInt
    instances: PositiveInt

    @model_validator(mode="after")
    def _whole_identities(self) -> Self:
        if self.size % self.instances:
            raise ValueError(f"batch size {self.size} is not a multiple of instances (K) {self.instances}")
        return self


class PriorSettings(Settings):
    """Step 0 of CLIP-DFGS: the image encoder warmed up on PK batches before prompts are learned."""

    epochs: PositiveInt
    losses: dict[str, dict[str, Any]]


class PromptSettings(Settings):
    """Stage 1 (CLIP-ReID): one learnable context per identity, both encoders frozen."""

    context: PositiveInt
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    warmup_epochs: Annotated[int, Field(ge=0)]
    warmup_rate: PositiveFloat
    final_rate: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0)]
    shuffle: bool
    drop_last: bool


class FinetuneSettings(Settings):
    """Stage 2: the image encoder, `iterations` batches per epoch for every sampler (null: images / batch size).

    `milestones` are epochs at which the rate is multiplied by `decay`; `shared_schedule` counts the prior's epochs in.
    """

    epochs: PositiveInt
    iterations: PositiveInt | None
    learning_rate: PositiveFloat
    bias_factor: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_epochs: Annotated[int, Field(ge=0)]
    warmup_factor: PositiveFloat
    milestones: tuple[PositiveInt, ...]
    decay: PositiveFloat
    shared_schedule: bool
    losses: dict[str, dict[str, Any]] = Field(min_length=1)


class TestSettings(Settings):
    """Which features are compared at test time, whether their rows are scaled to length 1, and by which distance."""

    features: tuple[Feature, ...] = Field(min_length=1)
    normalise: bool
    distance: Literal["euclidean", "cosine"]


class ModelSettings(Settings):
    """A recipe on a backbone; CLIP-ReID's and CLIP-DFGS's differ in these values only.

    `camera_embedding` is the factor of a camera's learned vector (SIE) on the class token; null for none. `precision`
    and `compile` are the towers' arithmetic, see `dfgs.models.precision`. After the epochs in `selection` stage 2 keeps
    a candidate beside its last model.
    """

    backbone: Name
    freeze_statistics: bool
    camera_embedding: PositiveFloat | None = None
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    compile: bool = False
    input: InputSettings
    batch: BatchSettings
    prior: PriorSettings | None
    prompts: PromptSettings
    finetune: FinetuneSettings
    selection: tuple[PositiveInt, ...] = ()
    test: TestSettings

    @model_validator(mode="after")
    def _candidates_come_before_the_last(self) -> Self:
        rising = all(one < next_ for one, next_ in pairwise((*self.selection, self.finetune.epochs)))
        if not rising:
            raise ValueError(
                f"selection {list(self.selection)} must rise and end before the last of {self.finetune.epochs} epochs, "
                "which is a candidate anyway"
            )
        return self
