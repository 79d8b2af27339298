"""What a configuration must hold beyond types: names exist, components take their arguments, files are there."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfgs import datasets, figures, losses, samplers
from dfgs.config.grids import ExperimentSettings
from dfgs.config.recipes import is_weight_file
from dfgs.errors import DfgsError, did_you_mean
from dfgs.metrics import PROTOCOLS
from dfgs.packs.paths import open_root
from dfgs.results import METRICS, REFERENCE, RERANKED, SELECTED
from dfgs.samplers._graph import GRAPHS

if TYPE_CHECKING:
    from dfgs.config import Config

FRESH, BANK = "fresh", "bank"
"""Where the image features of a graph come from: embedded before each pass, or seen in training."""


def check(config: "Config", on_disk: bool = True) -> None:
    """Raise `DfgsError` that names the first wrong key, its value and what would be right.

    `on_disk` looks whether the folders and weights of what runs are there too.
    """
    _check_references(config)
    _check_components(config)
    if on_disk:
        _check_roots(config)
        _check_options(config)
    _check_leaks(config)
    if on_disk:
        _check_weights(config)


def _check_references(config: "Config") -> None:
    """Every name that a list selects is defined."""
    known("run", config.run, "experiment", config.experiments)
    for name, source in config.sources.items():
        known(f"sources.{name}", source.datasets, "dataset", config.datasets)
    for name, target in config.targets.items():
        known(f"targets.{name}.dataset", (target.dataset,), "dataset", config.datasets)
        known(f"targets.{name}.protocol", (target.protocol,), "protocol", PROTOCOLS)
    for name, model in config.models.items():
        known(f"models.{name}.backbone", (model.backbone,), "backbone", config.backbones)
    _check_repeats(config)
    for name, experiment in config.experiments.items():
        for key, kind in (("sources", "source"), ("targets", "target"), ("models", "model"), ("samplers", "sampler")):
            selected = getattr(experiment, key)
            known(f"experiments.{name}.{key}", selected, kind, getattr(config, key))
        known(f"experiments.{name}.metrics", experiment.metrics, "metric", METRICS)
        for metric in experiment.metrics:
            plain = [target for target in experiment.targets if config.targets[target].reranking is None]
            if metric.endswith(RERANKED) and plain:
                raise DfgsError(
                    f"config: experiments.{name}.metrics: {metric!r} needs targets.{plain[0]}.reranking; give it k1, "
                    "k2 and lambda"
                )
            fixed = [model for model in experiment.models if not config.models[model].selection]
            if metric.endswith(SELECTED) and fixed:
                raise DfgsError(
                    f"config: experiments.{name}.metrics: {metric!r} needs models.{fixed[0]}.selection; list epochs"
                )
        for figure in experiment.figures:
            figures.REGISTRY.check(figure, f"config: experiments.{name}.figures")
        for figure in ("audit", "batches"):
            if figure in experiment.figures and not config.audit:
                raise DfgsError(
                    f"config: experiments.{name}.figures: {figure!r} needs audit: true; leave the figure out"
                )
        if "batches" in experiment.figures and not config.real_people:
            _check_drawn(config, name)


def _check_drawn(config: "Config", experiment: str) -> None:
    """The people of all of an experiment's sources are drawn, so that their images may be shown."""
    for source in config.experiments[experiment].sources:
        for dataset in config.sources[source].datasets:
            if config.datasets[dataset].draw is None:
                raise DfgsError(
                    f"config: experiments.{experiment}.figures: 'batches' shows training images, and {dataset!r} "
                    "may hold real people; leave the figure out, or set real_people: true (heads are blurred; for your "
                    "own eyes, the datasets' terms forbid sharing)"
                )


def known(where: str, names: Any, kind: str, defined: Any) -> None:
    """Raise `DfgsError` naming `where` and a near name unless all `names` are `defined`."""
    for name in names:
        if name not in defined:
            raise DfgsError(f"config: {where}: no {kind} is called {name!r}{did_you_mean(name, defined)}")


def _check_repeats(config: "Config") -> None:
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


def _check_components(config: "Config") -> None:
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


def _check_roots(config: "Config") -> None:
    """Every dataset that a running experiment uses is drawn or lies in an existing folder."""
    for name in sorted(used_datasets(config)):
        dataset = config.datasets[name]
        if dataset.draw is None and dataset.root is None:
            raise DfgsError(f"config: datasets.{name}.root is not set; give the folder or pack of the dataset")
        if dataset.root is not None:
            _check_root(config, name)


def _check_root(config: "Config", name: str) -> None:
    root, where = Path(config.root(name)), f"config: datasets.{name}.root"
    try:
        is_there = open_root(root).is_dir()
    except DfgsError as error:
        raise DfgsError(f"{where}: {error}") from error
    if not is_there:
        hint = ", or in data the folder that it lies in" if config.data is None else ""
        raise DfgsError(f"{where}: {root} is not a folder; give the folder or pack of the dataset{hint}")


def _check_options(config: "Config") -> None:
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
        known(f"targets.{name}.splits", target.splits, "split", splits)
    _check_selection(config, opened)


def _check_selection(config: "Config", opened: dict[str, Any]) -> None:
    """Every source of a model that selects has validation identities."""
    for name in config.run:
        experiment = config.experiments[name]
        selecting = [model for model in experiment.models if config.models[model].selection]
        for part in (part for source in experiment.sources for part in config.sources[source].datasets):
            if selecting and "val" not in opened[part].splits:
                raise DfgsError(
                    f"config: models.{selecting[0]}.selection needs validation identities, of which dataset {part!r} "
                    "has none; give it options: {validation: N} where its layout takes that, or leave selection out"
                )


def _check_leaks(config: "Config") -> None:
    """Every source that trains on all images of its datasets is scored on another dataset."""
    for name in config.run:
        experiment = config.experiments[name]
        for source in experiment.sources:
            if all(config.leaks(source, target) for target in experiment.targets):
                raise DfgsError(
                    f"config: experiments.{name}: source {source!r} trains on all images of every target "
                    f"({', '.join(experiment.targets)}); add a target of another dataset, or set view to train"
                )


def _check_weights(config: "Config") -> None:
    """Every weight file that a running experiment starts from exists."""
    models = {model for experiment in _running(config) for model in experiment.models}
    for name in sorted({config.models[model].backbone for model in models}):
        pretrained = config.backbones[name].pretrained
        if pretrained is not None and is_weight_file(pretrained) and not Path(pretrained).is_file():
            raise DfgsError(
                f"config: backbones.{name}.pretrained: there is no file {pretrained}; give a weight file or a tag"
            )


def used_datasets(config: "Config") -> set[str]:
    """Names of the datasets that the experiments in `run` train or test on."""
    running = _running(config)
    trained = {part for e in running for source in e.sources for part in config.sources[source].datasets}
    return trained | {config.targets[target].dataset for e in running for target in e.targets}


def _running(config: "Config") -> list[ExperimentSettings]:
    return [config.experiments[name] for name in config.run]
