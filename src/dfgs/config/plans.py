"""What an experiment says beforehand of its outcome: planned contrasts, and the printed table that it repeats."""

from typing import TYPE_CHECKING

from dfgs.config.checks import known
from dfgs.errors import DfgsError

if TYPE_CHECKING:
    from dfgs.config import Config

OWN = "sampler of the experiment"


def check_contrasts(config: "Config") -> None:
    """Raise `DfgsError` unless every planned contrast is one of two samplers of its experiment, and planned once."""
    for name, experiment in config.experiments.items():
        where = f"config: experiments.{name}"
        if experiment.baseline is not None:
            known(f"experiments.{name}.baseline", (experiment.baseline,), OWN, experiment.samplers)
            if not experiment.contrasts:
                raise DfgsError(f"{where}.baseline is {experiment.baseline!r}, but contrasts is empty; list samplers")
        seen: set[frozenset[str]] = set()
        for sampler, baseline in experiment.planned:
            if not baseline:
                raise DfgsError(f"{where}.contrasts: {sampler!r} has no baseline; give the experiment a baseline")
            known(f"experiments.{name}.contrasts", (sampler, baseline), OWN, experiment.samplers)
            if sampler == baseline:
                raise DfgsError(f"{where}.contrasts: {sampler!r} against itself; name another sampler or baseline")
            if {sampler, baseline} in seen:
                raise DfgsError(f"{where}.contrasts: {sampler!r} against {baseline!r} is planned twice; list it once")
            seen.add(frozenset((sampler, baseline)))


def check_published(config: "Config") -> None:
    """Raise `DfgsError` unless what is compared with a printed table has one model and one new source per target."""
    for name, experiment in config.experiments.items():
        if experiment.published is None:
            continue
        where = f"experiments.{name}.published"
        known(f"{where}.methods", experiment.published.methods, OWN, experiment.samplers)
        if len(experiment.models) > 1:
            raise DfgsError(f"config: {where}: {len(experiment.models)} models; a printed table has one, split them")
        for target in experiment.targets:
            sources = [source for source in experiment.sources if config.crosses(source, target)]
            if len(sources) != 1:
                raise DfgsError(
                    f"config: {where}: target {target!r} is new to {len(sources)} sources "
                    f"({', '.join(sources) or 'none'}); a printed cell needs one"
                )
