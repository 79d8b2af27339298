"""The experiment's configuration: typed, complete, and refused in one line before any job runs.

Maps define and lists select: what is defined and not listed does not run. Every key is explained in `config/README.md`.
"""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from dfgs.bases import write_out
from dfgs.config.base import Name, Settings
from dfgs.config.checks import BANK, FRESH, check, check_sampler, used_datasets
from dfgs.config.grids import DatasetSettings, ExperimentSettings, SourceSettings, TargetSettings
from dfgs.config.messages import one_line
from dfgs.config.plans import check_contrasts, check_published
from dfgs.config.recipes import (
    AugmentSettings,
    BackboneSettings,
    BatchSettings,
    FinetuneSettings,
    InputSettings,
    ModelSettings,
    PretrainSettings,
    PriorSettings,
    PromptSettings,
    TestSettings,
    is_weight_file,
)
from dfgs.errors import DfgsError

__all__ = [
    "BANK",
    "FRESH",
    "AugmentSettings",
    "BackboneSettings",
    "BatchSettings",
    "Config",
    "FinetuneSettings",
    "InputSettings",
    "ModelSettings",
    "PretrainSettings",
    "PriorSettings",
    "PromptSettings",
    "Settings",
    "TestSettings",
    "check_sampler",
    "is_weight_file",
    "used_datasets",
]


class Config(Settings):
    """The whole configuration; `Config.parse` checks a plain dictionary, names and references included."""

    run: tuple[Name, ...] = Field(min_length=1)
    audit: bool = True
    real_people: bool = False
    data: str | None = None
    experiments: dict[Name, ExperimentSettings]
    sources: dict[Name, SourceSettings]
    targets: dict[Name, TargetSettings]
    datasets: dict[Name, DatasetSettings]
    samplers: dict[Name, dict[str, Any]]
    models: dict[Name, ModelSettings]
    backbones: dict[Name, BackboneSettings]

    @classmethod
    def parse(cls, values: dict[str, Any], on_disk: bool = True) -> "Config":
        """Validate `values`; raises `DfgsError` that names the first wrong key, its value and what would be right.

        Without `on_disk` datasets and weights may be missing, as long as nothing is to run.
        """
        if isinstance(values.get("models"), dict):
            values = values | {"models": write_out(values["models"])}
        try:
            config = cls.model_validate(values)
        except ValidationError as error:
            raise DfgsError(one_line(error, cls)) from error
        check(config, on_disk)
        check_contrasts(config)
        check_published(config)
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

    def crosses(self, source: str, target: str) -> bool:
        """Tell whether a target's dataset is no part of a source: its people and cameras are new to the model."""
        return self.targets[target].dataset not in self.sources[source].datasets
