"""The evaluator against slow obvious versions, and against published answers."""

import doctest
import importlib
import itertools
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from dfgs.errors import DfgsError
from dfgs.metrics import (
    PROTOCOLS,
    Embeddings,
    Protocol,
    Ranking,
    difference,
    rank,
    summarise,
    true_positive_rates,
    unit_rows,
)
from dfgs.metrics import _counting as counting
from dfgs.metrics._blocks import Blocks

FIXTURES = Path(__file__).parent / "fixtures"
PACKAGE = Path(counting.__file__).parent
MARKET = PROTOCOLS["market1501"]
FIELDS = ("average_precision", "average_precision_trapezoid", "first_rank", "inp")


def rounds_alike_everywhere() -> bool:
    """Tell whether this BLAS gives equal vectors equal products at every place of a block."""
    q, g = (np.tile(np.random.default_rng(i).random((1, 64), np.float32), (n, 1)) for i, n in ((0, 512), (1, 4096)))
    return np.unique(q @ g.T).size == 1


needs_even_rounding = pytest.mark.skipif(
    not rounds_alike_everywhere(), reason="this BLAS rounds a product by its place (OpenBLAS on AVX2 does)"
)


def labelled(pids, camids, features=None, name="embeddings") -> Embeddings:
    features = np.zeros((len(pids), 2), np.float32) if features is None else features
    return Embeddings(features, np.asarray(pids, np.int64), np.asarray(camids, np.int64), name)


def random_set(seed, size, depth=12, identities=40, cameras=3) -> Embeddings:
    rng = np.random.default_rng(seed)
    pids = rng.integers(-1, identities, size)
    centres = np.random.default_rng(99).standard_normal((identities + 1, depth))
    features = (centres[pids] + rng.standard_normal((size, depth))).astype(np.float32)
    return labelled(pids, rng.integers(cameras, size=size), features)


def take(embeddings: Embeddings, rows) -> Embeddings:
    return Embeddings(embeddings.features[rows], embeddings.pids[rows], embeddings.camids[rows])


def slow_lists(scores, query, gallery, protocol) -> Iterator[tuple[int, list[tuple[float, bool]]]]:
    """Each query's (score, is a match) of the gallery images that its protocol leaves."""
    for i, (pid, camid) in enumerate(zip(query.pids, query.camids, strict=True)):
        person = pid not in protocol.junk_pids + protocol.distractor_pids
        left = []
        for j, (other, camera) in enumerate(zip(gallery.pids, gallery.camids, strict=True)):
            same = bool(pid == other and person)
            if other in protocol.junk_pids or (same and protocol.removes_same_camera and camid == camera):
                continue
            left.append((float(scores[i, j]), same))
        yield i, left


def slow_metrics(pairs: list[tuple[float, bool]], wins_ties: bool) -> list[float]:
    """AP, trapezoid AP, first rank and INP by walking down the sorted list; NaN without a match."""
    ordered = sorted(pairs, key=lambda pair: (-pair[0], pair[1] != wins_ties))
    ranks = [place for place, (_, same) in enumerate(ordered, start=1) if same]
    if not ranks:
        return [float("nan")] * 4
    precision = [seen / place for seen, place in enumerate(ranks, start=1)]
    before = [(seen - 1) / (place - 1) if place > 1 else 1.0 for seen, place in enumerate(ranks, start=1)]
    trapezoid = [(a + b) / 2 for a, b in zip(precision, before, strict=True)]
    return [sum(precision) / len(ranks), sum(trapezoid) / len(ranks), float(ranks[0]), len(ranks) / ranks[-1]]


def slow_ranking(scores, query, gallery, protocol) -> dict[str, np.ndarray]:
    low, high = np.full((2, 4, len(query)), np.nan)
    matches = np.zeros(len(query), int)
    for i, pairs in slow_lists(scores, query, gallery, protocol):
        matches[i] = sum(same for _, same in pairs)
        low[:, i], high[:, i] = slow_metrics(pairs, False), slow_metrics(pairs, True)
    values = dict(zip(FIELDS, (low + high) / 2, strict=True))
    return {
        **values,
        "matches": matches,
        "average_precision_low": low[0],
        "average_precision_high": high[0],
        "first_ranks": np.stack([high[2], low[2]]),
    }


