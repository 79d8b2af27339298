"""The experiment's configuration: typed, complete, and refused in one line before any job runs.

Maps define and lists select: what is defined and not listed does not run. Every key is explained in `config/README.md`.
"""

import inspect
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator
from pydantic.functional_validators import AfterValidator

from dfgs import datasets, figures, losses, samplers
from dfgs.bases import write_out
from dfgs.errors import DfgsError, did_you_mean
from dfgs.metrics import PROTOCOLS
from dfgs.packs.paths import open_root
from dfgs.results import METRICS, REFERENCE, RERANKED
from dfgs.samplers._graph import GRAPHS

FRESH, BANK = "fresh", "bank"
"""Where the image features of a graph come from: embedded before each pass, or seen in training."""

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def _name(value: str) -> str:
    if not NAME.fullmatch(value) or len(value) > 60:
        raise ValueError("a name is made of a-z, 0-9 and single hyphens, at most 60 characters")
    return value


Name = Annotated[str, AfterValidator(_name)]
Share = Annotated[float, Field(ge=0, le=1)]
Feature = Literal["intermediate", "pooled", "projected"]


def is_weight_file(pretrained: str) -> bool:
    """Tell whether `pretrained` is a file and not an open_clip tag."""
    return "/" in pretrained or pretrained.endswith((".safetensors", ".pt", ".pth", ".bin"))


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


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
    options: dict[str, Any] = {}

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

    `camera_embedding` is the factor of a camera's learned vector (SIE) on the class token; null for none.
    """

    backbone: Name
    freeze_statistics: bool
    camera_embedding: PositiveFloat | None = None
    input: InputSettings
    batch: BatchSettings
    prior: PriorSettings | None
    prompts: PromptSettings
    finetune: FinetuneSettings
    test: TestSettings


class ExperimentSettings(Settings):
    """A grid: every source × model × sampler × seed is trained and scored on every target."""

    title: str
    sources: tuple[Name, ...] = Field(min_length=1)
    targets: tuple[Name, ...] = Field(min_length=1)
    models: tuple[Name, ...] = Field(min_length=1)
    samplers: tuple[Name, ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    metrics: tuple[str, ...] = Field(min_length=1)
    figures: tuple[str, ...]


class Config(Settings):
    """The whole configuration; `Config.parse` checks a plain dictionary, names and references included."""

    run: tuple[Name, ...] = Field(min_length=1)
    audit: bool = True
    data: str | None = None
    experiments: dict[Name, ExperimentSettings]
    sources: dict[Name, SourceSettings]
    targets: dict[Name, TargetSettings]
    datasets: dict[Name, DatasetSettings]
    samplers: dict[Name, dict[str, Any]]
    models: dict[Name, ModelSettings]
    backbones: dict[Name, BackboneSettings]

    @classmethod
    def parse(cls, values: dict[str, Any]) -> "Config":
        """Validate `values`; raises `DfgsError` that names the first wrong key, its value and what would be right."""
        if isinstance(values.get("models"), dict):
            values = values | {"models": write_out(values["models"])}
        try:
            config = cls.model_validate(values)
        except ValidationError as error:
            raise DfgsError(_one_line(error)) from error
        _check_references(config)
        _check_components(config)
        _check_roots(config)
        _check_options(config)
        _check_leaks(config)
        _check_weights(config)
        return config

    def root(self, dataset: str) -> str:
        """Return the folder of a dataset: a relative one lies in `data`, a drawn one below `results/worlds`.

        Relative paths that are left are relative to the working directory.
        """
        settings = self.datasets[dataset]
        if settings.root is None:
            return f"results/worlds/{dataset}"
        return settings.root if self.data is None else str(Path(self.data) / settings.root)

    def leaks(self, source: str, target: str) -> bool:
        """Tell whether a source trains on the test images of a target: its dataset, with all of its images."""
        trained, tested = self.sources[source], self.targets[target].dataset
        return trained.view == "combined" and self.root(tested) in [self.root(part) for part in trained.datasets]


def _one_line(error: ValidationError) -> str:
    """Name one fault in one line; a missing key often follows from a mistyped one, so the latter is named first."""
    first = min(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"] if part != "[key]"]
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"config: unknown key {where!r}{did_you_mean(path[-1], _siblings(path[:-1]))}"
    reason = first["msg"].removeprefix("Value error, ")
    value = "" if first["type"] == "missing" else f" is {_short(first['input'])}"
    return f"config: {where or 'top level'}{value}: {reason}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _siblings(path: list[str]) -> list[str]:
    """Known keys of the settings class that a path of the configuration leads to."""
    model: Any = Config
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[part].annotation
        elif hasattr(model, "__args__"):
            model = model.__args__[-1]
        choices = [
            arg for arg in getattr(model, "__args__", ()) if isinstance(arg, type) and issubclass(arg, BaseModel)
        ]
        if choices and getattr(model, "__origin__", None) is not dict:
            model = choices[0]
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _check_references(config: Config) -> None:
    """Every name that a list selects is defined."""
    _known("run", config.run, "experiment", config.experiments)
    for name, source in config.sources.items():
        _known(f"sources.{name}", source.datasets, "dataset", config.datasets)
    for name, target in config.targets.items():
        _known(f"targets.{name}.dataset", (target.dataset,), "dataset", config.datasets)
        _known(f"targets.{name}.protocol", (target.protocol,), "protocol", PROTOCOLS)
    for name, model in config.models.items():
        _known(f"models.{name}.backbone", (model.backbone,), "backbone", config.backbones)
    _check_repeats(config)
    for name, experiment in config.experiments.items():
        for key, kind in (("sources", "source"), ("targets", "target"), ("models", "model"), ("samplers", "sampler")):
            selected = getattr(experiment, key)
            _known(f"experiments.{name}.{key}", selected, kind, getattr(config, key))
        _known(f"experiments.{name}.metrics", experiment.metrics, "metric", METRICS)
        for metric in experiment.metrics:
            plain = [target for target in experiment.targets if config.targets[target].reranking is None]
            if metric.endswith(RERANKED) and plain:
                raise DfgsError(
                    f"config: experiments.{name}.metrics: {metric!r} needs targets.{plain[0]}.reranking; give it k1, "
                    "k2 and lambda"
                )
        for figure in experiment.figures:
            figures.REGISTRY.check(figure, f"config: experiments.{name}.figures")
        if "audit" in experiment.figures and not config.audit:
            raise DfgsError(f"config: experiments.{name}.figures: 'audit' needs audit: true; leave the figure out")


def _known(where: str, names: Any, kind: str, known: Any) -> None:
    for name in names:
        if name not in known:
            raise DfgsError(f"config: {where}: no {kind} is called {name!r}{did_you_mean(name, known)}")


def _check_repeats(config: Config) -> None:
    """No list selects an entry twice."""
    _no_repeat("run", config.run)
    for name, source in config.sources.items():
        _no_repeat(f"sources.{name}", source.datasets)
    for name, target in config.targets.items():
        _no_repeat(f"targets.{name}.splits", target.splits)
    for name, experiment in config.experiments.items():
        for key in ("sources", "targets", "models", "samplers", "seeds", "metrics", "figures"):
            _no_repeat(f"experiments.{name}.{key}", getattr(experiment, key))


def _no_repeat(where: str, names: tuple[Any, ...]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DfgsError(f"config: {where} lists {name!r} {names.count(name)} times; list it once")


def _check_components(config: Config) -> None:
    """Every layout, sampler class and loss exists."""
    for name, dataset in config.datasets.items():
        datasets.REGISTRY.check(dataset.layout, f"config: datasets.{name}.layout")
    for name, sampler in config.samplers.items():
        if name == REFERENCE:
            raise DfgsError(f"config: samplers.{name}: the name is kept for the untuned backbone; choose another")
        class_name = str(sampler.get("class", name))
        check_sampler(f"config: samplers.{name}", class_name, set(sampler) - {"class", "features"})
        if "features" in sampler:
            _check_features(name, class_name, sampler)
    for name, model in config.models.items():
        stages = {"finetune": model.finetune.losses, "prior": model.prior.losses if model.prior else {}}
        for stage, chosen in stages.items():
            for loss in chosen:
                losses.REGISTRY.check(loss, f"config: models.{name}.{stage}.losses")


def check_sampler(where: str, class_name: str, given: set[str]) -> None:
    """Raise `DfgsError` naming `where` unless a sampler class exists and has the arguments `given`."""
    samplers.REGISTRY.check(class_name, f"{where}.class")
    parameters = inspect.signature(samplers.REGISTRY.load(class_name)).parameters.values()
    known = {p.name for p in parameters if p.default is not inspect.Parameter.empty}
    for argument in sorted(given - known):
        near = did_you_mean(argument, known) if known else " (it takes none)"
        raise DfgsError(f"{where}: class {class_name} has no argument {argument!r}{near}")


def _check_features(name: str, class_name: str, sampler: dict[str, Any]) -> None:
    """A sampler setting with a graph of image features chooses where these come from."""
    where, value = f"config: samplers.{name}.features", str(sampler["features"])
    own = samplers.REGISTRY.load(class_name).graph
    if "image" not in GRAPHS.get(str(sampler.get("graph")), own):
        raise DfgsError(f"{where} is {value!r}: the sampler has no graph of image features; leave the key out")
    if value not in (FRESH, BANK):
        raise DfgsError(f"{where}: no features are called {value!r}{did_you_mean(value, (FRESH, BANK))}")


def _check_roots(config: Config) -> None:
    """Every dataset that a running experiment uses is drawn or lies in an existing folder."""
    for name in sorted(used_datasets(config)):
        dataset = config.datasets[name]
        if dataset.draw is None and dataset.root is None:
            raise DfgsError(f"config: datasets.{name}.root is not set; give the folder or pack of the dataset")
        if dataset.root is not None:
            _check_root(config, name)


def _check_root(config: Config, name: str) -> None:
    root, where = Path(config.root(name)), f"config: datasets.{name}.root"
    try:
        is_there = open_root(root).is_dir()
    except DfgsError as error:
        raise DfgsError(f"{where}: {error}") from error
    if not is_there:
        hint = ", or in data the folder that it lies in" if config.data is None else ""
        raise DfgsError(f"{where}: {root} is not a folder; give the folder or pack of the dataset{hint}")


def _check_options(config: Config) -> None:
    """Every dataset in use takes its options, and every target in use has its splits; no file is looked at."""
    opened = {}
    for name in sorted(used_datasets(config)):
        settings = config.datasets[name]
        job = {"name": name, "layout": settings.layout, "root": config.root(name), "options": settings.options}
        opened[name] = datasets.open_dataset(job)
    for name in sorted({target for e in _running(config) for target in e.targets}):
        target = config.targets[name]
        splits = opened[target.dataset].splits
        if not splits:
            raise DfgsError(
                f"config: targets.{name}: dataset {target.dataset!r} is for training only, it has no splits"
            )
        _known(f"targets.{name}.splits", target.splits, "split", splits)


def _check_leaks(config: Config) -> None:
    """Every source that trains on all images of its datasets is scored on another dataset."""
    for name in config.run:
        experiment = config.experiments[name]
        for source in experiment.sources:
            if all(config.leaks(source, target) for target in experiment.targets):
                raise DfgsError(
                    f"config: experiments.{name}: source {source!r} trains on all images of every target "
                    f"({', '.join(experiment.targets)}); add a target of another dataset, or set view to train"
                )


def _check_weights(config: Config) -> None:
    """Every weight file that a running experiment starts from exists."""
    models = {model for experiment in _running(config) for model in experiment.models}
    for name in sorted({config.models[model].backbone for model in models}):
        pretrained = config.backbones[name].pretrained
        if pretrained is not None and is_weight_file(pretrained) and not Path(pretrained).is_file():
            raise DfgsError(
                f"config: backbones.{name}.pretrained: there is no file {pretrained}; give a weight file or a tag"
            )


def used_datasets(config: Config) -> set[str]:
    """Names of the datasets that the experiments in `run` train or test on."""
    running = _running(config)
    trained = {part for e in running for source in e.sources for part in config.sources[source].datasets}
    return trained | {config.targets[target].dataset for e in running for target in e.targets}


def _running(config: Config) -> list[ExperimentSettings]:
    return [config.experiments[name] for name in config.run]
