# Reads the configuration and offers the grid to the other rule files; the only one with Python.

import json
import sys
from dataclasses import asdict

from dfgs.config import Config
from dfgs.config.used import used
from dfgs.demands import Demands, megabytes
from dfgs.errors import DfgsError
from dfgs.figures import REGISTRY as FIGURES
from dfgs.grid import Grid, Trial
from dfgs.provenance import digest_file
from dfgs.results import METRICS, REFERENCE

try:
    GRID = Grid(Config.parse(config))
except DfgsError as error:
    # One line and status 2; SystemExit passes through Snakemake without a traceback.
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
DEMANDS = Demands(GRID)

# SLURM and `dfgs launch` ask all processes of a job to leave: the shell must wait for its stage, which keeps its state.
shell.prefix("trap : TERM USR1 USR2; ")


wildcard_constraints:
    dataset="[a-z0-9-]+",
    backbone="[a-z0-9-]+",
    source="[a-z0-9-]+",
    model="[a-z0-9-]+",
    sampler="[a-z0-9-]+",
    seed="[0-9]+",
    metric="|".join(METRICS),
    figure="[a-z0-9-]+",
    experiment="[a-z0-9-]+",


def as_json(job):
    return json.dumps(job, sort_keys=True, separators=(",", ":"))


def world_of(dataset):
    """The manifest that a dataset needs: none for a dataset that the user brings."""
    if GRID.config.datasets[dataset].draw is None:
        return []
    return expand(rules.draw.output, dataset=dataset)


def worlds_of_source(wildcards):
    return [
        world
        for part in GRID.config.sources[wildcards.source].datasets
        for world in world_of(part)
    ]


def worlds_of_targets(wildcards):
    targets = GRID.targets(wildcards.source, wildcards.model, wildcards.sampler)
    return sorted(
        {
            world
            for name in targets
            for world in world_of(GRID.config.targets[name].dataset)
        }
    )


def of_training(output, wildcards):
    """One of the files that stage 2 leaves; none for the untuned backbone."""
    if wildcards.sampler == REFERENCE:
        return []
    return expand(getattr(rules.finetune.output, output), **asdict(Trial.of(wildcards)))


def scores_of(wildcards):
    trials = GRID.trials(wildcards.experiment) + GRID.references(wildcards.experiment)
    return [
        path
        for trial in trials
        for path in expand(rules.score.output.metrics, **asdict(trial))
    ]


# Printed numbers; their digest and not their place, which a moved checkout changes, decides what runs again.
PUBLISHED = f"{workflow.basedir}/config/published.csv"

# Levels of the statistics that share a rule; that of queries has one of its own.
LEVELS = ["verdict", "blocks"]


def verdict_of(experiment):
    """What was found at an experiment's planned contrasts; none where none are planned."""
    if not GRID.has_contrasts(experiment):
        return []
    return expand(rules.judge.output.verdict, experiment=experiment)


def of_contrasts(output, wildcards):
    """One of the files that scoring leaves, of every trial that is in a planned contrast."""
    planned = sum(GRID.config.experiments[wildcards.experiment].planned, ())
    return [
        path
        for trial in GRID.trials(wildcards.experiment)
        if trial.sampler in planned
        for path in expand(getattr(rules.score.output, output), **asdict(trial))
    ]


def of_trainings(output, wildcards):
    """One of the files that stage 2 leaves, of every trial of an experiment."""
    trials = GRID.trials(wildcards.experiment)
    return [
        path
        for trial in trials
        for path in expand(getattr(rules.finetune.output, output), **asdict(trial))
    ]


def tables_of_all(wildcards):
    tables = [expand(rules.tabulate_backbone.output, experiment=GRID.config.run)]
    if GRID.config.audit:
        tables.append(expand(rules.tabulate_audit.output, experiment=GRID.config.run))
    tables.append(expand(rules.tabulate_selection.output, experiment=GRID.selecting()))
    for name in GRID.config.run:
        if GRID.has_contrasts(name):
            tables.append(expand(rules.judge.output, experiment=name))
            tables.append(expand(rules.tabulate_queries.output, experiment=name))
        if GRID.config.experiments[name].published is not None:
            tables.append(expand(rules.tabulate_published.output, experiment=name))
        metrics = GRID.config.experiments[name].metrics
        tables.append(expand(rules.tabulate.output, experiment=name, metric=metrics))
    return sum(tables, [])


def figures_of_all(wildcards):
    figures = [
        (name, GRID.config.experiments[name].figures) for name in GRID.config.run
    ]
    return sum(
        [expand(rules.draw_figure.output, experiment=n, figure=f) for n, f in figures],
        [],
    )


def disagreements_of_all(wildcards):
    planned = [name for name in GRID.config.run if GRID.has_contrasts(name)]
    return expand(rules.disagreements.output, experiment=planned)


def records_of_all(wildcards):
    trials = GRID.all_trials()
    return [
        p for t in trials for p in expand(rules.finetune.output.record, **asdict(t))
    ]


def dropped_of_all(wildcards):
    lists = [GRID.trials(n) + GRID.references(n) for n in GRID.config.run]
    trials = sorted(set(sum(lists, [])))
    return sum([expand(rules.drop_features.output, **asdict(t)) for t in trials], [])


def backbone_of(model):
    """The weights that a model needs: none where they are not trained here."""
    if not GRID.needs_pretraining(model):
        return []
    return expand(
        rules.pretrain.output.weights, backbone=GRID.config.models[model].backbone
    )


write_ledger = f"{sys.executable} -m dfgs ledger --no-audit"