def assert_same_bits(one: Ranking, other: Ranking) -> None:
    for name in (*FIELDS, "matches", "average_precision_low", "average_precision_high"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True, err_msg=name)


@st.composite
def ranking_cases(draw):
    """A small ranking problem with any mix of ties, junk, distractors, missing matches and sizes."""
    queries, images = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pids = draw(st.sampled_from([(-1, 4), (1, 3), (1, 2), (-1, 1), (1, 20), (0, 1)]))
    levels = draw(st.sampled_from([1, 2, 5, 30, None]))
    shape = (queries, images)
    scores = rng.standard_normal(shape) if levels is None else rng.integers(-levels, levels, shape)
    cameras = draw(st.integers(1, 4))
    query = labelled(rng.integers(*pids, queries), rng.integers(cameras, size=queries))
    gallery = labelled(rng.integers(*pids, images), rng.integers(cameras, size=images))
    protocol = PROTOCOLS[draw(st.sampled_from(["market1501", "cuhk03-new", "plain"]))]
    return scores.astype(np.float32), query, gallery, protocol


@settings(max_examples=1000, deadline=None)
@given(
    case=ranking_cases(),
    block=st.sampled_from([(512, 4096), (1, 1), (2, 3), (4, 7), (3, 64)]),
    held=st.sampled_from([0, 1, 2]),
    at_once=st.sampled_from([1, 10, 2_000_000]),
)
def test_every_metric_equals_a_slow_walk_down_the_list_given_the_same_scores(case, block, held, at_once):
    scores, query, gallery, protocol = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Blocks, "height", block[0])
        patch.setattr(Blocks, "width", block[1])
        patch.setattr(counting, "HELD_BLOCKS", held)
        patch.setattr(counting, "MATCHES_AT_ONCE", at_once)
        try:
            ranking = rank(query, gallery, protocol, "dot", lambda rows, columns: scores[np.ix_(rows, columns)])
        except DfgsError:
            assert np.isin(gallery.pids, protocol.junk_pids).all()
            return
    slow = slow_ranking(scores, query, gallery, protocol)
    for name in (*FIELDS, "matches", "average_precision_low", "average_precision_high"):
        np.testing.assert_allclose(getattr(ranking, name), slow[name], rtol=0, atol=1e-12, err_msg=name)
    summary = summarise(ranking, ranks=(1, 5, 50))
    has_match = slow["matches"] > 0
    assert (summary["queries"], summary["queries_without_match"]) == (len(query), (~has_match).sum())
    if not has_match.any():
        assert np.isnan(summary["mAP"])
        assert np.isnan(summary["rank1"])
        return
    for k in (1, 5, 50):
        assert summary[f"rank{k}"] == pytest.approx(100 * (slow["first_ranks"][:, has_match] <= k).mean(), abs=1e-10)
    for name, key in (("mAP", FIELDS[0]), ("mAP_trapezoid", FIELDS[1]), ("mINP", FIELDS[3])):
        assert summary[name] == pytest.approx(100 * slow[key][has_match].mean(), abs=1e-10)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), depth=st.sampled_from([1, 3, 33]), distance=st.sampled_from(["euclidean", "dot"])
)
def test_scores_of_whole_number_features_give_the_ranking_of_exact_distances(seed, depth, distance):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, 2)
    query, gallery = (
        labelled(rng.integers(0, 4, n), rng.integers(3, size=n), rng.integers(-2, 3, (n, depth)).astype(np.float32))
        for n in sizes
    )
    a, b = query.features.astype(np.float64), gallery.features.astype(np.float64)
    scores = a @ b.T if distance == "dot" else -((a[:, None] - b[None]) ** 2).sum(axis=2)
    slow = slow_ranking(scores, query, gallery, MARKET)
    ranking = rank(query, gallery, MARKET, distance)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(ranking, name), slow[name], rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("module", ["_counting", "_compiled"])
