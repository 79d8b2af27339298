"""Figures of planned contrasts, ranks, seeds, hardness, costs and batches: what is drawn is what the data say."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from dfgs.errors import DfgsError
from dfgs.figures import REGISTRY
from dfgs.figures.base import FigureData, alternative_text, save
from dfgs.figures.batches import GAP, SIZE, mosaic
from dfgs.figures.critical_difference import cliques
from dfgs.images import blur_head, read_rgb
from dfgs.stats.blocks import BlockRanks
from test_figures import PICTURES, SAMPLERS, SHAPES, draw, figure_data, row, two_models

DATA = SHAPES["default"]


def final(data: FigureData, sampler: str, source: str, seed: int) -> float:
    """The mean mAP over other domains of one training, counted out."""
    m = data.metrics[data.metrics["metric"] == "mAP"]
    rows = m[(m["sampler"] == sampler) & (m["source"] == source) & (m["seed"] == seed) & (m["target"] != source)]
    return float(rows["value"].mean())


def paired(data: FigureData, sampler: str, seeds: int = 3) -> list[float]:
    """The differences to PK, by source and seed."""
    cells = itertools.product("ab", range(seeds))
    return [final(data, sampler, *cell) - final(data, "pk", *cell) for cell in cells]


def texts(figure: Figure) -> list[str]:
    """All words in the panels."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_forest_draws_every_pair_its_mean_and_interval_and_writes_the_verdict() -> None:
    figure = draw("forest", DATA)
    (axes,) = figure.axes
    contrasts = [name for name in SAMPLERS if name != "pk"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"{name} vs pk" for name in contrasts]
    written = texts(figure)
    for place, name in enumerate(contrasts):
        differences = paired(DATA, name)
        dots = [x for line in axes.lines for x, y in line.get_xydata() if y == place - 0.22]
        assert sorted(dots) == pytest.approx(sorted(differences))
        bar = axes.containers[place]
        interval = stats.t.interval(0.95, 5, np.mean(differences), stats.sem(differences))
        assert bar.lines[0].get_xydata().tolist() == [[pytest.approx(np.mean(differences)), place + 0.12]]
        assert bar.lines[2][0].get_segments()[0][:, 0] == pytest.approx(interval)
        numbers = f"{np.mean(differences):+.1f} [{interval[0]:+.1f}, {interval[1]:+.1f}]".replace("-", "\N{MINUS SIGN}")
        assert numbers in written
    assert written.count("6") == 3
    assert sum("undecided" in text for text in written) == 3
    (region,) = axes.patches
    assert (region.get_x(), region.get_x() + region.get_width()) == (-0.5, 0.5)


def test_a_clear_and_a_small_difference_are_called_so_in_the_forest() -> None:
    metrics = DATA.metrics[DATA.metrics["sampler"].isin(("pk", "gs", "random"))].copy()
    shift = metrics["sampler"].map({"gs": 5.0, "random": 0.0, "pk": 0.0})
    metrics["value"] = metrics["seed"] + 40 + shift + 0.01 * (metrics["seed"] % 2) * (metrics["sampler"] != "pk")
    data = replace(DATA, metrics=metrics, contrasts=(("gs", "pk"), ("random", "pk")), samplers=("pk", "gs", "random"))
    written = texts(draw("forest", data))
    assert "equal" in written
    more = [text for text in written if text.startswith("undecided")]
    assert more == ["undecided (1 more seed)"], "six pairs cannot reject twice"
    assert "better" in texts(draw("forest", replace(data, contrasts=(("gs", "pk"),))))


def test_a_pair_with_a_collapsed_model_is_an_open_dot() -> None:
    fallen = pd.DataFrame([row(metric="collapsed", source="b", target="c", sampler="gs", seed=1, value=1.0)])
    data = replace(DATA, metrics=pd.concat([DATA.metrics, fallen], ignore_index=True))
    figure = draw("forest", data)
    open_dots = [line for line in figure.axes[0].lines if line.get_mfc() == "white" and len(line.get_xdata())]
    assert [line.get_xdata().tolist() for line in open_dots] == [[pytest.approx(paired(data, "gs")[4])]]
    assert "one pair, a model collapsed" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "one pair, a model collapsed" not in [t.get_text() for t in draw("forest", DATA).legends[0].get_texts()]


