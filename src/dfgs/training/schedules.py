"""Learning rates as functions of the epoch, counted from 1."""

import math

from dfgs.config import FinetuneSettings, PromptSettings


def finetune_rate(settings: FinetuneSettings, epoch: int) -> float:
    """Rate of stage 2: linear warm-up from `warmup_factor`, then steps at the milestones (CLIP-ReID's scheduler)."""
    factor = settings.decay ** sum(epoch >= milestone for milestone in settings.milestones)
    if epoch < settings.warmup_epochs:
        share = epoch / settings.warmup_epochs
        factor *= settings.warmup_factor * (1 - share) + share
    return settings.learning_rate * factor


def prompt_rate(settings: PromptSettings, epoch: int) -> float:
    """Rate of stage 1: linear warm-up from `warmup_rate`, then a cosine over all epochs down to `final_rate`."""
    if epoch < settings.warmup_epochs:
        return settings.warmup_rate + epoch * (settings.learning_rate - settings.warmup_rate) / settings.warmup_epochs
    wave = 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / settings.epochs)))
    return settings.final_rate + (settings.learning_rate - settings.final_rate) * wave