@pytest.mark.parametrize("most", [3, 40, 600])
def test_both_counters_count_what_is_higher_and_what_is_equal(module, most):
    if module == "_compiled":
        pytest.importorskip("numba")
    count_rows = importlib.import_module(f"dfgs.metrics.{module}").count_rows
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = rng.integers(-9, 9, (7, 50)).astype(np.float32)
        scores[rng.random(scores.shape) < 0.2] = -np.inf
        bounds = np.concatenate([[0], np.cumsum(rng.integers(0, most, 7))])
        owner = np.repeat(np.arange(7), np.diff(bounds))
        wanted = rng.integers(-11, 11, bounds[-1]).astype(np.float32)
        wanted = wanted[np.lexsort((wanted, owner))]
        above, level = np.ones((2, len(wanted)), np.int64)
        count_rows(scores[:, :33], bounds, wanted, above, level)
        np.testing.assert_array_equal(above - 1, (scores[owner, :33] > wanted[:, None]).sum(axis=1))
        np.testing.assert_array_equal(level - 1, (scores[owner, :33] == wanted[:, None]).sum(axis=1))


def test_average_precision_equals_that_of_trec_eval():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    query, gallery = random_set(17, 40), random_set(18, 500)
    scores = np.random.default_rng(19).standard_normal((40, 500)).astype(np.float32)
    found = rank(query, gallery, PROTOCOLS["plain"], "dot", lambda r, c: scores[np.ix_(r, c)]).average_precision
    judged = {f"q{i}": {f"g{j}": int(gallery.pids[j] == query.pids[i]) for j in range(500)} for i in range(40)}
    run = {f"q{i}": {f"g{j}": float(scores[i, j]) for j in range(500)} for i in range(40)}
    other = pytrec_eval.RelevanceEvaluator(judged, {"map"}).evaluate(run)
    np.testing.assert_allclose(found, [other[f"q{i}"]["map"] for i in range(40)], rtol=0, atol=1e-12)


def test_cosine_gives_the_ranking_of_float64_cosines():
    query, gallery = random_set(1, 60), random_set(2, 300)
    a, b = (x.features / np.linalg.norm(x.features.astype(np.float64), axis=1, keepdims=True) for x in (query, gallery))
    slow = slow_ranking(a @ b.T, query, gallery, MARKET)
    np.testing.assert_allclose(rank(query, gallery, MARKET, "cosine").average_precision, slow["average_precision"])


def test_sketch_reid_result_has_its_published_metrics_by_the_trapezoid():
    data = scipy.io.loadmat(FIXTURES / "sketch_reid_result" / "pytorch_result.mat")
    query, gallery = (
        Embeddings(data[f"{part}_f"], data[f"{part}_label"].ravel(), data[f"{part}_cam"].ravel())
        for part in ("query", "gallery")
    )
    expected = json.loads((FIXTURES / "sketch_reid_result" / "expected.json").read_text())
    summary = summarise(rank(query, gallery, MARKET, "dot"))
    for k in (1, 5, 10):
        assert summary[f"rank{k}"] == pytest.approx(100 * expected["published_result_txt"][f"rank{k}"])
    assert summary["mAP"] == pytest.approx(100 * expected["recomputed"]["mAP_standard"], abs=1e-9)
    assert summary["mAP_trapezoid"] == pytest.approx(100 * expected["recomputed"]["mAP_trapezoid"], abs=1e-9)


def siamese() -> Embeddings:
    data = np.load(FIXTURES / "siamese_market_gallery854" / "embeddings.npz")
    return Embeddings(data["features"], data["pids"], data["camids"])


def test_siamese_market_gallery_has_its_known_metrics():
    expected = json.loads((FIXTURES / "siamese_market_gallery854" / "expected.json").read_text())
    summary = summarise(rank(siamese(), siamese(), MARKET))
    for name, key in (("mAP", "mAP"), ("rank1", "r1"), ("rank5", "r5"), ("rank10", "r10"), ("mINP", "mINP")):
        known = expected["all_vs_all_cross_camera_percent"][key]
        assert summary[name] == pytest.approx(known, abs=0.01)


