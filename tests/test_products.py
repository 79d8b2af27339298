"""Blocks of products from torch: the ranking of NumPy's own, on whatever device there is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dfgs import cli
from dfgs.cli import features
from dfgs.cli.options import find_products
from dfgs.errors import DfgsError
from dfgs.feature_sets import FeatureSet
from dfgs.metrics import PROTOCOLS, Distance, Embeddings, rank, true_positive_rates
from dfgs.products import DeviceProducts
from dfgs.score_files import Extras, score

RULE = PROTOCOLS["market1501"]
ON_CPU = DeviceProducts(torch.device("cpu"))


def people(seed: int, size: int) -> Embeddings:
    rng = np.random.default_rng(seed)
    pids = rng.integers(-1, 60, size)
    centres = np.random.default_rng(9).standard_normal((61, 48))
    features = centres[pids] + rng.standard_normal((size, 48))
    return Embeddings(features.astype(np.float32), pids, rng.integers(3, size=size))


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "dot"])
def test_torchs_blocks_give_the_ranking_and_the_rates_of_numpys(distance: Distance) -> None:
    query, gallery = people(1, 600), people(2, 5000)
    products = ON_CPU(query, gallery)
    own, theirs = (rank(query, gallery, RULE, distance, given) for given in (None, products))
    # one pair in millions may change places: the last bit of a sum is another library's
    np.testing.assert_allclose(theirs.average_precision, own.average_precision, rtol=0, atol=1e-3)
    assert np.nanmean(theirs.average_precision) == pytest.approx(np.nanmean(own.average_precision), abs=1e-6)
    np.testing.assert_array_equal(theirs.matches, own.matches)
    rates = [true_positive_rates(query, gallery, RULE, distance, given) for given in (None, products)]
    assert rates[0] == pytest.approx(rates[1], abs=0.01)


def test_a_score_asks_for_products_of_its_own_two_sets() -> None:
    query, gallery = people(3, 40), people(4, 300)
    asked = []

    def make(one: Embeddings, other: Embeddings):
        asked.append((one, other))
        return lambda rows, columns: -(one.features[rows] @ other.features[columns].T)

    turned = score(FeatureSet("x", query, gallery), RULE, "dot", (1,), Extras(needs_rates=True, products=make))
    mirrored = Embeddings(-query.features, query.pids, query.camids)
    straight = score(FeatureSet("x", mirrored, gallery), RULE, "dot", (1,), Extras(needs_rates=True))
    assert asked == [(query, gallery)]
    assert (turned.values, turned.rates) == (straight.values, straight.rates)


def test_the_device_decides_who_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_products("cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_products("auto") is None
    with pytest.raises(DfgsError, match=r"--device cuda: .* finds no CUDA device here"):
        find_products("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("auto", "cuda"):
        assert find_products(name).device == torch.device("cuda")


def test_the_score_command_takes_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = {"query": people(5, 30), "gallery": people(6, 90)}
    names = {f"{v}_{what}": getattr(e, what) for v, e in sets.items() for what in ("features", "pids", "camids")}
    np.savez(tmp_path / "f.npz", **names)
    used: list[str] = []
    monkeypatch.setattr(features, "find_products", lambda name: used.append(name) or ON_CPU)
    done = CliRunner().invoke(cli.cli, ["score", str(tmp_path / "f.npz"), "--device", "auto"])
    assert done.exit_code == 0, done.output
    assert used == ["auto"]
