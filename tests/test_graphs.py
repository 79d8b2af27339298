"""The neighbour graph and the walk: with and without the compiled extra, exact and approximate."""

import hashlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dfgs.samplers import REGISTRY, _approximate, _compiled, _extra, _graph, _table, _walk
from dfgs.samplers._approximate import nearest_approximately
from dfgs.samplers._neighbours import nearest
from dfgs.samplers._table import NeighbourTable
from dfgs.samplers._walk import walk
from dfgs.samplers.base import Labels

PATHS = ["compiled", "numpy"]
Floats = NDArray[np.float32]


def choose(path: str, patch: pytest.MonkeyPatch) -> None:
    """Take the compiled loops, or those of NumPy and Python."""
    for module in (_table, _walk):
        patch.setattr(module, "compiled", lambda _: _compiled if path == "compiled" else None)


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a test on both paths."""
    choose(request.param, monkeypatch)
    return request.param


def on_both(function: Any, *arguments: Any, **named: Any) -> list[Any]:
    """Results of a function with and without the compiled extra."""
    results = []
    for path in PATHS:
        with pytest.MonkeyPatch.context() as patch:
            choose(path, patch)
            results.append(function(*arguments, **named))
    return results


def mirrored(number: int, width: int, seed: int, most: int = 2) -> Floats:
    """Whole-numbered features with centre 0, whose distances are exact in float32 and often equal."""
    half = np.random.default_rng(seed).integers(-most, most + 1, size=(number // 2, width))
    return np.concatenate([half, -half]).astype(np.float32)


def look_alikes(number: int, seed: int = 0, width: int = 32) -> Floats:
    """Groups of eight around centres in 16 dimensions, with noise in all."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((number // 8 + 1, 16))[np.arange(number) // 8] + 0.7 * rng.standard_normal(
        (number, 16)
    )
    features = latent @ rng.standard_normal((16, width)) + 0.3 * rng.standard_normal((number, width))
    return rng.permutation(features.astype(np.float32))


def oracle(features: list[Floats], count: int) -> NDArray[np.int64]:
    """Nearest other rows by brute force in float64, equal distances by row."""
    total: Any = 0
    for rows in features:
        exact = rows.astype(np.float64)
        norms = (exact**2).sum(axis=1)
        distances = np.sqrt(np.maximum(norms[:, None] + norms - 2 * exact @ exact.T, 0))
        total = total + (distances / np.sqrt((distances**2).mean()) if len(features) > 1 else distances)
    np.fill_diagonal(total, np.inf)
    return np.argsort(total, axis=1, kind="stable")[:, :count]


def recall(table: NDArray[Any], right: NDArray[Any]) -> float:
    """Share of `right` that is in the same row of `table`."""
    return float((table[:, :, None] == right[:, None]).any(axis=2).mean())


class TestExact:
    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(
        half=st.integers(1, 40),
        width=st.integers(1, 5),
        share=st.floats(0, 1),
        block=st.integers(2, 90),
        seed=st.integers(0, 999),
    )
    def test_both_paths_give_the_oracles_table_where_distances_are_exact(self, half, width, share, block, seed):
        features = mirrored(2 * half, width, seed)
        count = 1 + int(share * (2 * half - 2))
        for table in on_both(nearest, [features], count, block=block):
            assert table.tolist() == oracle([features], count).tolist()

    @pytest.mark.parametrize("kinds", [1, 2])
    @pytest.mark.parametrize("block", [64, 333, 2048])
    def test_both_paths_give_the_same_bits(self, kinds, block):
        features = [look_alikes(700, seed) + 100 for seed in range(kinds)]
        compiled, plain = on_both(nearest, features, 15, block=block)
        assert compiled.tolist() == plain.tolist()

    @pytest.mark.parametrize("kinds", [1, 2])
    def test_neighbours_are_those_of_brute_force_whatever_the_blocks(self, path, kinds):
        features = [look_alikes(900, seed) for seed in range(kinds)]
        right = oracle(features, 15)
        for block in (128, 500, 2048):
            assert recall(nearest(features, 15, block=block), right) > 0.9999

    def test_every_other_row_can_be_asked_for(self, path):
        features = look_alikes(90)
        assert nearest([features], 89, block=32).tolist() == oracle([features], 89).tolist()

    def test_nothing_asked_for_gives_an_empty_table(self, path):
        assert nearest([look_alikes(9)], 0).shape == (9, 0)

    def test_duplicates_are_neighbours_of_each_other_by_row(self, path):
        features = np.repeat(mirrored(60, 3, 0), 5, axis=0)
        assert nearest([features], 20, block=64).tolist() == oracle([features], 20).tolist()