@needs_even_rounding
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("protocol", ["market1501", "single-gallery-shot"])
def test_the_order_of_gallery_and_queries_changes_no_bit(protocol, distance):
    query, gallery = random_set(3, 700, depth=50), random_set(4, 5000, depth=50)
    copies = np.random.default_rng(0).integers(5000, size=500)
    gallery.features[copies] = gallery.features[(copies * 7) % 5000]
    gallery = take(gallery, slice(None))
    straight = rank(query, gallery, PROTOCOLS[protocol], distance)
    shuffle, turn = np.random.default_rng(1).permutation(5000), np.random.default_rng(2).permutation(700)
    shuffled = rank(take(query, turn), take(gallery, shuffle), PROTOCOLS[protocol], distance)
    for name in (*FIELDS, "average_precision_low", "average_precision_high"):
        np.testing.assert_array_equal(getattr(shuffled, name), getattr(straight, name)[turn], err_msg=name)


@needs_even_rounding
@pytest.mark.parametrize("protocol", ["market1501", "single-gallery-shot"])
def test_the_number_of_queries_in_a_call_changes_no_bit(protocol):
    query, gallery = random_set(5, 600, depth=130), random_set(6, 4500, depth=130)
    together = rank(query, gallery, PROTOCOLS[protocol]).average_precision
    alone = np.concatenate(
        [rank(take(query, slice(i, i + 1)), gallery, PROTOCOLS[protocol]).average_precision for i in range(3)]
    )
    parts = [rank(take(query, rows), gallery, PROTOCOLS[protocol]) for rows in (slice(0, 37), slice(37, 600))]
    np.testing.assert_array_equal(together[:3], alone)
    np.testing.assert_array_equal(together, np.concatenate([part.average_precision for part in parts]))


BITS = """
import hashlib, sys, numpy as np
from dfgs.metrics import PROTOCOLS, Embeddings, rank
from dfgs.metrics import _counting
from dfgs.metrics._blocks import Blocks
from dfgs.metrics._matching import pair
rng = np.random.default_rng(0)
def make(n):
    return Embeddings(rng.standard_normal((n, 500), dtype=np.float32), rng.integers(0, 90, n), rng.integers(4, size=n))
query, gallery = make(700), make(6000)
blocks = Blocks(query, gallery, pair(query, gallery, PROTOCOLS["market1501"]), "euclidean", None)
print(hashlib.sha256(b"".join(blocks.scores(i, j).tobytes() for i in range(2) for j in range(2))).hexdigest())
found = [rank(query, gallery, PROTOCOLS["market1501"])]
assert "numba" not in sys.modules, "few scores need no compiled counter"
_counting.SMALL = 0
found += [rank(query, gallery, PROTOCOLS["market1501"], d) for d in ("euclidean", "cosine")]
assert "numba" in sys.modules
sys.modules["dfgs.metrics._compiled"] = None
_counting._counter.cache_clear()
found.append(rank(query, gallery, PROTOCOLS["market1501"]))
for ranking in found:
    print(hashlib.sha256(ranking.average_precision.tobytes()).hexdigest())
"""


