"""The bank of identity features: moving means against a slow loop, state, and a graph's agreement by brute force."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dfgs.errors import DfgsError
from dfgs.samplers.base import Labels
from dfgs.training.bank import IdentityBank, graph_agreement

RNG = np.random.default_rng


def steps(number: int = 9) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Batches of 8 features of identities 0 … 5 out of 7, in no order and unequal numbers."""
    rng = RNG(0)
    return [(rng.normal(size=(8, 4)).astype(np.float32), rng.integers(0, 6, 8)) for _ in range(number)]


def started(momentum: float = 0.5) -> IdentityBank:
    bank = IdentityBank(7, momentum)
    bank.start(RNG(1).normal(size=(7, 4)).astype(np.float32))
    return bank


def slow_means(bank: IdentityBank) -> NDArray[np.float64]:
    """The moving means after `steps`, identity by identity."""
    assert bank.means is not None
    means = bank.means.astype(np.float64)
    for features, labels in steps():
        for identity in range(7):
            own = [row for row, label in zip(features, labels, strict=True) if label == identity]
            if own:
                means[identity] = bank.momentum * means[identity] + (1 - bank.momentum) * np.mean(own, axis=0)
    return means


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_means_move_as_a_slow_loop_moves_them(momentum: float) -> None:
    bank = started(momentum)
    expected, first = slow_means(bank), bank.state()["means"]
    for features, labels in steps():
        bank.add(features, labels)
    assert bank.means is not None
    assert bank.means.dtype == np.float32
    np.testing.assert_allclose(bank.means, expected, atol=1e-5)
    assert bank.means[6].tolist() == first[6].tolist()  # never in a batch
    assert (bank.means[:6] != first[:6]).all()


def test_a_step_changes_only_the_identities_of_its_batch() -> None:
    bank = started()
    before = bank.state()["means"]
    bank.add(np.ones((3, 4), dtype=np.float32), np.array([4, 2, 4]))
    assert bank.means is not None
    assert np.flatnonzero((bank.means != before).any(axis=1)).tolist() == [2, 4]


def test_the_order_of_identities_in_a_batch_does_not_matter() -> None:
    (features, labels), one, other = steps()[0], started(), started()
    order = np.argsort(-labels, kind="stable")
    one.add(features, labels)
    other.add(features[order], labels[order])
    assert one.state()["means"].tobytes() == other.state()["means"].tobytes()


def test_a_bank_owns_its_rows() -> None:
    rows = np.ones((7, 4), dtype=np.float32)
    bank = IdentityBank(7)
    bank.start(rows)
    bank.add(np.zeros((1, 4), dtype=np.float32), np.array([3]))
    assert (rows == 1).all()


def test_a_restored_bank_goes_on_bit_by_bit() -> None:
    straight, cut, resumed = started(), started(), IdentityBank(7)
    for features, labels in steps():
        straight.add(features, labels)
    for features, labels in steps()[:4]:
        cut.add(features, labels)
    state = cut.state()
    cut.add(*steps()[4])  # what was taken is a copy
    resumed.restore(state)
    for features, labels in steps()[4:]:
        resumed.add(features, labels)
    assert resumed.state()["means"].tobytes() == straight.state()["means"].tobytes()


def test_a_bank_that_has_not_begun_is_restored_as_such() -> None:
    bank = started()
    bank.restore(IdentityBank(7).state())
    assert bank.means is None


def test_rows_of_another_source_are_refused_with_both_numbers() -> None:
    with pytest.raises(DfgsError, match="bank: 7 rows for 8 identities; it belongs to another source"):
        IdentityBank(8).restore(started().state())


def brute_nearest(rows: NDArray[np.float64], count: int) -> list[set[int]]:
    """The `count` nearest other rows of every row, one pair at a time."""
    found = []
    for i, row in enumerate(rows):
        distances = sorted((float(np.linalg.norm(row - other)), j) for j, other in enumerate(rows) if j != i)
        found.append({j for _, j in distances[:count]})
    return found


@pytest.mark.parametrize(("neighbours", "count"), [(4, 4), (15, 11)])
def test_agreement_is_the_share_of_neighbours_by_brute_force(neighbours: int, count: int) -> None:
    rng = RNG(2)
    pids = rng.permutation(np.repeat(np.arange(12) * 5, rng.integers(1, 6, 12)))
    labels = Labels(pids, np.zeros_like(pids), np.zeros_like(pids))
    clean, bank = (rng.normal(size=(n, 3)).astype(np.float32) for n in (len(pids), 12))
    own = [np.flatnonzero(pids == pid) for pid in labels.identities]
    truth = brute_nearest(np.array([clean[images].mean(0, dtype=np.float64) for images in own]), count)
    shared = [len(a & b) / count for a, b in zip(truth, brute_nearest(bank.astype(np.float64), count), strict=True)]
    found = graph_agreement(labels, clean, bank, 0, neighbours)
    assert found["bank"] == pytest.approx(np.mean(shared))
    assert found["neighbours"] == count
    assert found["chance"] == pytest.approx(count / 11)
    assert (found["bank"] < 1) == (count < 11)


def test_a_bank_of_the_true_means_agrees_fully_and_one_image_does_only_where_there_is_one() -> None:
    rng = RNG(3)
    pids = np.repeat(np.arange(20), 4)
    labels = Labels(pids, np.zeros_like(pids), np.zeros_like(pids))
    clean = (rng.normal(size=(20, 6)).repeat(4, axis=0) + rng.normal(size=(80, 6))).astype(np.float32)
    means = clean.reshape(20, 4, 6).mean(1)
    found = graph_agreement(labels, clean, means, 0, 5)
    assert found["bank"] == 1
    assert found["chance"] < found["one_image"] < 1
    assert graph_agreement(labels, clean, means, 0, 5) == found
    assert any(graph_agreement(labels, clean, means, seed, 5) != found for seed in (1, 2, 3))
    alone = Labels(np.arange(20), np.zeros(20, int), np.zeros(20, int))
    assert graph_agreement(alone, means, means, 0, 5)["one_image"] == 1


def test_one_identity_has_no_neighbours_to_share() -> None:
    row = np.ones((1, 2), dtype=np.float32)
    found = graph_agreement(Labels([3], [0], [0]), row, row, 0)
    assert found == {"neighbours": 0, "bank": 0, "one_image": 0, "chance": 0}