def test_one_seed_gives_a_forest_without_intervals() -> None:
    figure = draw("forest", figure_data(seeds=1))
    assert all(bar.lines[2] == () for bar in figure.axes[0].containers)
    assert not any("[" in text for text in texts(figure) if "interval" not in text)


def test_without_planned_contrasts_nothing_is_picked_afterwards() -> None:
    unplanned = replace(DATA, contrasts=())
    assert not any(REGISTRY.load(name)().applies(unplanned) for name in ("forest", "cost-gain", "seeds-needed"))


def test_a_contrast_of_a_sampler_without_numbers_is_named() -> None:
    with pytest.raises(DfgsError, match="no values of sampler 'dfgs-imag'"):
        draw("forest", replace(DATA, contrasts=(("dfgs-imag", "pk"),)))


def test_the_ranks_are_those_over_cross_domain_cells_and_bars_join_what_is_near() -> None:
    figure = draw("critical-difference", DATA)
    m = DATA.metrics[(DATA.metrics["source"] != DATA.metrics["target"]) & (DATA.metrics["sampler"] != "zero-shot")]
    means = m.pivot_table(index=["source", "target"], columns="sampler", values="value")
    ranks = means.rank(axis=1, ascending=False).mean()
    written = texts(figure)
    for name in SAMPLERS:
        assert f"{name} ({ranks[name]:.2f})" in written
    assert figure.axes[0].get_title().startswith("4 blocks, Friedman p = ")
    marks = [line for line in figure.axes[0].lines if line.get_marker() in "os^D" and len(line.get_xdata()) == 1]
    assert sorted(line.get_xdata()[0] for line in marks) == pytest.approx(sorted(ranks))


def test_bars_are_the_largest_groups_within_the_critical_difference() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ranks = dict(zip("abcdef", np.round(rng.uniform(1, 6, 6), 1).tolist(), strict=True))
        found = cliques(BlockRanks(ranks, 9, 0.1, 1.5))
        order = sorted(ranks, key=lambda name: (ranks[name], name))
        runs = [order[i:j] for i, j in itertools.combinations(range(7), 2) if j - i > 1]
        near = [run for run in runs if ranks[run[-1]] - ranks[run[0]] < 1.5]
        largest = [run for run in near if not any(set(run) < set(other) for other in near)]
        assert found == [(run[0], run[-1]) for run in largest]


def test_ranks_need_three_samplers_and_three_cells() -> None:
    drawing = REGISTRY.load("critical-difference")()
    assert not drawing.applies(figure_data(samplers=("pk", "gs")))
    assert not drawing.applies(figure_data(sources=("a",)))
    assert drawing.applies(figure_data(samplers=("pk", "gs", "random")))


def test_the_spread_joins_the_trainings_of_a_seed_and_leaves_a_missing_one_out() -> None:
    m = DATA.metrics
    gone = (m["sampler"] == "pk") & (m["seed"] == 1) & (m["source"] == "a") & (m["target"] == "b")
    data = replace(DATA, metrics=m[~gone])
    figure = draw("seed-spread", data)
    assert [axes.get_title() for axes in figure.axes][:3] == ["a→b", "a→c", "a→a (within)"]
    for axes, (source, target) in zip(figure.axes, [("a", "b"), ("a", "c"), ("a", "a")], strict=False):
        for seed, line in enumerate(axes.lines):
            for place, name in enumerate(SAMPLERS):
                is_it = (data.metrics[["source", "target", "sampler"]] == [source, target, name]).all(axis=1)
                value = data.metrics[is_it & (data.metrics["seed"] == seed)]["value"]
                drawn = line.get_ydata()[place]
                assert np.isnan(drawn) if value.empty else drawn == value.item()
        assert len(axes.lines) == len(axes.collections) == 3
    assert not REGISTRY.load("seed-spread")().applies(figure_data(seeds=1))