class TestTable:
    @pytest.mark.parametrize("seed", range(5))
    def test_a_table_does_not_depend_on_the_order_of_offers_or_on_repeats(self, path, seed):
        rng, number = np.random.default_rng(seed), 60
        half = rng.integers(0, 6, size=(number, number))
        distances = (half + half.T).astype(np.float32)
        tables = []
        for _ in range(3):
            table, order = NeighbourTable(number, 7), rng.permutation(number).astype(np.int32)
            cuts = np.array_split(order, 5)
            pairs = [(a, b) for a in range(5) for b in range(a, 5)]
            for place in rng.permutation(len(pairs) * 2) % len(pairs):
                rows, columns = cuts[pairs[place][0]], cuts[pairs[place][1]]
                table.offer(distances[np.ix_(rows, columns)], rows, columns, both=True)
            tables.append(table)
        np.fill_diagonal(distances, np.inf)
        expected = np.argsort(distances, axis=1, kind="stable")[:, :7]
        for table in tables:
            assert table.rows.tolist() == expected.tolist()
            assert table.distances.tolist() == np.take_along_axis(distances, expected, axis=1).tolist()

    def test_one_way_offers_leave_the_columns_alone(self, path):
        table = NeighbourTable(4, 2)
        rows, columns = np.array([0, 1], np.int32), np.array([2, 3], np.int32)
        table.offer(np.array([[1, 2], [4, 3]], np.float32), rows, columns, both=False)
        assert table.rows.tolist() == [[2, 3], [3, 2], [4, 4], [4, 4]]


