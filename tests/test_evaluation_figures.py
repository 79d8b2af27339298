"""Figures of features: right lists, right counts, real people only on request and blurred, equal bytes."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dfgs.cli import cli
from dfgs.errors import DfgsError
from dfgs.evaluation_figures import ranked_lists
from dfgs.evaluation_figures.cmc import draw_cmc
from dfgs.evaluation_figures.embedding import choose_images, draw_embedding
from dfgs.evaluation_figures.ranked_lists import Shown, draw_ranked_lists, nearest
from dfgs.evaluation_figures.similarities import BINS, count_pairs, draw_similarities
from dfgs.feature_sets import FeatureSet, is_drawn_world, read_feature_set
from dfgs.figures.base import save
from dfgs.images import HEAD, blur_head
from dfgs.metrics import PROTOCOLS, Distance, Embeddings, Protocol
from dfgs.score_files import score
from test_score_command import RULE, index_of

PLAIN = PROTOCOLS["plain"]


@pytest.fixture
def index(world: Path, tmp_path: Path) -> Path:
    return index_of(world, tmp_path, "test")


@pytest.fixture
def features(index: Path) -> FeatureSet:
    return read_feature_set(index)


def drawn_numbers(seed: int = 0) -> FeatureSet:
    """A query and a gallery of drawn numbers, with junk, distractors and a query without a match."""
    rng = np.random.default_rng(seed)
    views = []
    for name, count, low in (("query", 15, 0), ("gallery", 60, -1)):
        rows = rng.normal(size=(count, 5)).astype(np.float32)
        views.append(Embeddings(rows, rng.integers(low, 6, count), rng.integers(1, 4, count), name))
    views[0].pids[-1] = 99
    return FeatureSet("numbers", *views)


def slow_score(one: np.ndarray, other: np.ndarray, distance: str) -> float:
    one, other = one.astype(float), other.astype(float)
    if distance == "euclidean":
        return float(np.linalg.norm(one - other))
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) if distance == "cosine" else 1))


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("rule", [RULE, PLAIN], ids=lambda rule: rule.name)
def test_ranked_lists_agree_with_a_slow_version(rule: Protocol, distance: Distance) -> None:
    features = drawn_numbers()
    q, g = features.query, features.gallery
    sign = 1 if distance == "euclidean" else -1
    found = nearest(features, rule, distance, range(15), 7)
    for row, rows in enumerate(found):
        kept = [
            i
            for i in range(60)
            if g.pids[i] not in rule.junk_pids
            and not (rule.removes_same_camera and g.pids[i] == q.pids[row] and g.camids[i] == q.camids[row])
        ]
        slow = sorted(kept, key=lambda i: sign * slow_score(q.features[row], g.features[i], distance))
        assert rows.tolist() == slow[:7]


def test_a_list_longer_than_the_gallery_shows_all_that_is_left() -> None:
    features = drawn_numbers()
    (found,) = nearest(features, PLAIN, "cosine", [3], 100)
    assert sorted(found.tolist()) == list(range(60))


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "dot"])
def test_pairs_are_counted_as_in_a_slow_version(distance: Distance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfgs.metrics._blocks.Blocks.height", 4)
    monkeypatch.setattr("dfgs.metrics._blocks.Blocks.width", 16)
    features = drawn_numbers(1)
    q, g = features.query, features.gallery
    genuine, impostor = [], []
    for i in range(len(q)):
        own, others = [], []
        for j in range(len(g)):
            if g.pids[j] == -1:
                continue
            value = slow_score(q.features[i], g.features[j], distance)
            if g.pids[j] != q.pids[i]:
                others.append(value)
            elif g.camids[j] != q.camids[i] and q.pids[i] != 0:
                own.append(value)
        if own:
            genuine += own
            impostor += others
    edges, found, other = count_pairs(features, RULE, distance)
    assert (len(edges), found.sum(), other.sum()) == (BINS + 1, len(genuine), len(impostor))
    assert edges[0] == pytest.approx(min(genuine + impostor), abs=1e-5)
    assert edges[-1] == pytest.approx(max(genuine + impostor), abs=1e-5)
    slow = np.histogram(genuine, edges)[0]
    # A value on an edge may fall to either side in float32.
    assert np.abs(np.cumsum(found) - np.cumsum(slow)).max() <= 1


def test_histograms_of_nothing_or_of_features_all_alike_are_refused() -> None:
    features = drawn_numbers()
    strangers = replace(features, query=Embeddings(features.query.features, np.full(15, 77), np.ones(15, int)))
    with pytest.raises(DfgsError, match="no query has a match"):
        draw_similarities(strangers, RULE, "cosine")
    alike = [Embeddings(np.ones((len(v), 2)), v.pids, v.camids) for v in (features.query, features.gallery)]
    with pytest.raises(DfgsError, match="features all alike"):
        draw_similarities(FeatureSet("alike", *alike), RULE, "euclidean")
    one = Embeddings(np.diag([1.0, 1.0, 3.0]), np.array([1, 1, 1]), np.array([1, 2, 2]))
    with pytest.raises(DfgsError, match="nobody but the query's own identity"):
        count_pairs(FeatureSet("one", one, one), RULE, "euclidean")


def test_a_drawn_world_is_known_by_its_place_or_its_manifest(world: Path, tmp_path: Path) -> None:
    (tmp_path / "results" / "worlds" / "w").mkdir(parents=True)
    (tmp_path / "real").mkdir()
    assert is_drawn_world(world)
    assert is_drawn_world(tmp_path / "results" / "worlds" / "w")
    assert not is_drawn_world(tmp_path / "real")
    (tmp_path / "real.json").write_text('{"images": 3}')
    assert not is_drawn_world(tmp_path / "real")


def test_a_link_to_real_people_among_the_drawn_worlds_is_not_a_drawn_world(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "results" / "worlds").mkdir(parents=True)
    (tmp_path / "results" / "worlds" / "w").symlink_to(tmp_path / "real")
    assert not is_drawn_world(tmp_path / "results" / "worlds" / "w")


def test_real_people_are_drawn_only_on_request_and_then_every_head_is_blurred(
    features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(ranked_lists, "blur_head", lambda picture: calls.append(picture) or blur_head(picture))
    draw_ranked_lists(features, RULE, "cosine", Shown(queries=2, length=3))
    assert not calls
    real = replace(features, is_drawn=False)
    with pytest.raises(DfgsError, match=r"may show real people .* --allow-real-people"):
        draw_ranked_lists(real, RULE, "cosine", Shown())
    figure = draw_ranked_lists(real, RULE, "cosine", Shown(queries=2, length=3, allows_real_people=True))
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    assert len(calls) == len(pictures) == 8
    for before, after in zip(calls, pictures, strict=True):
        assert np.array_equal(blur_head(before), after)
    assert "heads blurred" in figure.get_suptitle()


def test_the_blur_leaves_nothing_fine_in_the_head_and_all_else_as_it_was() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    blurred = np.asarray(blur_head(Image.fromarray(noise)))
    rows = round(HEAD * 128)
    np.testing.assert_array_equal(blurred[rows:], noise[rows:])
    head = blurred[:rows].astype(int)
    assert np.abs(np.diff(head, axis=0)).max() <= 6
    assert np.abs(np.diff(head, axis=1)).max() <= 6


def test_the_blur_evens_out_features_as_large_as_a_third_of_a_face() -> None:
    stripes = np.zeros((128, 64, 3), np.uint8)
    stripes[:, np.arange(64) % 20 < 10] = 255
    assert np.ptp(np.asarray(blur_head(Image.fromarray(stripes)))[: round(HEAD * 128)].astype(int)) < 40


def test_right_and_wrong_images_differ_in_colour_line_and_sign(features: FeatureSet) -> None:
    figure = draw_ranked_lists(features, RULE, "cosine", Shown(rows=(0, 4), length=6))
    lists = nearest(features, RULE, "cosine", [0, 4], 6)
    axes = iter(figure.axes)
    for row, found in zip((0, 4), lists, strict=True):
        query = next(axes)
        assert f"id {features.query.pids[row]}\n" in query.texts[0].get_text()
        for image in found:
            cell = next(axes)
            is_match = features.gallery.pids[image] == features.query.pids[row]
            spine = cell.spines["left"]
            look = (spine.get_edgecolor()[:3], spine.get_linestyle(), cell.texts[0].get_text())
            frame = ranked_lists.TRUE if is_match else ranked_lists.FALSE
            assert look == (pytest.approx(rgb(frame.colour)), frame.line, frame.sign)


def rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def test_queries_are_spread_from_the_lowest_to_the_highest_precision(features: FeatureSet) -> None:
    figure = draw_ranked_lists(features, RULE, "cosine", Shown(queries=3, length=1))
    shown = [axes.texts[0].get_text().split("AP ")[1] for axes in figure.axes[::2]]
    found = score(features, RULE, "cosine", (1,)).ranking.average_precision
    assert shown[0] == f"{100 * np.nanmin(found):.0f} %"
    assert shown[-1] == f"{100 * np.nanmax(found):.0f} %"


def test_lists_that_cannot_be_drawn_are_refused(features: FeatureSet, tmp_path: Path) -> None:
    missing = tmp_path / "gone.jpg"
    for given, shown, message in (
        (drawn_numbers(), Shown(), "names no image files"),
        (features, Shown(rows=(10_000,)), "query row 10000 is not there; expected 0 to "),
        (replace(features, query_paths=(missing,) * len(features.query)), Shown(), r"image .*gone\.jpg cannot be read"),
    ):
        with pytest.raises(DfgsError, match=message):
            draw_ranked_lists(given, RULE, "cosine", shown)


def test_cmc_curves_show_the_scores_and_refuse_two_protocols(features: FeatureSet) -> None:
    numbers = drawn_numbers()
    other = replace(
        numbers, name="other", query=Embeddings(-numbers.query.features, numbers.query.pids, numbers.query.camids)
    )
    scores = [score(given, RULE, "cosine", range(1, 9)) for given in (numbers, other)]
    figure = draw_cmc(scores, ["one", "two"])
    for line, found in zip(figure.axes[0].get_lines(), scores, strict=True):
        assert list(line.get_ydata()) == [found.values[f"rank{k}"] for k in range(1, 9)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"{name} (mAP {found.values['mAP']:.1f})" for name, found in zip(("one", "two"), scores, strict=True)
    ]
    euclidean = score(other, RULE, "euclidean", (1,))
    with pytest.raises(DfgsError, match="under two protocols: distance cosine and euclidean; curves of one figure"):
        draw_cmc([scores[0], euclidean], ["one", "two"])
    with pytest.raises(DfgsError, match="labels are one, one; expected 2 different ones"):
        draw_cmc(scores, ["one", "one"])


def test_the_embedding_takes_the_identities_with_the_most_images() -> None:
    features = drawn_numbers()
    rows, pids, is_query = choose_images(features, RULE, 2)
    everyone = np.concatenate([features.query.pids, features.gallery.pids])
    counts = {pid: int((everyone == pid).sum()) for pid in range(1, 6)}
    assert {counts[pid] for pid in set(pids.tolist())} == set(sorted(counts.values())[-2:])
    assert len(rows) == len(pids) == len(is_query)
    assert is_query.sum() == np.isin(features.query.pids, pids).sum()


def test_the_embedding_is_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    features = drawn_numbers()
    for name in ("one", "two"):
        save(draw_embedding(features, RULE, "cosine", 3), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    few = Embeddings(np.eye(4), np.array([1, 1, 2, 0]), np.arange(4))
    with pytest.raises(DfgsError, match="few: 3 images of 2 identities; expected 5 at least"):
        draw_embedding(FeatureSet("few", few, few, is_all_against_all=True), RULE, "cosine", 2)


def test_without_scikit_learn_the_embedding_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(DfgsError, match=r"pip install 'dfgs\[embedding\]'"):
        draw_embedding(drawn_numbers(), RULE, "cosine", 3)


@pytest.mark.parametrize("what", ["ranked-lists", "similarities", "cmc", "embedding"])
def test_each_command_writes_png_pdf_and_svg_and_equal_features_give_equal_bytes(
    what: str, index: Path, tmp_path: Path
) -> None:
    if what == "embedding":
        pytest.importorskip("sklearn")
    written = []
    for name in ("a", "b"):
        more = ["--queries", "2", "--length", "3"] if what == "ranked-lists" else []
        done = CliRunner().invoke(cli, ["show", what, str(index), *more, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        written.append([(tmp_path / f"{name}.{suffix}").read_bytes() for suffix in ("png", "pdf", "svg")])
    assert written[0] == written[1]