def test_hardness_puts_every_training_at_its_final_map_from_its_first_to_its_last_epoch() -> None:
    figure = draw("hardness", DATA)
    assert len(figure.axes) == 6
    for place, source in enumerate("ab"):
        for quantity, axes in zip(
            ("hardest_negative", "identities_served", "images_served"), figure.axes[3 * place :], strict=False
        ):
            scale = {"hardest_negative": 1, "identities_served": 100 / 300, "images_served": 100 / 2000}[quantity]
            lines = iter(axes.lines)
            for name, seed in itertools.product(SAMPLERS, range(3)):
                whole, first, last = next(lines), next(lines), next(lines)
                curves = DATA.curves
                is_it = (curves["source"] == source) & (curves["sampler"] == name) & (curves["seed"] == seed)
                values = (curves[is_it][quantity] * scale).tolist()
                assert whole.get_xdata() == pytest.approx(values)
                assert whole.get_ydata() == pytest.approx([final(DATA, name, source, seed)] * len(values))
                assert (first.get_xdata()[0], first.get_mfc()) == (pytest.approx(values[0]), "white")
                assert last.get_xdata()[0] == pytest.approx(values[-1])


def test_cost_and_gain_are_means_of_the_records_and_the_judged_difference() -> None:
    figure = draw("cost-gain", DATA)
    left, right = figure.axes
    assert left.get_xlabel() == "hours per training"
    for place, name in enumerate(name for name in SAMPLERS if name != "pk"):
        mine = DATA.costs[DATA.costs["sampler"] == name]
        for axes, value in ((left, mine["seconds"].mean() / 3600), (right, 100 * mine["sampler_share"].mean())):
            point = axes.containers[place].lines[0].get_xydata().tolist()
            assert point == [[pytest.approx(value), pytest.approx(np.mean(paired(DATA, name)))]]
    base = DATA.costs[DATA.costs["sampler"] == "pk"]["seconds"].mean() / 3600
    assert [line.get_xdata()[0] for line in left.lines if line.get_mfc() == "white"] == [pytest.approx(base)] * 3
    assert not REGISTRY.load("cost-gain")().applies(replace(DATA, costs=DATA.costs.iloc[:0]))


def test_the_curves_of_seeds_are_the_t_interval_and_the_power_of_the_observed_spread() -> None:
    figure = draw("seeds-needed", DATA)
    width, chance = figure.axes
    for place, name in enumerate(name for name in SAMPLERS if name != "pk"):
        differences = np.array(paired(DATA, name))
        deviation, level = differences.std(ddof=1), 0.05 / 3
        curve, now = width.lines[2 * place : 2 * place + 2]
        for seeds, value in zip(curve.get_xdata(), curve.get_ydata(), strict=True):
            pairs = 2 * seeds
            assert value == pytest.approx(stats.t.ppf(0.975, pairs - 1) * deviation / np.sqrt(pairs))
        low, high = stats.t.interval(0.95, 5, differences.mean(), deviation / np.sqrt(6))
        assert now.get_xydata().tolist() == [[3, pytest.approx((high - low) / 2)]]
        curve, now = chance.lines[2 * place : 2 * place + 2]
        powers = dict(zip(curve.get_xdata().tolist(), curve.get_ydata().tolist(), strict=True))
        assert powers[1] == powers[2] == powers[3] == 0, "fewer than 7 pairs reject none of three contrasts"
        shift = abs(differences.mean()) / deviation * np.sqrt(16)
        critical = stats.t.ppf(1 - level / 2, 15)
        slow = stats.nct.sf(critical, 15, shift) + stats.nct.cdf(-critical, 15, shift)
        assert powers[8] == pytest.approx(100 * slow, rel=1e-6)
        assert now.get_xydata().tolist() == [[3, 0]]
    assert width.lines[-1].get_ydata()[0] == 0.5
    assert chance.lines[-1].get_ydata()[0] == 80
    assert not REGISTRY.load("seeds-needed")().applies(figure_data(seeds=1))


def batch(pids: list[int], is_drawn: bool = True) -> pd.DataFrame:
    """A batch of these people."""
    paths = [PICTURES[i % len(PICTURES)] for i in range(len(pids))]
    return pd.DataFrame({"path": paths, "pid": pids, "is_drawn": is_drawn})


