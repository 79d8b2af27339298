"""What every registered loss promises (`dfgs.losses.base.Loss`)."""

import math

import pytest
import torch

from dfgs.errors import DfgsError
from dfgs.losses import REGISTRY
from dfgs.losses.base import Loss, LossContext, LossValue
from dfgs.models.features import Features
from dfgs.training.loop import build_losses

NAMES = REGISTRY.names()
WIDTHS = {"intermediate": 6, "pooled": 5, "projected": 4}
IDENTITIES = 5
LABELS = torch.tensor([0, 0, 1, 1, 4, 4, 2])


def context(seed: int = 0) -> LossContext:
    text = torch.randn(IDENTITIES, WIDTHS["projected"], generator=torch.Generator().manual_seed(9))
    return LossContext(WIDTHS, IDENTITIES, text, torch.Generator().manual_seed(seed))


def features(seed: int = 0, scale: float = 1.0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    parts = [scale * torch.randn(len(LABELS), width, generator=generator) for width in WIDTHS.values()]
    return Features(*(part.requires_grad_() for part in parts))


def make(name: str, **arguments: float) -> Loss:
    return build_losses({name: arguments}, context())[name]


def value(loss: Loss, given: Features, labels: torch.Tensor = LABELS) -> LossValue:
    found: LossValue = loss(given, labels)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_a_finite_positive_scalar_with_a_gradient_for_the_image_features(name: str) -> None:
    given = features()
    found = value(make(name), given)
    assert found.value.shape == ()
    assert math.isfinite(float(found.value.detach()))
    assert float(found.value.detach()) > 0
    found.value.backward()
    assert given.projected.grad is not None
    assert bool(given.projected.grad.any())
    assert all(type(figure) is float for figure in found.log.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_weight_multiplies_the_loss(name: str) -> None:
    one, three = (value(make(name, weight=weight), features()).value for weight in (1.0, 3.0))
    assert float(three.detach()) == pytest.approx(3 * float(one.detach()), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_batch_does_not_matter(name: str) -> None:
    given, order = features(), torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(3))
    shuffled = Features(given.intermediate[order], given.pooled[order], given.projected[order])
    first, second = value(make(name), given).value, value(make(name), shuffled, LABELS[order]).value
    assert float(first.detach()) == pytest.approx(float(second.detach()), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_come_from_the_given_generator_alone(name: str) -> None:
    losses = [build_losses({name: {}}, context(seed))[name] for seed in (0, 0, 1)]
    first, again, other = ([p.detach() for p in loss.parameters()] for loss in losses)
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    drawn = [(x, y) for x, y in zip(first, other, strict=True) if float(x.std()) > 0]
    assert all(not torch.equal(x, y) for x, y in drawn)


@pytest.mark.parametrize("name", NAMES)
def test_very_long_features_give_a_finite_loss(name: str) -> None:
    assert math.isfinite(float(value(make(name), features(scale=1e4)).value.detach()))


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_setting_is_refused_by_name(name: str) -> None:
    with pytest.raises(DfgsError, match=rf"loss '{name}' refuses its settings .*'wieght'"):
        build_losses({name: {"wieght": 1.0}}, context())
