"""k-reciprocal re-ranking against a dense version written from the paper's definition."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from conftest import write_index
from dfgs.config import Config
from dfgs.datasets import open_dataset
from dfgs.errors import DfgsError
from dfgs.feature_store import store_features
from dfgs.grid import Grid
from dfgs.metrics import PROTOCOLS, RATES, Embeddings, KReciprocal, Reranking, difference, rank, rank_reranked
from dfgs.metrics import _codes as codes
from dfgs.metrics import _neighbourhoods as neighbourhoods
from dfgs.metrics import _pool as pool
from dfgs.metrics import reranking as module
from dfgs.per_query import MEASURES
from dfgs.results import read_metrics
from dfgs.scoring import score_trial

MARKET = PROTOCOLS["market1501"]


def people(seed: int, size: int, depth: int = 16, identities: int = 12, spread: float = 0.8) -> Embeddings:
    rng = np.random.default_rng(seed)
    pids = rng.integers(1, identities + 1, size)
    centres = np.random.default_rng([seed, 99]).standard_normal((identities + 1, depth))
    features = centres[pids] + spread * rng.standard_normal((size, depth)) + 3
    return Embeddings(features.astype(np.float32), pids, rng.integers(4, size=size))


def take(embeddings: Embeddings, rows) -> Embeddings:
    return Embeddings(embeddings.features[rows], embeddings.pids[rows], embeddings.camids[rows])


def in_canonical_order(embeddings: Embeddings) -> Embeddings:
    """The order in which equal distances are told apart."""
    return take(embeddings, pool._canonical_order(embeddings))


def dense_distances(query: Embeddings, gallery: Embeddings, settings: KReciprocal) -> NDArray[np.float32]:
    """Zhong et al., section 3, image by image with sets and whole matrices."""
    features = np.concatenate([query.features, gallery.features]).astype(np.float64)
    original = ((features[:, None] - features) ** 2).sum(axis=-1).astype(np.float32)
    size = len(features)
    relative = original / np.maximum(original.max(axis=1, keepdims=True), np.float32(1e-30))

    def nearest(image: int, count: int) -> list[int]:
        others = [i for i in np.argsort(original[image], kind="stable").tolist() if i != image]
        return [image, *others][:count]

    lists = [nearest(image, size) for image in range(size)]

    def reciprocal(image: int, k: int) -> set[int]:
        return {other for other in lists[image][: k + 1] if image in lists[other][: k + 1]}

    half = round(settings.k1 / 2)
    weights = np.zeros((size, size), np.float32)
    for image in range(size):
        own = reciprocal(image, settings.k1)
        expanded = set(own)
        for other in own:
            offered = reciprocal(other, half)
            if 3 * len(offered & own) > 2 * len(offered):
                expanded |= offered
        members = sorted(expanded)
        raw = np.exp(-relative[image, members])
        weights[image, members] = raw / raw.sum()
    code = np.array([weights[lists[image][: settings.k2]].mean(axis=0) for image in range(size)])
    queries = len(query)
    final = np.empty((queries, size - queries), np.float32)
    for i, j in itertools.product(range(queries), range(size - queries)):
        a, b = code[i], code[queries + j]
        jaccard = 1 - np.minimum(a, b).sum() / np.maximum(a, b).sum()
        final[i, j] = (1 - settings.lambda_) * jaccard + settings.lambda_ * relative[i, queries + j]
    return final


def all_distances(query: Embeddings, gallery: Embeddings, settings: KReciprocal, **options) -> NDArray[np.float32]:
    reranking = Reranking(query, gallery, settings, **options)
    return reranking.distances(np.arange(len(query)), np.arange(len(gallery)))


@pytest.mark.parametrize("seed", range(50))
def test_distances_equal_the_dense_version(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng([seed, 1])
    k1 = int(rng.integers(1, 25))
    settings = KReciprocal(k1, int(rng.integers(1, k1 + 1)), float(rng.choice([0, 0.3, 0.7, 1])))
    query = people(seed, int(rng.integers(1, 20)), depth=int(rng.integers(1, 40)))
    gallery = people(seed, int(rng.integers(25, 70)), depth=query.features.shape[1], spread=float(rng.uniform(0.2, 2)))
    monkeypatch.setattr(neighbourhoods, "BLOCK", int(rng.integers(5, 60)))
    monkeypatch.setattr(codes, "ROWS_AT_ONCE", int(rng.integers(5, 60)))
    monkeypatch.setattr(module, "HEIGHT", int(rng.integers(2, 30)))
    monkeypatch.setattr(module, "WIDTH", int(rng.integers(2, 30)))
    expected = dense_distances(query, gallery, settings)
    np.testing.assert_allclose(all_distances(query, gallery, settings), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_equal_distances_are_told_apart_by_content(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbourhoods, "BLOCK", 9)
    rng = np.random.default_rng(seed)
    sets = []
    for size in (10, 50):
        points = rng.integers(-3, 4, (size, 3))
        points[: size // 4] = points[-1]
        sets.append(Embeddings(points.astype(np.float32), rng.integers(5, size=size), rng.integers(3, size=size)))
    query, gallery = map(in_canonical_order, sets)
    settings = KReciprocal(8, 3)
    expected = dense_distances(query, gallery, settings)
    np.testing.assert_allclose(all_distances(query, gallery, settings), expected, rtol=0, atol=1e-5)


def test_one_query_is_enough() -> None:
    query, gallery = people(1, 1), people(1, 40)
    settings = KReciprocal()
    expected = dense_distances(query, gallery, settings)
    np.testing.assert_allclose(all_distances(query, gallery, settings), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("has_ties", [False, True])
def test_the_order_of_queries_and_gallery_changes_no_bit(has_ties: bool) -> None:
    query, gallery = people(2, 20), people(2, 90)
    if has_ties:
        query, gallery = (Embeddings(np.round(e.features), e.pids, e.camids) for e in (query, gallery))
        copies = [take(gallery, np.arange(30)) for _ in range(2)]
        pids = np.concatenate([gallery.pids, *(e.pids + shift for e, shift in zip(copies, (0, 1), strict=True))])
        gallery = take(gallery, np.concatenate([np.arange(90), np.arange(30), np.arange(30)]))
        gallery = Embeddings(gallery.features, pids, gallery.camids)
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(len(query)), rng.permutation(len(gallery))
    settings = KReciprocal(3, 2)
    straight = rank_reranked(query, gallery, MARKET, settings)
    mixed = rank_reranked(take(query, rows), take(gallery, columns), MARKET, settings)
    np.testing.assert_array_equal(mixed.average_precision, straight.average_precision[rows])
    np.testing.assert_array_equal(mixed.inp, straight.inp[rows])


def test_the_streamed_ranking_is_that_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery = people(3, 30, spread=1.5), people(3, 200, spread=1.5)
    whole = -all_distances(query, gallery, KReciprocal())
    expected = rank(query, gallery, MARKET, "dot", lambda rows, columns: whole[np.ix_(rows, columns)])
    monkeypatch.setattr("dfgs.metrics._blocks.Blocks.width", 64)
    found = rank_reranked(query, gallery, MARKET)
    np.testing.assert_allclose(found.average_precision, expected.average_precision, rtol=0, atol=1e-9)
    assert 0 < np.nanmean(found.average_precision) < 1


def test_reranking_helps_where_identities_are_clusters() -> None:
    query, gallery = people(4, 60, spread=1.3), people(4, 400, spread=1.3)
    plain, reranked = rank(query, gallery, MARKET), rank_reranked(query, gallery, MARKET)
    assert np.nanmean(reranked.average_precision) > np.nanmean(plain.average_precision) + 0.02


def test_junk_takes_no_part() -> None:
    query, gallery = people(5, 10), people(5, 60)
    junk = Embeddings(query.features + 0.01, np.full(10, -1), query.camids)
    features, pids, camids = (
        np.concatenate([getattr(e, name) for e in (junk, gallery)]) for name in ("features", "pids", "camids")
    )
    found = rank_reranked(query, Embeddings(features, pids, camids), MARKET)
    np.testing.assert_array_equal(found.inp, rank_reranked(query, gallery, MARKET).inp)


def test_cosine_is_the_euclidean_distance_of_unit_vectors() -> None:
    query, gallery = people(6, 10), people(6, 60)
    unit = [
        Embeddings(e.features / np.linalg.norm(e.features, axis=1, keepdims=True), e.pids, e.camids)
        for e in (query, gallery)
    ]
    found = all_distances(query, gallery, KReciprocal(), distance="cosine")
    np.testing.assert_allclose(found, dense_distances(*unit, KReciprocal()), rtol=0, atol=1e-5)


def test_a_common_offset_costs_no_precision() -> None:
    far = [Embeddings(people(10, size).features + 500, *(np.arange(size),) * 2) for size in (10, 60)]
    expected = dense_distances(far[0], far[1], KReciprocal())
    np.testing.assert_allclose(all_distances(far[0], far[1], KReciprocal()), expected, rtol=0, atol=1e-5)


def test_an_image_is_never_nearer_than_itself() -> None:
    images = people(11, 60, depth=100)
    assert all_distances(images, images, KReciprocal(lambda_=1)).min() >= 0


def test_equal_features_everywhere_give_finite_distances() -> None:
    same = Embeddings(np.ones((30, 4), np.float32), np.arange(30), np.arange(30))
    assert np.isfinite(all_distances(same, same, KReciprocal())).all()


@pytest.mark.parametrize("memory", [0, 2_000])
def test_the_memory_cap_is_honoured_and_changes_nothing(memory: int) -> None:
    query, gallery = people(7, 40), people(7, 120)
    capped = Reranking(query, gallery, memory=memory)
    rows = np.arange(40), np.arange(120)
    np.testing.assert_array_equal(capped.distances(*rows), Reranking(query, gallery).distances(*rows))
    held = sum(images.nbytes + similarity.nbytes for images, similarity in capped._kept.values())
    assert memory - 1_000 < held <= memory


def test_rows_may_be_asked_for_in_any_order_and_twice() -> None:
    query, gallery = people(8, 12), people(8, 70)
    reranking = Reranking(query, gallery)
    rows, columns = np.array([3, 3, 0]), np.array([9, 1, 9, 69, 1])
    whole = reranking.distances(np.arange(12), np.arange(70))
    np.testing.assert_allclose(reranking.distances(rows, columns), whole[np.ix_(rows, columns)], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(reranking.scores(rows, columns), -reranking.distances(rows, columns))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k1": 0}, "re-ranking: k1 is 0; expected a whole number from 1"),
        ({"k2": 2.5}, "re-ranking: k2 is 2.5; expected a whole number from 1"),
        ({"k1": True}, "re-ranking: k1 is True; expected a whole number from 1"),
        ({"k1": 5, "k2": 6}, "re-ranking: k2 is 6, k1 is 5; expected k2 at most k1"),
        ({"lambda_": 1.5}, "re-ranking: lambda is 1.5; expected a share from 0 to 1"),
        ({"lambda_": float("nan")}, "re-ranking: lambda is nan; expected a share from 0 to 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(DfgsError) as caught:
        KReciprocal(**settings)
    assert str(caught.value) == message


def test_sets_that_do_not_fit_are_refused() -> None:
    query, gallery = people(9, 5), people(9, 40)
    with pytest.raises(DfgsError, match=r"16 dimensions, embeddings has 3; expected one model's features"):
        Reranking(query, people(9, 40, depth=3))
    with pytest.raises(DfgsError, match=r"k1 is 20, but .* hold 5 \+ 15 images; expected at least 21"):
        Reranking(query, take(gallery, np.arange(15)))
    with pytest.raises(DfgsError, match=r"distance: 'dot' cannot be re-ranked \(known: cosine, euclidean\)"):
        Reranking(query, gallery, distance="dot")
    zero = Embeddings(np.zeros((40, 16), np.float32), gallery.pids, gallery.camids, "gallery of a")
    with pytest.raises(DfgsError, match=r"gallery of a: feature row 0 is all zero"):
        Reranking(query, zero, distance="cosine")


def score_with(reranking: dict[str, Any] | None, config: dict[str, Any], folder: Path) -> Any:
    """Rows of one trial of a configuration, its features drawn at random around one centre per identity."""
    config["targets"]["a"]["reranking"] = reranking
    grid = Grid(Config.parse(config))
    job = grid.score_job(grid.trials("main")[0])
    job["targets"] = [target for target in job["targets"] if target["name"] == "a"]
    dataset = open_dataset(job["targets"][0]["dataset"])
    split, rng, stored = job["targets"][0]["splits"][0], np.random.default_rng(0), {}
    for view, images in (("query", dataset.query(split)), ("gallery", dataset.gallery(split))):
        features = images.pids[:, None] * np.ones(8) + rng.standard_normal((len(images), 8))
        stored[f"{dataset.name}/{split}/{view}"] = f"{view}.npy"
        store_features(features.astype(np.float32), folder / f"{view}.npy")
    embedded = grid.embed_job(grid.trials("main")[0])
    write_index(folder / "index.json", stored, embedded["datasets"], embedded["test"])
    outputs = {"metrics": folder / "metrics.csv", "per_query": folder / "queries.csv.gz"}
    score_trial(job, folder / "index.json", None, outputs)
    return read_metrics(folder / "metrics.csv").set_index("metric"), pd.read_csv(folder / "queries.csv.gz")


def test_a_target_with_reranking_gets_columns_and_a_fingerprint_of_its_own(
    on_disk: dict[str, Any], tmp_path: Path
) -> None:
    plain, plain_queries = score_with(None, on_disk, tmp_path / "plain")
    both, queries = score_with({"k1": 5, "k2": 2, "lambda": 0.3}, on_disk, tmp_path / "both")
    other, _ = score_with({"k1": 6, "k2": 2, "lambda": 0.3}, on_disk, tmp_path / "other")
    assert both.loc[plain.index, ["value", "protocol"]].equals(plain[["value", "protocol"]])
    assert set(both.index) - set(plain.index) == {f"{name}_reranked" for name in set(plain.index) - set(RATES)}
    again = difference(both.loc["mAP_reranked", "protocol"], other.loc["mAP_reranked", "protocol"])
    assert again == "k1 5 and 6"
    shared = list(plain_queries.columns)
    pd.testing.assert_frame_equal(queries[shared], plain_queries)
    assert list(queries.columns[len(shared) :]) == [f"{name}_reranked" for name in (*MEASURES, "protocol")]
    for suffix in ("", "_reranked"):
        assert set(queries[f"protocol{suffix}"]) == {both.loc[f"mAP{suffix}", "protocol"]}
        assert 100 * queries[f"average_precision{suffix}"].mean() == pytest.approx(both.loc[f"mAP{suffix}", "value"])
    protocols = {
        plain.loc["mAP", "protocol"],
        both.loc["mAP_reranked", "protocol"],
        other.loc["mAP_reranked", "protocol"],
    }
    assert len(protocols) == 3
    assert both.loc["mAP_reranked", "value"] != both.loc["mAP", "value"]


def test_without_reranking_a_job_does_not_name_it(values: dict[str, Any]) -> None:
    job = Grid(Config.parse(values)).score_job(Grid(Config.parse(values)).trials("main")[0])
    assert all(set(target) == {"name", "dataset", "splits", "protocol"} for target in job["targets"])


def test_a_reranked_metric_needs_reranked_targets(values: dict[str, Any]) -> None:
    values["experiments"]["main"]["metrics"] = ["mAP", "mAP_reranked"]
    with pytest.raises(DfgsError, match=r"metrics: 'mAP_reranked' needs targets\.\w+\.reranking; give it k1, k2 and"):
        Config.parse(values)


def test_a_configuration_refuses_k2_above_k1(values: dict[str, Any]) -> None:
    values["targets"]["a"]["reranking"] = {"k1": 3, "k2": 4, "lambda": 0.3}
    with pytest.raises(DfgsError, match=r"targets\.a\.reranking .*k2 is 4, k1 is 3; expected k2 at most k1"):
        Config.parse(values)
