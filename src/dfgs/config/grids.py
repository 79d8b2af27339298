"""Settings of what is trained on and scored: datasets, sources, targets, and the grid over them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dfgs.config.base import Name, Settings, Share


class DrawSettings(Settings):
    """Size and look of a drawn dataset; see `dfgs.drawn.world.DomainSpec`."""

    seed: int
    gap: Share
    cameras: Annotated[int, Field(ge=2, le=9)]
    train_identities: PositiveInt
    test_identities: PositiveInt
    images_per_camera: PositiveInt
    family: PositiveInt
    distractors: Annotated[int, Field(ge=0)]
    junk: Annotated[int, Field(ge=0)]


class DatasetSettings(Settings):
    """One dataset: the layout that reads it, and a folder or a drawing recipe. `options` go to the layout's class."""

    layout: str
    root: str | None = None
    draw: DrawSettings | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.root is not None and self.draw is not None:
            raise ValueError("give root (a folder or pack) or draw (a recipe), not both")
        return self


class SourceSettings(Settings):
    """What is trained on: datasets joined, of each its training images or (`view: combined`) all of its images.

    A plain list of datasets means their training images.
    """

    datasets: Annotated[tuple[Name, ...], Field(min_length=1)]
    view: Literal["train", "combined"] = "train"

    @model_validator(mode="before")
    @classmethod
    def _list_of_datasets(cls, value: Any) -> Any:
        return {"datasets": value} if isinstance(value, list | tuple) else value


class RerankingSettings(Settings):
    """k-reciprocal re-ranking; see `dfgs.metrics.KReciprocal`."""

    k1: PositiveInt
    k2: PositiveInt
    lambda_: Share = Field(alias="lambda")

    @model_validator(mode="after")
    def _averages_neighbours(self) -> Self:
        if self.k2 > self.k1:
            raise ValueError(f"k2 is {self.k2}, k1 is {self.k1}; expected k2 at most k1")
        return self


class TargetSettings(Settings):
    """What is scored: one dataset, one or several of its splits; with `reranking` also by re-ranked distances."""

    dataset: Name
    splits: tuple[str, ...] = Field(min_length=1)
    protocol: str = "market1501"
    reranking: RerankingSettings | None = None


class ContrastSettings(Settings):
    """A planned comparison: `sampler` against `baseline` (null: the experiment's); a plain name is the sampler."""

    sampler: Name
    baseline: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_of_the_sampler(cls, value: Any) -> Any:
        return {"sampler": value} if isinstance(value, str) else value


class PublishedSettings(Settings):
    """The printed experiment that a grid repeats: its name in `published.csv`, and whose row each sampler is.

    `methods` maps samplers to the file's `model`; a sampler that is not in it was not printed. `deviations` are
    sentences on what is known to differ.
    """

    experiment: Name
    methods: dict[Name, str]
    deviations: tuple[str, ...] = ()


class ExperimentSettings(Settings):
    """A grid: every source × model × sampler × seed is trained and scored on every target.

    `contrasts` are planned before the run; the verdict is on them alone, and differences within ± `margin` points of
    mAP count as none.
    """

    title: str
    sources: tuple[Name, ...] = Field(min_length=1)
    targets: tuple[Name, ...] = Field(min_length=1)
    models: tuple[Name, ...] = Field(min_length=1)
    samplers: tuple[Name, ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    metrics: tuple[str, ...] = Field(min_length=1)
    figures: tuple[str, ...]
    baseline: Name | None = None
    contrasts: tuple[ContrastSettings, ...] = ()
    margin: PositiveFloat = 0.5
    published: PublishedSettings | None = None

    @property
    def planned(self) -> list[tuple[str, str]]:
        """The contrasts as (sampler, baseline), in their order."""
        return [(c.sampler, c.baseline or self.baseline or "") for c in self.contrasts]
