"""What rules ask a cluster for: more for a larger dataset and at every attempt."""

from typing import Any

import pytest

from dfgs.config import Config
from dfgs.demands import START_MINUTES, UNKNOWN_IMAGES, Demands, images_of, images_of_source, megabytes, minutes
from dfgs.grid import Grid, Trial

TRIAL = Trial("a", "tiny", "pk", 0)


def demands(values: dict[str, Any]) -> Demands:
    """Demands of a plain dictionary's grid."""
    return Demands(Grid(Config.parse(values)))


def test_a_drawn_dataset_has_the_images_that_are_drawn(values: dict[str, Any]) -> None:
    config = Config.parse(values)
    assert images_of(config, "drawn-a") == (8 + 4) * 3 * 1 + 2 + 2
    assert images_of_source(config, "ab") == images_of(config, "drawn-a") + images_of(config, "drawn-b")


def test_a_real_dataset_has_the_published_images_and_an_unpublished_one_many(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert images_of(Config.parse(values), "real") == 12936 + 3368 + 15913
    values["datasets"]["real"]["layout"] = "randperson"
    assert images_of(Config.parse(values), "real") >= 100_000
    monkeypatch.setattr("dfgs.demands.published_counts", lambda _: {})
    assert images_of(Config.parse(values), "real") == UNKNOWN_IMAGES


def test_time_grows_with_epochs_and_images(values: dict[str, Any]) -> None:
    before = demands(values)
    assert before.finetune(TRIAL) == START_MINUTES + 1
    values["datasets"]["drawn-a"]["draw"]["train_identities"] = 100_000
    larger = demands(values)
    assert larger.finetune(TRIAL) > 2 * before.finetune(TRIAL)
    assert larger.learn_prompts("a", "tiny") > before.learn_prompts("a", "tiny")
    assert larger.embed(TRIAL) > before.embed(TRIAL)
    assert larger.score(TRIAL) > larger.embed(TRIAL)
    values["models"]["tiny"]["finetune"]["iterations"] = None
    assert demands(values).finetune(TRIAL) > larger.finetune(TRIAL)
    values["backbones"]["small"]["pretrain"]["steps"] = 10_000
    assert demands(values).pretrain("small") > before.pretrain("small")


@pytest.mark.parametrize(("attempt", "expected"), [(1, 4000), (2, 6000), (3, 8000)])
def test_memory_grows_with_attempts_and_with_loading_processes(attempt: int, expected: int) -> None:
    assert megabytes(4000, 1, attempt) == expected
    assert megabytes(4000, 9, attempt) > expected


def test_a_job_without_images_still_has_time_to_start() -> None:
    assert minutes(0) == START_MINUTES
