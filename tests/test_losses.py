"""Every loss against slow loops in float64, written from the papers."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from dfgs.errors import DfgsError
from dfgs.losses.base import LossContext
from dfgs.losses.identity import Identity
from dfgs.losses.image_to_text import ImageToText
from dfgs.losses.triplet import Triplet, euclidean
from dfgs.models.features import Features
from dfgs.training.prompts import supervised_contrast

WIDTHS = {"intermediate": 6, "pooled": 5, "projected": 4}
IDENTITIES = 7
LABELS = [0, 0, 3, 3, 3, 6, 1, 1, 5]


def features(seed: int, size: int = len(LABELS), dtype: torch.dtype = torch.float64) -> Features:
    """Random features that want gradients."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(size, width, generator=generator, dtype=dtype) for width in WIDTHS.values()]
    return Features(*(part.requires_grad_() for part in parts))


def context(seed: int = 0, text: Tensor | None = None) -> LossContext:
    return LossContext(WIDTHS, IDENTITIES, text, torch.Generator().manual_seed(seed))


def texts(seed: int = 1) -> Tensor:
    return torch.randn(
        IDENTITIES, WIDTHS["projected"], generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def smoothed_cross_entropy(logits: Sequence[Sequence[float]], labels: Sequence[int], smoothing: float) -> float:
    """Mean over rows of -Σ q log p with q = 1 - ε + ε/N at the label and ε/N elsewhere."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        normaliser = math.log(sum(math.exp(x) for x in row))
        for place, logit in enumerate(row):
            share = smoothing / len(row) + (1 - smoothing) * (place == label)
            total -= share * (logit - normaliser)
    return total / len(labels)


def batch_hard(rows: np.ndarray, labels: Sequence[int], margin: float | None) -> tuple[float, float]:
    """Triplet loss over the anchors that have a positive and a negative, and the share of those that have not."""
    terms = []
    for a, anchor in enumerate(rows):
        own = [math.dist(anchor, x) for i, x in enumerate(rows) if labels[i] == labels[a] and i != a]
        others = [math.dist(anchor, x) for i, x in enumerate(rows) if labels[i] != labels[a]]
        if own and others:
            gap = max(own) - min(others)
            terms.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
    value = sum(terms) / len(terms) if terms else 0.0
    return value, 1 - len(terms) / len(rows)


def contrast(anchors: np.ndarray, others: np.ndarray, labels: Sequence[int]) -> float:
    """Supervised contrast, temperature 1: -mean_i 1/|P(i)| Σ_{p ∈ P(i)} log softmax_p(a_i · o_p)."""
    total = 0.0
    for i, anchor in enumerate(anchors):
        products = [sum(x * y for x, y in zip(anchor, other, strict=True)) for other in others]
        normaliser = math.log(sum(math.exp(product) for product in products))
        positives = [p for p in range(len(others)) if labels[p] == labels[i]]
        total -= sum(products[p] - normaliser for p in positives) / len(positives)
    return total / len(anchors)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_image_to_text_is_the_smoothed_cross_entropy_of_plain_products(smoothing: float, weight: float) -> None:
    given, text = features(0), texts()
    loss = ImageToText(context(text=text), weight=weight, smoothing=smoothing)
    logits = [[float(image @ prompt) for prompt in text] for image in given.projected.detach()]
    expected = weight * smoothed_cross_entropy(logits, LABELS, smoothing)
    assert float(loss(given, torch.tensor(LABELS)).value.detach()) == pytest.approx(expected, rel=1e-10)


def test_image_to_text_leaves_the_prompts_frozen() -> None:
    loss = ImageToText(context(text=texts()))
    assert list(loss.parameters()) == []
    assert list(loss.state_dict()) == []


def test_image_to_text_before_there_are_prompts_is_refused() -> None:
    with pytest.raises(DfgsError, match="needs learned prompts"):
        ImageToText(context())


@pytest.mark.parametrize("margin", [None, 0.0, 0.3, 5.0])
@pytest.mark.parametrize("names", [("projected",), ("intermediate", "pooled", "projected")])
def test_the_triplet_is_batch_hard_and_skips_anchors_without_a_positive(
    margin: float | None, names: tuple[str, ...]
) -> None:
    given = features(2)
    value = Triplet(context(), weight=2.0, margin=margin, features=names)(given, torch.tensor(LABELS))
    slow = [batch_hard(given.named(name).detach().numpy(), LABELS, margin) for name in names]
    assert float(value.value.detach()) == pytest.approx(2 * sum(term for term, _ in slow), rel=1e-9)
    assert value.log == {"anchors_without_positive": pytest.approx(slow[0][1])}
    assert slow[0][1] == pytest.approx(2 / 9)


def test_a_skipped_anchor_is_still_a_negative_of_the_others() -> None:
    given = features(2)
    Triplet(context(), features=("projected",))(given, torch.tensor(LABELS)).value.backward()
    gradient = given.projected.grad
    assert gradient is not None
    rows = given.projected.detach().tolist()
    nearest = set()
    for i in (0, 1, 2, 3, 4, 6, 7):  # the anchors that have a positive
        others = [j for j in range(9) if LABELS[j] != LABELS[i]]
        nearest.add(min(others, key=lambda j, i=i: math.dist(rows[i], rows[j])))
    for alone in (5, 8):
        assert bool(gradient[alone].any()) == (alone in nearest)
    assert nearest & {5, 8}


@pytest.mark.parametrize("labels", [list(range(9)), [4] * 9])
@pytest.mark.parametrize("margin", [None, 0.3])
def test_without_any_usable_anchor_the_triplet_is_zero_with_zero_gradient(
    labels: list[int], margin: float | None
) -> None:
    given = features(3)
    value = Triplet(context(), margin=margin)(given, torch.tensor(labels))
    assert float(value.value.detach()) == 0
    assert value.log == {"anchors_without_positive": 1.0}
    value.value.backward()
    assert given.pooled.grad is not None
    assert not given.pooled.grad.any()
    assert given.projected.grad is not None
    assert not given.projected.grad.any()


def test_equal_images_give_a_finite_gradient() -> None:
    same = torch.ones(4, 4, requires_grad=True)
    given = Features(same, same, same)
    Triplet(context(), features=("projected",))(given, torch.tensor([0, 0, 1, 1])).value.backward()
    assert same.grad is not None
    assert bool(same.grad.isfinite().all())


def test_distances_are_euclidean() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(6, 3))
    slow = [[math.dist(x, y) for y in b] for x in a]
    np.testing.assert_allclose(euclidean(torch.tensor(a), torch.tensor(b)).numpy(), slow, rtol=1e-10)


def test_identity_is_the_smoothed_cross_entropy_behind_a_batch_norm_neck() -> None:
    given = features(5)
    names = ("pooled", "projected")
    loss = Identity(context(), weight=0.25, smoothing=0.1, features=names).double().train()
    with torch.no_grad():
        for neck in loss.necks.values():
            neck.weight.uniform_(0.5, 1.5)
        for classifier in loss.classifiers.values():
            classifier.weight.mul_(1000)
    expected = 0.0
    for name in names:
        rows = given.named(name).detach().numpy()
        normalised = (rows - rows.mean(0)) / np.sqrt(((rows - rows.mean(0)) ** 2).mean(0) + 1e-5)
        neck = normalised * loss.necks[name].weight.detach().numpy()
        logits = neck @ loss.classifiers[name].weight.detach().numpy().T
        expected += smoothed_cross_entropy(logits.tolist(), LABELS, 0.1)
    assert float(loss(given, torch.tensor(LABELS)).value.detach()) == pytest.approx(0.25 * expected, rel=1e-9)


def test_identity_starts_as_in_clip_reid() -> None:
    wide = LossContext({"pooled": 300, "projected": 200}, 500, None, torch.Generator().manual_seed(0))
    loss = Identity(wide)
    for name in ("pooled", "projected"):
        assert not loss.necks[name].bias.requires_grad
        assert not loss.necks[name].bias.any()
        assert loss.necks[name].weight.requires_grad
        assert loss.classifiers[name].bias is None
        assert float(loss.classifiers[name].weight.detach().std()) == pytest.approx(0.001, rel=0.02)
        assert loss.classifiers[name].weight.shape == (500, wide.widths[name])


def test_supervised_contrast_has_temperature_one_and_every_positive() -> None:
    rng = np.random.default_rng(6)
    images, prompts = rng.normal(size=(9, 4)), rng.normal(size=(9, 4))
    for anchors, others in ((images, prompts), (prompts, images)):
        value = supervised_contrast(torch.tensor(anchors), torch.tensor(others), torch.tensor(LABELS))
        assert float(value) == pytest.approx(contrast(anchors, others, LABELS), rel=1e-10)
