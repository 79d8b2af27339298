"""From a configuration to trials, and from a trial to the small resolved jobs that rules hand to `dfgs <stage>`.

A job is a JSON object with everything that decides its result and nothing else; it is also the rule's rerun key.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from dfgs import losses, samplers
from dfgs.config import FRESH, Config, ModelSettings
from dfgs.results import REFERENCE

Job = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Trial:
    """One trained model: a recipe on a source with a sampler and a seed. `zero-shot` is the untuned backbone."""

    source: str
    model: str
    sampler: str
    seed: int

    @classmethod
    def of(cls, wildcards: Any) -> "Trial":
        """Read a trial from a rule's wildcards."""
        return cls(wildcards.source, wildcards.model, wildcards.sampler, int(wildcards.seed))

    @property
    def path(self) -> str:
        """Folder of the trial below `results/runs`, `features` and `scores`."""
        return f"{self.source}/{self.model}/{self.sampler}/s{self.seed}"


class Grid:
    """The trials of a configuration's running experiments, and the job of every rule invocation."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def trials(self, experiment: str) -> list[Trial]:
        """List an experiment's trials, sorted, the untuned backbone not among them."""
        e = self.config.experiments[experiment]
        return sorted(
            Trial(source, model, sampler, seed)
            for source in e.sources
            for model in e.models
            for sampler in e.samplers
            for seed in e.seeds
        )

    def references(self, experiment: str) -> list[Trial]:
        """List the untuned backbones that an experiment is compared with, one per model, under its first source."""
        e = self.config.experiments[experiment]
        return sorted(Trial(e.sources[0], model, REFERENCE, 0) for model in e.models)

    def all_trials(self) -> list[Trial]:
        """List every trial that runs, each once however many experiments share it."""
        return sorted({trial for name in self.config.run for trial in self.trials(name)})

    def targets(self, source: str, model: str, sampler: str) -> list[str]:
        """List the targets on which any running experiment scores the models of this source, model and sampler.

        A target whose test images the source trains on is left out; the untuned backbone has trained on none.
        """
        wanted: set[str] = set()
        for name in self.config.run:
            e = self.config.experiments[name]
            if source in e.sources and model in e.models and sampler in (*e.samplers, REFERENCE):
                wanted |= {t for t in e.targets if sampler == REFERENCE or not self.config.leaks(source, t)}
        return sorted(wanted)

    def within(self, experiment: str) -> list[tuple[str, str]]:
        """List (source, target) pairs in which the target's dataset is part of the source."""
        e = self.config.experiments[experiment]
        return [
            (source, target) for source in e.sources for target in e.targets if not self.config.crosses(source, target)
        ]

    def selecting(self) -> list[str]:
        """List the running experiments whose models all keep candidates."""
        models = self.config.models
        experiments = {name: self.config.experiments[name] for name in self.config.run}
        return [name for name, e in experiments.items() if all(models[model].selection for model in e.models)]

    def needs_pretraining(self, model: str) -> bool:
        """Tell whether a model's backbone is trained here."""
        return self.config.backbones[self.config.models[model].backbone].pretrained == "drawn"

    def draw_job(self, dataset: str) -> Job:
        """Job of `dfgs draw`."""
        draw = self.config.datasets[dataset].draw
        assert draw is not None
        return draw.model_dump(mode="json")

    def pretrain_job(self, backbone: str) -> Job:
        """Job of `dfgs pretrain`."""
        return self.config.backbones[backbone].model_dump(mode="json")

    def prompts_job(self, source: str, model: str, seed: int) -> Job:
        """Job of `dfgs learn-prompts`; no sampler under study is in it."""
        settings = self.config.models[model]
        chosen = settings.model_dump(mode="json", include={"freeze_statistics", "input", "batch", "prior", "prompts"})
        if settings.prior is not None:  # the prior runs the first epochs of stage 2's schedule
            chosen["finetune"] = settings.model_dump(mode="json")["finetune"]
        chosen |= _arithmetic(settings)
        return {**self._base(settings), "source": self._source(source), "seed": seed, **chosen}

    def finetune_job(self, trial: Trial) -> Job:
        """Job of `dfgs finetune`."""
        settings = self.config.models[trial.model]
        chosen = _tower(settings, {"freeze_statistics", "input", "batch", "finetune", "test"})
        if settings.prior is not None:
            chosen["prior"] = settings.model_dump(mode="json")["prior"]
        if settings.selection:
            chosen["selection"] = list(settings.selection)
        chosen |= _arithmetic(settings)
        identity = {
            "trial": asdict(trial),
            "sampler": self.sampler(trial.sampler),
            "source": self._source(trial.source),
        }
        rest = {"seed": trial.seed, "audit": self.config.audit}
        return {**self._base(settings), **identity, **rest, **chosen}

    def embed_job(self, trial: Trial) -> Job:
        """Job of `dfgs embed`: one process embeds all targets of one trained model."""
        settings = self.config.models[trial.model]
        views = sorted({self.config.targets[name].dataset for name in self._targets(trial)})
        splits = {
            dataset: sorted(
                {s for n in self._targets(trial) for s in self._splits(n) if self._dataset_of(n) == dataset}
            )
            for dataset in views
        }
        chosen = _tower(settings, {"freeze_statistics", "input", "test"})
        chosen |= settings.model_dump(mode="json", include={"precision"}, exclude_defaults=True)
        return {
            **self._base(settings),
            **chosen,
            "datasets": [self._dataset(name) | {"splits": splits[name]} for name in views],
            **self._selection(trial),
        }

    def score_job(self, trial: Trial) -> Job:
        """Job of `dfgs score-trial`: the only stage that reads a target's labels."""
        targets = [self._scored(name) for name in self._targets(trial)]
        return {"trial": asdict(trial), "targets": targets, **self._selection(trial)}

    def report_job(self, experiment: str) -> Job:
        """Job of `dfgs tabulate`: order of rows, marks and the samplers' settings."""
        e = self.config.experiments[experiment]
        return {
            "experiment": experiment,
            "title": e.title,
            "metrics": list(e.metrics),
            "samplers": list(e.samplers),
            "settings": {name: self.sampler(name) for name in e.samplers},
            "within": [list(pair) for pair in self.within(experiment)],
        }

    def figure_job(self, experiment: str) -> Job:
        """Job of `dfgs draw-figure`: that of the tables, what was planned, and whether real people may be shown."""
        e = self.config.experiments[experiment]
        return {
            **self.report_job(experiment),
            **({"contrasts": [list(pair) for pair in e.planned], "margin": e.margin} if e.contrasts else {}),
            **({"real_people": True} if self.config.real_people else {}),
        }

    def disagreements_job(self, experiment: str) -> Job:
        """Job of `dfgs disagreements`: the plan, its samplers' trials in the order of their files, and the targets."""
        e, report = self.config.experiments[experiment], self.figure_job(experiment)
        names = ("experiment", "within", "contrasts", "real_people")
        planned = sum(e.planned, ())
        return {
            **{name: report[name] for name in names if name in report},
            "trials": [asdict(trial) for trial in self.trials(experiment) if trial.sampler in planned],
            "targets": [self._scored(name) for name in e.targets],
        }

    def has_contrasts(self, experiment: str) -> bool:
        """Tell whether an experiment has planned contrasts, on which there is a verdict."""
        return bool(self.config.experiments[experiment].contrasts)

    def resolvable(self, experiment: str) -> tuple[str, ...]:
        """Say in lines, before an experiment runs, what its verdict can decide."""
        from dfgs.stats.verdict import resolvable  # SciPy takes half a second, which every parse would pay

        e = self.config.experiments[experiment]
        if not e.contrasts:
            return ("no contrasts are planned: tables and figures, but no verdict",)
        return resolvable(len(e.sources), len(e.seeds), len(e.contrasts) * len(e.models))

    def verdict_job(self, experiment: str) -> Job:
        """Job of `dfgs judge` and `dfgs judge-queries`: what was planned, so that the verdict is on that alone."""
        e = self.config.experiments[experiment]
        used = {part for source in e.sources for part in self.config.sources[source].datasets}
        used |= {self._dataset_of(target) for target in e.targets}
        return {
            "experiment": experiment,
            "title": e.title,
            "sources": list(e.sources),
            "seeds": list(e.seeds),
            "contrasts": [list(pair) for pair in e.planned],
            "margin": e.margin,
            "within": [list(pair) for pair in self.within(experiment)],
            "drawn": any(self.config.datasets[name].draw is not None for name in used),
        }

    def published_job(self, experiment: str) -> Job:
        """Job of `dfgs tabulate-published`: the printed cells and who they are here."""
        e = self.config.experiments[experiment]
        assert e.published is not None
        cells = [
            (source, target) for target in e.targets for source in e.sources if self.config.crosses(source, target)
        ]
        return {
            "experiment": experiment,
            "title": e.title,
            "samplers": list(e.samplers),
            "metrics": list(e.metrics),
            "seeds": list(e.seeds),
            "cells": [
                {"source": source, "target": target, "dataset": self._dataset_of(target)} for source, target in cells
            ],
            "published": e.published.model_dump(mode="json"),
        }

    def sampler(self, name: str) -> Job:
        """Resolve a sampler setting into its class and arguments, and `features` where they are not fresh."""
        settings = dict(self.config.samplers[name])
        kind, features = str(settings.pop("class", name)), settings.pop("features", FRESH)
        # fresh features are not named, as in jobs of before there was a bank: nothing trains again
        chosen = {} if features == FRESH else {"features": features}
        return {"name": name, "class": kind, "arguments": settings, **chosen}

    def sampler_digest(self, name: str) -> str:
        """Digest the source files of a sampler setting's class."""
        return samplers.REGISTRY.source_digest(self.sampler(name)["class"])

    def loss_digest(self, model: str) -> str:
        """Digest the source files of the losses that stage 2 of a model trains with."""
        return _digest(self.config.models[model].finetune.losses)

    def prior_digest(self, model: str) -> str:
        """Digest the source files that a model's prior trains with; empty without a prior."""
        prior = self.config.models[model].prior
        return "" if prior is None else f"{samplers.REGISTRY.source_digest('pk')}-{_digest(prior.losses)}"

    def _selection(self, trial: Trial) -> Job:
        """Name a training's candidates and the datasets whose validation identities choose; nothing without any."""
        epochs = self.config.models[trial.model].selection
        if not epochs or trial.sampler == REFERENCE:
            return {}
        parts = self.config.sources[trial.source].datasets
        last = self.config.models[trial.model].finetune.epochs
        datasets = [self._dataset(part) for part in parts]
        return {"selection": {"epochs": list(epochs), "last": last, "datasets": datasets}}

    def _targets(self, trial: Trial) -> list[str]:
        return self.targets(trial.source, trial.model, trial.sampler)

    def _splits(self, target: str) -> tuple[str, ...]:
        return self.config.targets[target].splits

    def _dataset_of(self, target: str) -> str:
        return self.config.targets[target].dataset

    def _scored(self, target: str) -> Job:
        return {"name": target, "dataset": self._dataset(self._dataset_of(target)), **self._target(target)}

    def _target(self, name: str) -> Job:
        # without re-ranking the key is left out, as in jobs of before there was any: nothing is scored again
        return self.config.targets[name].model_dump(mode="json", by_alias=True, exclude={"dataset"}, exclude_none=True)

    def _base(self, settings: ModelSettings) -> Job:
        return {"backbone": self.config.backbones[settings.backbone].model_dump(mode="json")}

    def _source(self, name: str) -> Job:
        source = self.config.sources[name]
        # the plain view is left out, as in jobs of before there was another: nothing is trained again
        view = {} if source.view == "train" else {"view": source.view}
        return {"name": name, "datasets": [self._dataset(part) for part in source.datasets], **view}

    def _dataset(self, name: str) -> Job:
        settings = self.config.datasets[name]
        return {
            "name": name,
            "layout": settings.layout,
            "root": self.config.root(name),
            "options": settings.options,
        }


def _tower(settings: ModelSettings, keys: set[str]) -> Job:
    """Take `keys` of a recipe; a camera embedding is among them only where there is one, so that no job changes."""
    cameras = {"camera_embedding"} if settings.camera_embedding is not None else set()
    return settings.model_dump(mode="json", include=keys | cameras)


def _arithmetic(settings: ModelSettings) -> Job:
    """Take the arithmetic of a training only where it is not plain float32, so that no job changes."""
    return settings.model_dump(mode="json", include={"precision", "compile"}, exclude_defaults=True)


def _digest(names: Iterable[str]) -> str:
    return "-".join(losses.REGISTRY.source_digest(name) for name in sorted(names))