@needs_even_rounding
def test_the_number_of_threads_changes_no_bit_of_a_score_or_a_metric():
    def digest(threads: str) -> str:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, threads)}
        done = subprocess.run([sys.executable, "-c", BITS], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    one = digest("1")
    assert one == digest("2") == digest("3")
    assert one.split()[1] == one.split()[2] == one.split()[4], "and the compiled counter gives the bits of the other"


@needs_even_rounding
def test_equal_vectors_are_ties_wherever_they_stand_in_the_gallery():
    rng = np.random.default_rng(7)
    query = labelled([1], [0], rng.standard_normal((1, 77)).astype(np.float32))
    base = rng.standard_normal((1, 77)).astype(np.float32)
    gallery = labelled([1] + [2] * 4999, [1] * 5000, np.repeat(base, 5000, axis=0))
    for distance in ("euclidean", "cosine", "dot"):
        ranking = rank(query, gallery, MARKET, distance)
        assert (ranking.average_precision_low[0], ranking.average_precision_high[0]) == (1 / 5000, 1.0)
        assert ranking.first_rank[0] == (1 + 5000) / 2


def test_products_of_the_caller_replace_the_own_ones():
    query, gallery = random_set(8, 600, depth=32), random_set(9, 5000, depth=32)
    asked = []

    def products(rows, columns):
        asked.append((len(rows), len(columns)))
        return query.features[rows] @ gallery.features[columns].T

    given_products = rank(query, gallery, MARKET, "euclidean", products)
    assert_same_bits(given_products, rank(query, gallery, MARKET, "euclidean"))
    assert all(a <= 512 and b <= 4096 for a, b in asked)
    kept = int((gallery.pids != -1).sum())
    assert sum(a * b for a, b in asked) == (512 + 128) * (kept + -kept % 64)


def test_ties_wider_than_a_hundredth_of_a_point_are_named_in_a_warning(caplog):
    query, gallery = labelled([1], [0]), labelled([1, 2], [1, 1])
    summary = summarise(rank(query, gallery, MARKET))
    assert (summary["mAP_low"], summary["mAP"], summary["mAP_high"], summary["rank1"]) == (50.0, 75.0, 100.0, 50.0)
    assert "mAP lies between 50.0000 and 100.0000" in caplog.text
    caplog.clear()
    summarise(rank(query, labelled([1, 1], [1, 1]), MARKET))
    assert not caplog.records


def test_queries_without_a_match_are_counted_and_not_averaged_in():
    query = labelled([1, 7, 0, -1], [0, 0, 0, 0])
    gallery = labelled([1, 0, -1, 1], [1, 1, 1, 0])
    gallery = labelled(gallery.pids, gallery.camids, np.array([[0, 0], [1, 1], [0, 0], [0, 0]], np.float32))
    ranking = rank(query, gallery, MARKET)
    assert ranking.matches.tolist() == [1, 0, 0, 0]
    assert np.isnan(ranking.average_precision[1:]).all()
    summary = summarise(ranking)
    assert (summary["mAP"], summary["queries"], summary["queries_without_match"]) == (100.0, 4, 3)


def test_single_gallery_shot_draws_every_image_of_an_identity_equally_often():
    rng = np.random.default_rng(11)
    pids, camids = np.array([1, 1, 1, 2, 2, 3, 3, 3, 1]), np.array([1, 2, 1, 1, 2, 2, 1, 1, 0])
    gallery = labelled(pids, camids, rng.standard_normal((9, 4)).astype(np.float32))
    query = labelled([1, 3], [0, 0], rng.standard_normal((2, 4)).astype(np.float32))
    ranking = rank(query, gallery, Protocol("many", repeats=1000, seed=5))
    for i, pid in enumerate((1, 3)):
        distance = np.linalg.norm(gallery.features - query.features[i], axis=1)
        choices = [np.flatnonzero((pids == p) & ~((p == pid) & (camids == 0))) for p in (1, 2, 3)]
        ranks = []
        for drawn in itertools.product(*choices):
            own = next(j for j in drawn if pids[j] == pid)
            ranks.append(1 + sum(distance[j] < distance[own] for j in drawn))
        assert ranking.first_rank[i] == pytest.approx(np.mean(ranks), abs=0.1)
        assert ranking.average_precision[i] == pytest.approx(np.mean(1 / np.array(ranks)), abs=0.03)
    assert ranking.matches.tolist() == [1, 1]


def test_single_gallery_shot_equals_the_plain_protocol_when_identities_have_one_image():
    rng = np.random.default_rng(12)
    query, gallery = (labelled(range(30), [c] * 30, rng.standard_normal((30, 5)).astype(np.float32)) for c in (0, 1))
    single = rank(query, gallery, PROTOCOLS["single-gallery-shot"])
    plain = rank(query, gallery, PROTOCOLS["plain"])
    for name in FIELDS:
        np.testing.assert_allclose(getattr(single, name), getattr(plain, name), rtol=1e-14)


def test_single_gallery_shot_repeats_with_its_seed_and_changes_with_another():
    query, gallery = random_set(13, 50), random_set(14, 400)
    first, again = (rank(query, gallery, PROTOCOLS["single-gallery-shot"]) for _ in range(2))
    assert_same_bits(first, again)
    other = rank(query, gallery, Protocol("single-gallery-shot", repeats=10, seed=1))
    assert not np.array_equal(first.first_rank, other.first_rank, equal_nan=True)


def slow_rates(scores, query, gallery, protocol) -> dict[str, float]:
    """Share of the matching pairs beyond each threshold, all pairs of all queries with a match in one sorted list."""
    genuine, impostors = [], []
    for _, pairs in slow_lists(scores, query, gallery, protocol):
        if any(same for _, same in pairs):
            genuine += [score for score, same in pairs if same]
            impostors += [score for score, same in pairs if not same]
    impostors.sort(reverse=True)
    rates = {"tpr_at_fpr_0.01": 0.01, "tpr_at_fpr_0.001": 0.001, "tpr_at_fpr_0.0001": 0.0001}
    if not impostors:
        return dict.fromkeys(rates, float("nan"))
    return {
        key: 100 * np.mean(np.array(genuine) > impostors[int(rate * len(impostors))]) for key, rate in rates.items()
    }


@settings(max_examples=300, deadline=None)
@given(case=ranking_cases(), block=st.sampled_from([(512, 4096), (2, 3)]))
def test_true_positive_rates_equal_a_threshold_over_all_sorted_pairs(case, block):
    scores, query, gallery, protocol = case
    if np.isin(gallery.pids, protocol.junk_pids).all():
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Blocks, "height", block[0])
        patch.setattr(Blocks, "width", block[1])
        found = true_positive_rates(query, gallery, protocol, "dot", lambda r, c: scores[np.ix_(r, c)])
    assert found == pytest.approx(slow_rates(scores, query, gallery, protocol), nan_ok=True)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_true_positive_rates_compare_distances_of_different_queries(distance):
    query, gallery = random_set(15, 150), random_set(16, 4400)
    a, b = query.features.astype(np.float64), gallery.features.astype(np.float64)
    if distance == "cosine":
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    slow = slow_rates(2 * a @ b.T - (a**2).sum(1)[:, None] - (b**2).sum(1), query, gallery, MARKET)
    # one pair more or less may pass: the scores are float32 here and float64 there
    assert true_positive_rates(query, gallery, MARKET, distance) == pytest.approx(slow, abs=0.02)