def cell(picture: np.ndarray, column: int, line: int) -> np.ndarray:
    """The image at a place of a mosaic."""
    left, top = column * (SIZE[0] + GAP), line * (SIZE[1] + GAP)
    return picture[top : top + SIZE[1], left : left + SIZE[0]]


def small(path: Path) -> Image.Image:
    return read_rgb(path).resize(SIZE, Image.Resampling.BILINEAR)


def test_a_batch_is_laid_out_by_identity_in_the_order_of_serving() -> None:
    rows = batch([7, 3, 7, 3, 9, 9])
    picture = mosaic(rows)
    assert picture.shape == (2 * SIZE[1] + GAP, 3 * SIZE[0] + 2 * GAP, 3)
    for column, members in enumerate(([0, 2], [1, 3], [4, 5])):
        for line, number in enumerate(members):
            assert np.array_equal(cell(picture, column, line), np.asarray(small(rows["path"][number])))
    assert (picture[SIZE[1] : SIZE[1] + GAP] == 255).all()


def test_a_batch_without_identities_of_one_size_fills_columns_of_four() -> None:
    assert mosaic(batch([1, 2, 3, 4, 5, 5])).shape[:2] == (4 * (SIZE[1] + GAP) - GAP, 2 * (SIZE[0] + GAP) - GAP)
    assert mosaic(batch([1, 2, 3, 4, 5, 6])).shape[:2] == (4 * (SIZE[1] + GAP) - GAP, 2 * (SIZE[0] + GAP) - GAP)


def test_heads_of_real_people_are_blurred_in_a_batch_and_the_title_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "person.png")
    rows = pd.DataFrame({"path": tmp_path / "person.png", "pid": [1, 1], "is_drawn": [True, False]})
    picture = mosaic(rows)
    assert np.array_equal(cell(picture, 0, 0), noise)
    assert np.array_equal(cell(picture, 0, 1), np.asarray(blur_head(Image.fromarray(noise))))
    assert not np.array_equal(cell(picture, 0, 1), noise)
    real = replace(DATA, batches=DATA.batches.assign(is_drawn=False))
    assert draw("batches", real).get_suptitle().endswith("; heads blurred")
    assert "blurred" not in draw("batches", DATA).get_suptitle()


def test_the_batches_of_every_sampler_stand_early_and_late_of_one_seed_and_source() -> None:
    shuffled = replace(two_models(DATA), samplers=SAMPLERS)
    figure = draw("batches", shuffled)
    expected = [f"{name}\nepoch {epoch}: 4 identities, 8 images" for name in SAMPLERS for epoch in (1, 5)]
    assert [axes.get_title() for axes in figure.axes] == expected
    assert "model small, source a, seed 0" in figure.get_suptitle()


@pytest.mark.parametrize("name", REGISTRY.names())
def test_every_figure_carries_an_alternative_text_of_a_sentence_with_numbers(tmp_path: Path, name: str) -> None:
    data = SHAPES[{"cmc": "ranks", "settings": "star"}.get(name, "default")]
    save(draw(name, data), tmp_path / "f")
    text = alternative_text(tmp_path / "f.svg")
    assert text.startswith(REGISTRY.load(name).title + ": ")
    assert text.endswith(".")
    assert any(character.isdigit() for character in text)
    assert 60 < len(text) < 1200
    with Image.open(tmp_path / "f.png") as image:
        assert image.info["Description"] == text


def test_a_figure_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "f.svg").write_text("no figure")
    with pytest.raises(DfgsError, match=r"cannot read the figure .*f\.svg"):
        alternative_text(tmp_path / "f.svg")


def test_the_alternative_text_of_the_forest_has_the_numbers_that_are_drawn() -> None:
    text = REGISTRY.load("forest")().describe(DATA)
    for name in ("random", "gs", "dfgs-image"):
        assert f"{name} vs pk {np.mean(paired(DATA, name)):+.1f}".replace("-", "\N{MINUS SIGN}") in text.replace(
            name.replace("-", "\N{MINUS SIGN}"), name
        ).replace("-", "\N{MINUS SIGN}")
