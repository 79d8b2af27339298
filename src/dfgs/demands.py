"""How much time and memory a rule asks a cluster for: what grows with the dataset, and more at every attempt.

Upper bounds for a queue, no forecast: a job that asks for too little is killed and costs more than one that waits.
"""

from dfgs.config import Config
from dfgs.datasets._published import published_counts
from dfgs.grid import Grid, Trial

UNKNOWN_IMAGES = 50_000
"""Images of a dataset of which nothing is published."""
IMAGES_PER_MINUTE = 6_000
"""Images that one process embeds in a minute: a small model on a CPU core, ViT-B/16 on a modest GPU."""
STEP = 3
"""A training step costs about three times the forward pass."""
START_MINUTES = 15
WORKER_MB = 1_500
"""A process that loads images, beside the one that computes."""


class Demands:
    """Minutes that the jobs of a grid may take."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def pretrain(self, backbone: str) -> int:
        """Minutes to train a backbone on drawn people."""
        settings = self.grid.config.backbones[backbone].pretrain
        return minutes(0 if settings is None else STEP * settings.steps * settings.batch_size + settings.pictures)

    def learn_prompts(self, source: str, model: str) -> int:
        """Minutes of stage 1: all images once, a prior on batches, then prompts alone."""
        settings = self.grid.config.models[model]
        prior = 0 if settings.prior is None else settings.prior.epochs * self._epoch(source, model)
        return minutes(images_of_source(self.grid.config, source) * (1 + settings.prompts.epochs) + STEP * prior)

    def finetune(self, trial: Trial) -> int:
        """Minutes of stage 2: its batches, and features for a graph before each epoch."""
        epochs = self.grid.config.models[trial.model].finetune.epochs
        features = images_of_source(self.grid.config, trial.source)
        return minutes(epochs * (STEP * self._epoch(trial.source, trial.model) + features))

    def embed(self, trial: Trial) -> int:
        """Minutes to embed all targets of a model."""
        return minutes(self._tested(trial))

    def score(self, trial: Trial) -> int:
        """Minutes to rank every query: a product of all with all, and much more of it for re-ranking."""
        return minutes(2 * self._tested(trial))

    def _epoch(self, source: str, model: str) -> int:
        """Images that an epoch trains on."""
        settings = self.grid.config.models[model]
        if settings.finetune.iterations is None:
            return images_of_source(self.grid.config, source)
        return settings.finetune.iterations * settings.batch.size

    def _tested(self, trial: Trial) -> int:
        targets = self.grid.targets(trial.source, trial.model, trial.sampler)
        return sum(images_of(self.grid.config, self.grid.config.targets[name].dataset) for name in targets)


def minutes(images: int) -> int:
    """Minutes in which `images` pass through a model, the start of a process included."""
    return START_MINUTES + -(-images // IMAGES_PER_MINUTE)


def megabytes(alone: int, threads: int, attempt: int) -> int:
    """Memory of a job that needs `alone` by itself; half as much again at every further attempt."""
    return (alone + WORKER_MB * (threads - 1)) * (1 + attempt) // 2


def images_of_source(config: Config, source: str) -> int:
    """Number of images of a source's datasets, test images included: an upper bound."""
    return sum(images_of(config, name) for name in config.sources[source].datasets)


def images_of(config: Config, dataset: str) -> int:
    """Number of images of a dataset: as drawn, as published, or `UNKNOWN_IMAGES`."""
    settings = config.datasets[dataset]
    if settings.draw is not None:
        draw = settings.draw
        people = draw.train_identities + draw.test_identities
        return people * draw.cameras * draw.images_per_camera + draw.distractors + draw.junk
    counts = [view[0] for view in published_counts(settings.layout).values() if view[0] is not None]
    return sum(counts) or UNKNOWN_IMAGES