@pytest.mark.parametrize("name", ["float16", "float64", "int8"])
def test_other_number_types_are_converted_and_it_is_said(name, caplog):
    caplog.set_level(logging.INFO)
    features = np.arange(6).reshape(3, 2).astype(name)
    converted = labelled([1, 2, 3], [1, 1, 1], features, "gallery of x")
    assert converted.features.dtype == np.float32
    assert converted.features.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert f"gallery of x: features are {name}, converted to float32" in caplog.text


def with_value(value, dtype=np.float32) -> np.ndarray:
    features = np.ones((5, 3), dtype)
    features[3, 1] = value
    return features


@pytest.mark.parametrize(
    ("features", "pids", "camids", "message"),
    [
        (with_value(np.nan), [1] * 5, [1] * 5, "q: feature row 3 holds NaN or infinity (1 such of 5)"),
        (with_value(-np.inf), [1] * 5, [1] * 5, "q: feature row 3 holds NaN or infinity"),
        (with_value(1e30), [1] * 5, [1] * 5, "q: feature row 3 has a length beyond 3e18"),
        (with_value(1e300, np.float64), [1] * 5, [1] * 5, "q: feature row 3 "),
        (np.ones((5, 3), np.float32), [1] * 4, [1] * 5, "q: pids have shape (4,)"),
        (np.ones((5, 3), np.float32), [1] * 5, [1] * 6, "q: camids have shape (6,)"),
        (np.ones((5, 3), np.float32), [1.5] * 5, [1] * 5, "q: pids have shape (5,) and type float64"),
        (np.ones((5, 3), np.float32), None, [1] * 5, "q: pids have shape () and type object"),
        (np.ones(5, np.float32), [1] * 5, [1] * 5, "q: features have shape (5,)"),
        (np.ones((0, 3), np.float32), [], [], "q: features have shape (0, 3)"),
        (np.ones((5, 3), np.int32), [1] * 5, [1] * 5, "q: features have type int32"),
        (np.ones((5, 3), object), [1] * 5, [1] * 5, "q: features have type object"),
    ],
)
def test_bad_embeddings_are_refused_by_name_and_row(features, pids, camids, message):
    with pytest.raises(DfgsError) as error:
        Embeddings(features, pids, camids, "q")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("metric", [rank, true_positive_rates])