class TestWalk:
    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        number=st.integers(2, 40),
        degree=st.integers(1, 6),
        most=st.integers(1, 5),
        share=st.floats(0, 1),
        pieces=st.integers(1, 4),
        restart=st.booleans(),
        seed=st.integers(0, 999),
    )
    def test_both_paths_walk_alike(self, number, degree, most, share, pieces, restart, seed):
        rng = np.random.default_rng(seed)
        piece = np.sort(rng.integers(0, pieces, size=number))
        edges = np.array([rng.choice(np.flatnonzero(piece == own), size=degree) for own in piece], dtype=np.int32)
        chunks, starts = rng.integers(1, most + 1, size=number), rng.permutation(number)
        size = max(1, int(share * number))
        compiled, plain = on_both(walk, edges, chunks, starts, size, restart=restart)
        assert compiled[0].tolist() == plain[0].tolist()
        assert compiled[1] == plain[1]

    def test_a_long_stack_is_walked_alike_down_to_its_end(self):
        # Two pieces: the first is left only when the stack, by then longer than the first ring, is empty.
        rng = np.random.default_rng(0)
        edges = (rng.integers(0, 1000, size=(2000, 100)) + 1000 * (np.arange(2000)[:, None] // 1000)).astype(np.int32)
        chunks, starts = rng.integers(1, 4, size=2000), rng.permutation(2000)
        compiled, plain = on_both(walk, edges, chunks, starts, 16)
        assert plain[1] > 0
        assert compiled[0].tolist() == plain[0].tolist()

    def test_the_arguments_are_left_as_they_are(self, path):
        chunks, starts = np.full(50, 2), np.arange(50)[::-1].copy()
        walk(np.arange(50, dtype=np.int32)[:, None], chunks, starts, 4)
        assert chunks.tolist() == [2] * 50
        assert starts.tolist() == list(range(50))[::-1]


PASSES: list[tuple[str, bool, dict[str, Any], list[tuple[str, int]]]] = [
    ("dfgs", False, {}, [("e983a80458d9e751", 0), ("fb043d1c92ad81d9", 0)]),
    (
        "dfgs",
        True,
        {"order": "nearest", "skip": 0, "neighbours": 5},
        [("842563e27a5221bd", 6), ("494438fde1fa7d2f", 8)],
    ),
    ("dfgs", True, {"restart": False}, [("fbcd8db8fd254579", 0), ("811b037e95e73c10", 0)]),
    ("dfgs-permuted", False, {}, [("cc5ebf36cdb31c01", 0), ("0727c07852a4ecc6", 0)]),
    ("gs", False, {}, [("b8d6a8466ca8299d", 0), ("3ea4e51e3bde8a15", 0)]),
]
"""Digests and restarts of two passes, drawn before there was a compiled path: a change of batches is never unseen."""


@pytest.mark.parametrize(("name", "is_apart", "own", "expected"), PASSES)
def test_passes_are_those_of_the_first_version(path, name, is_apart, own, expected):
    rng = np.random.default_rng(300)
    rows = rng.permutation(np.repeat(np.arange(300), rng.integers(1, 13, size=300)))
    labels = Labels(3 * rows + 1, rng.integers(0, 5, size=len(rows)), np.zeros_like(rows))
    features = mirrored(300, 6, 300, most=8)
    if is_apart:
        features[:, 0] += np.where(np.arange(300) < 150, 1000, -1000)
    sampler = REGISTRY.load(name)(labels, batch_size=32, instances=4, seed=3, **own)
    sampler.set_features(identities=labels.identities, image=features)
    for epoch, (digest, restarts) in enumerate(expected):
        sampler.set_epoch(epoch)
        images = np.ascontiguousarray(sampler.current_pass().images, dtype="<i8")
        assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == digest
        assert sampler.statistics.restarts == restarts


class TestApproximate:
    @pytest.mark.parametrize("kinds", [1, 2])
    def test_nearly_all_neighbours_are_found_and_the_recall_is_told(self, path, kinds):
        features = [look_alikes(1200, seed) for seed in range(kinds)]
        table, told = nearest_approximately(features, 15)
        found = recall(table, oracle(features, 15))
        assert found > 0.95
        assert abs(found - told) < 0.02
        # It is no exact graph in disguise: some lists were not searched.
        assert found < 1

    def test_both_paths_find_the_same(self):
        compiled, plain = on_both(nearest_approximately, [look_alikes(1000)], 10)
        assert (compiled[0] == plain[0]).mean() > 0.999

    def test_a_second_run_finds_the_same(self):
        first, second = (nearest_approximately([look_alikes(1000)], 10) for _ in range(2))
        assert first[0].tolist() == second[0].tolist()
        assert first[1] == second[1]

    def test_rows_are_other_rows_once_each_from_near_to_far(self, path):
        features = look_alikes(1000)
        table, _ = nearest_approximately([features], 15)
        assert all(len(set(row)) == 15 and number not in row for number, row in enumerate(table.tolist()))
        distances = np.linalg.norm(features[table] - features[:, None], axis=2)
        assert (np.diff(distances, axis=1) > -1e-4).all()

    @pytest.mark.parametrize("number", [2, 3, 9, 40])
    def test_few_rows_and_small_far_groups_still_get_all_their_neighbours(self, path, number):
        features = 1000 * (np.arange(number)[:, None] // 3 == np.arange(number // 3 + 1)) + look_alikes(
            number, width=number // 3 + 1
        )
        table, told = nearest_approximately([features.astype(np.float32)], number - 1)
        assert np.sort(table, axis=1).tolist() == [[o for o in range(number) if o != row] for row in range(number)]
        assert told == 1

    def test_more_is_found_when_more_is_wanted(self):
        features = [look_alikes(1200)]
        right = oracle(features, 15)
        low, high = (recall(nearest_approximately(features, 15, wanted=share)[0], right) for share in (0.7, 0.99))
        assert low < 0.95 < 0.97 < high


class TestThreshold:
    labels = Labels(np.repeat(np.arange(400), 3), np.tile([0, 1, 2], 400), np.zeros(1200, dtype=int))

    def sampler(self, name: str = "dfgs", **own: Any) -> Any:
        made = REGISTRY.load(name)(self.labels, batch_size=16, instances=2, seed=0, **own)
        made.set_features(identities=self.labels.identities, image=look_alikes(400))
        return made

    @pytest.mark.parametrize("name", ["dfgs", "dfgs-permuted", "gs"])
    def test_the_graph_is_exact_below_the_threshold_and_approximate_from_it_on(self, name, caplog):
        caplog.set_level(logging.INFO, logger="dfgs")
        exact, approximate = self.sampler(name, exact_below=401), self.sampler(name, exact_below=400)
        assert exact.statistics.graph_recall == 1
        assert exact.neighbours(12).tolist() == oracle([look_alikes(400)], 12).tolist()
        assert "approximate graph" not in caplog.text
        assert 0.9 < approximate.statistics.graph_recall < 1
        assert "approximate graph of 400 identities" in caplog.text
        assert f"{approximate.statistics.graph_recall:.3f}" in caplog.text

    @pytest.mark.parametrize("name", ["dfgs-released", "gs-released"])
    def test_the_released_samplers_are_exact_whatever_the_size(self, name, monkeypatch):
        monkeypatch.setattr(_graph, "EXACT_BELOW", 10)
        assert self.sampler(name).statistics.graph_recall == 1

    def test_faiss_is_imported_for_an_approximate_graph_only(self):
        code = """
import sys, numpy as np
from dfgs.samplers._graph import nearest, nearest_approximately
features = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
nearest([features], 5)
print("faiss" in sys.modules)
nearest_approximately([features], 5)
print("faiss" in sys.modules)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["False", "True"]


def test_without_numba_the_log_says_so_and_nothing_breaks(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "dfgs.samplers._compiled", None)
    _extra._compiled.cache_clear()
    caplog.set_level(logging.INFO, logger="dfgs")
    try:
        assert _extra.compiled(_extra.FEW) is None
        assert "without the compiled extra" in caplog.text
        assert len(nearest([look_alikes(_extra.FEW)], 5)) == _extra.FEW
    finally:
        _extra._compiled.cache_clear()


@pytest.mark.parametrize(("identities", "is_imported"), [(992, False), (1000, True)])
def test_numba_is_imported_where_its_loops_save_more_than_that_costs(identities: int, is_imported: bool) -> None:
    code = f"""
import sys
import numpy as np
from dfgs.samplers._neighbours import nearest
nearest([np.random.default_rng(0).standard_normal(({identities}, 8), dtype=np.float32)], 5)
print("numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(is_imported)]


def test_the_sample_that_tells_the_recall_is_not_the_one_that_chose_the_lists(monkeypatch):
    asked: list[set[int]] = []
    exact_rows = _approximate.exact_rows

    def spy(kinds, rows, count):
        asked.append(set(rows.tolist()))
        return exact_rows(kinds, rows, count)

    monkeypatch.setattr(_approximate, "exact_rows", spy)
    nearest_approximately([look_alikes(1000)], 5)
    assert len(asked) == 2
    assert not asked[0] & asked[1]
    assert len(asked[1]) == 256