def test_sets_that_do_not_fit_are_refused(metric):
    query = labelled([1], [1], np.ones((1, 3), np.float32), "query")
    gallery = labelled([1, 1], [1, 2], np.array([[1, 1, 1], [0, 0, 0]], np.float32), "gallery")
    with pytest.raises(DfgsError, match="query has 3 dimensions, gallery has 2"):
        metric(query, labelled([1], [1], name="gallery"), MARKET)
    with pytest.raises(DfgsError, match="gallery: all 2 images are junk under 'strict'"):
        metric(query, gallery, Protocol("strict", junk_pids=(1,)))
    with pytest.raises(DfgsError, match="gallery: feature row 1 is all zero"):
        metric(query, gallery, MARKET, "cosine")
    with pytest.raises(DfgsError, match=r"'cosin' is unknown \(did you mean 'cosine'\?\)"):
        metric(query, gallery, MARKET, "cosin")


@pytest.mark.parametrize("metric", [rank, true_positive_rates])
def test_products_of_another_shape_or_type_or_not_finite_are_refused(metric):
    query, gallery = labelled([1], [1]), labelled([1, 2], [2, 2])
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(DfgsError, match="products returned NaN or infinity"):
            metric(query, gallery, MARKET, "dot", lambda r, c, bad=bad: np.full((len(r), len(c)), bad, np.float32))
    with pytest.raises(DfgsError, match=r"products returned float64 of shape \(1, 1\)"):
        metric(query, gallery, MARKET, "dot", lambda r, c: np.ones((1, 1)))


def test_fingerprints_differ_whenever_the_rule_or_a_setting_differs():
    rules = [*PROTOCOLS.values(), Protocol("single-gallery-shot", repeats=10, seed=1)]
    prints = {rule.fingerprint(distance=d) for rule in rules for d in ("cosine", "euclidean")}
    assert len(prints) == 10
    assert {len(p.split()[0]) for p in prints} == {16}
    assert MARKET.fingerprint(a=1, b=2) == MARKET.fingerprint(b=2, a=1)


def test_the_difference_of_two_fingerprints_names_every_key_with_both_values():
    one = MARKET.fingerprint(distance="cosine", split="a b", features=("pooled", "projected"))
    other = PROTOCOLS["cuhk03-new"].fingerprint(distance="euclidean", features=("pooled",), k1=20)
    assert set(difference(one, other).split("; ")) == {
        "rule market1501 and cuhk03-new",
        "junk -1 and none",
        "distractors 0 and none",
        "distance cosine and euclidean",
        "split a%20b and none",
        "features pooled,projected and pooled",
        "k1 none and 20",
    }
    assert difference("0000", "ffff") == "0000 and ffff"


def test_unit_rows_have_length_1_and_zeros_stay():
    rows = np.array([[3, 4], [0, 0], [-2, 0]], np.float32)
    np.testing.assert_allclose(unit_rows(rows), [[0.6, 0.8], [0, 0], [-1, 0]], rtol=1e-6)


@pytest.mark.parametrize("name", ["", *sorted(f".{path.stem}" for path in PACKAGE.glob("[!_]*.py"))])
def test_the_examples_in_the_docstrings_hold(name):
    done = doctest.testmod(importlib.import_module(f"dfgs.metrics{name}"))
    assert done.failed == 0


def test_the_readmes_example_of_the_library_runs(capsys):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "dfgs.metrics" in block]
    exec(example, {})
    assert "mAP" in capsys.readouterr().out
