"""Figures: they draw the numbers they are given, nothing is cut or overlaps, and equal data give equal bytes."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dfgs.figures import REGISTRY
from dfgs.figures.base import COLOURS, DASHES, FigureData, looks, save
from dfgs.stats import mean_interval

REPORT = Path(__file__).parents[1] / "workflow" / "report"
PICTURES = sorted((Path(__file__).parent / "fixtures" / "datumaro_market1501_tiny").rglob("*.jpg"))
SAMPLERS = ("random", "pk", "gs", "dfgs-image")
WITHIN = frozenset({("a", "a"), ("b", "b")})


def row(**changes: Any) -> dict[str, Any]:
    """One long row, with changes."""
    base = {"experiment": "default", "source": "a", "target": "b", "split": "test", "model": "small", "sampler": "pk"}
    rest = {"seed": 0, "metric": "mAP", "value": 40.0, "protocol": "0" * 16, "commit": "c0ffee", "versions": "x"}
    return base | rest | changes


def long_rows(
    sources: tuple[str, ...], targets: tuple[str, ...], samplers: tuple[str, ...], seeds: int
) -> pd.DataFrame:
    """Long rows with drawn numbers, the untuned backbone among them."""
    rng = np.random.default_rng(0)
    cells = itertools.product(sources, targets, samplers, range(seeds))
    rows = [row(source=s, target=t, sampler=n, seed=i, value=rng.uniform(30, 70)) for s, t, n, i in cells]
    rows += [row(source=s, target=t, sampler="zero-shot", value=12.0) for s in sources for t in targets]
    return pd.DataFrame(rows)


def curve_rows(sources: tuple[str, ...], samplers: tuple[str, ...], seeds: int, epochs: int) -> pd.DataFrame:
    """Training curves with drawn numbers."""
    rng = np.random.default_rng(1)
    cells = itertools.product(sources, samplers, range(seeds), range(1, epochs + 1))
    return pd.DataFrame(
        [
            {"source": s, "model": "small", "sampler": n, "seed": i, "epoch": e}
            | {"loss": rng.uniform(1, 5), "hardest_negative": rng.uniform(0.5, 1.2)}
            | {"identities_served": rng.integers(150, 300), "images_served": rng.integers(1000, 2000)}
            for s, n, i, e in cells
        ]
    )


def audit_rows(sources: tuple[str, ...], samplers: tuple[str, ...], seeds: int, epochs: int) -> pd.DataFrame:
    """Audits of the first and the last epoch with drawn numbers; the last sampler's graphs are at chance."""
    rng = np.random.default_rng(2)
    cells = itertools.product(sources, samplers, range(seeds), sorted({1, epochs}))
    return pd.DataFrame(
        [
            {"source": s, "model": "small", "sampler": n, "seed": i, "epoch": e, "at_chance": n == samplers[-1]}
            | {"neighbour_share": rng.uniform(0, 0.4), "neighbour_chance": 0.05}
            | {f"image_distance_q{q}": rng.uniform(0.5, 1.2) for q in range(1, 5)}
            for s, n, i, e in cells
        ]
    )


def cost_rows(sources: tuple[str, ...], samplers: tuple[str, ...], seeds: int) -> pd.DataFrame:
    """What every training took, drawn, and the size of its source."""
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        [
            {"source": s, "model": "small", "sampler": n, "seed": i, "identities": 300, "images": 2000}
            | {"seconds": rng.uniform(100, 7000), "sampler_share": rng.uniform(0, 0.3)}
            for s, n, i in itertools.product(sources, samplers, range(seeds))
        ]
    )


def batch_rows(
    sources: tuple[str, ...], samplers: tuple[str, ...], seeds: int, epochs: int, images: int = 8
) -> pd.DataFrame:
    """The first batch of the first and the last epoch: pairs of images of one identity."""
    cells = itertools.product(sources, samplers, range(seeds), sorted({1, epochs}), range(images))
    return pd.DataFrame(
        [
            {"source": s, "model": "small", "sampler": n, "seed": i, "epoch": e, "pid": 10 - k // 2, "is_drawn": True}
            | {"path": PICTURES[k % len(PICTURES)]}
            for s, n, i, e, k in cells
        ]
    )


def figure_data(
    sources: tuple[str, ...] = ("a", "b"),
    targets: tuple[str, ...] = ("a", "b", "c"),
    samplers: tuple[str, ...] = SAMPLERS,
    seeds: int = 3,
    epochs: int = 5,
) -> FigureData:
    """Data of one experiment, without settings that vary."""
    settings = {name: {"class": name, "args": {}} for name in samplers}
    metrics, curves = long_rows(sources, targets, samplers, seeds), curve_rows(sources, samplers, seeds, epochs)
    audits = audit_rows(sources, samplers, seeds, epochs)
    return FigureData(
        *(metrics, curves, "default", samplers, settings, WITHIN, audits),
        contrasts=tuple((name, "pk") for name in samplers if name != "pk" and "pk" in samplers),
        costs=cost_rows(sources, samplers, seeds),
        batches=batch_rows(sources, samplers, seeds, epochs),
    )


def ablation(pairs: list[tuple[int, int]], seeds: int = 3) -> FigureData:
    """Data of a grid over the neighbours k and the skip m of DFGS, with PK."""
    settings = {
        f"k{k}-m{m}": {"class": "dfgs", "args": {"neighbours": k, "skip": m, "graph": "image"}} for k, m in pairs
    }
    settings |= {"pk": {"class": "pk", "args": {}}}
    metrics = long_rows(("a",), ("a", "b", "c"), tuple(settings), seeds)
    curves, audits = (make(("a",), tuple(settings), seeds, 4) for make in (curve_rows, audit_rows))
    return FigureData(metrics, curves, "ablation", tuple(settings), settings, WITHIN, audits)


STAR = [(5, 2), (10, 2), (20, 2), (10, 0), (10, 4)]
FULL = list(itertools.product((5, 10), (0, 2)))
LONG = ("market1501-msmt17-cuhk-sysu", "cuhk03-new-labelled")


def two_models(data: FigureData) -> FigureData:
    """The same data for a second model too."""
    twice = {
        name: pd.concat([rows, rows.assign(model="vit-b-16")]) if len(rows := getattr(data, name)) else rows
        for name in ("metrics", "curves", "audits", "costs", "batches")
    }
    return replace(data, **twice)


def ranks(sources: tuple[str, ...], targets: tuple[str, ...], samplers: tuple[str, ...], seeds: int) -> FigureData:
    """Data with nothing but the CMC up to rank 20, drawn and rising."""
    rows = long_rows(sources, targets, samplers, seeds)
    metrics = [rows.assign(metric=f"rank{k}", value=100 - (100 - rows["value"]) / k) for k in range(1, 21)]
    none = curve_rows((), (), 0, 0)
    return FigureData(pd.concat(metrics), none, "default", samplers, {}, WITHIN)


SHAPES = {
    "default": figure_data(),
    "one cell": figure_data(("a",), ("b",), ("pk",), seeds=1, epochs=1),
    "long names": figure_data(LONG, (*LONG, "viper"), ("pk", *(f"dfgs-image-and-text-{i}" for i in range(8))), seeds=2),
    "star": ablation(STAR),
    "full": ablation(FULL, seeds=1),
    "two models": two_models(ablation([(5, 2), (10, 2)])),
    "two models compared": two_models(figure_data(("a",), ("a", "b", "c", "d"), SAMPLERS[:3])),
    "ranks": ranks(("a", "b"), ("a", "b", "c"), SAMPLERS, 3),
    "ranks of one cell": ranks(("a",), ("b",), ("pk",), 1),
    "ranks, long names": ranks(LONG, (*LONG, "viper"), tuple(f"dfgs-image-and-text-{i}" for i in range(9)), 2),
    "ranks, two models": two_models(ranks(("a",), ("b", "c"), ("pk", "gs"), 2)),
}
DRAWN = [
    (shape, name) for shape, data in SHAPES.items() for name in REGISTRY.names() if REGISTRY.load(name)().applies(data)
]


def draw(name: str, data: FigureData) -> Figure:
    """Draw the figure called `name`."""
    figure: Figure = REGISTRY.load(name)().draw(data)
    return figure


def overlaps(boxes: list[Bbox]) -> bool:
    """Tell whether any two boxes share more than a hair."""
    shrunk = [Bbox.from_extents(b.x0 + 0.5, b.y0 + 0.5, b.x1 - 0.5, b.y1 - 0.5) for b in boxes]
    return any(one.overlaps(other) for one, other in itertools.combinations(shrunk, 2))


def test_the_shapes_of_this_test_cover_every_figure() -> None:
    assert {name for _, name in DRAWN} == set(REGISTRY.names())
    assert len(DRAWN) == 3 * 11 + 3 * 6 + 5 + 4


@pytest.mark.parametrize(("shape", "name"), DRAWN)
def test_nothing_is_cut_and_no_labels_overlap(shape: str, name: str) -> None:
    figure = draw(name, SHAPES[shape])
    figure.set_dpi(150)
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width < 13, "it fits a page or a screen"
    assert height < 20
    assert box.x0 >= -0.01
    assert box.y0 >= -0.01
    assert box.x1 <= width + 0.01
    assert box.y1 <= height + 0.01
    titles = [figure._suptitle, *(axes.title for axes in figure.axes)]
    assert not overlaps([t.get_window_extent() for t in titles if t is not None and t.get_text()])
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)  # Inner panels have no labels.
            labels = [t for at, t in ticks if low <= at <= high and t.get_text() and t.get_visible()]
            assert not overlaps([label.get_window_extent() for label in labels]), [t.get_text() for t in labels]


def test_a_long_legend_makes_the_figure_taller_and_not_its_panels_smaller() -> None:
    heights = []
    for samplers in (("pk",), tuple(f"dfgs-image-and-text-{i}" for i in range(15))):
        figure = draw("training-curves", figure_data(samplers=samplers))
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_position().height * figure.get_figheight())
    assert heights[1] == pytest.approx(heights[0], rel=0.05)


@pytest.mark.parametrize("name", REGISTRY.names())
def test_two_runs_give_the_same_bytes_without_a_date(tmp_path: Path, name: str) -> None:
    for stem in ("one", "two"):
        save(draw(name, SHAPES[{"cmc": "ranks", "settings": "star"}.get(name, "default")]), tmp_path / stem)
    for suffix in ("png", "pdf", "svg"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
    assert b"Date" not in (tmp_path / "one.pdf").read_bytes()
    assert b"/Producer" not in (tmp_path / "one.pdf").read_bytes()
    assert b"date" not in (tmp_path / "one.svg").read_bytes()
    expected = [f"{stem}.{suffix}" for stem in ("one", "two") for suffix in ("pdf", "png", "svg")]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected


def test_the_order_of_the_rows_and_the_users_own_style_change_nothing(tmp_path: Path) -> None:
    data = SHAPES["default"]
    save(draw("comparison", data), tmp_path / "one")
    shuffled = FigureData(
        data.metrics.sample(frac=1, random_state=0),
        data.curves.sample(frac=1, random_state=0),
        *(data.experiment, data.samplers, data.settings, data.within),
    )
    with matplotlib.rc_context({"font.size": 20, "savefig.facecolor": "red", "axes.facecolor": "blue"}):
        save(draw("comparison", shuffled), tmp_path / "two")
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_another_process_with_another_hash_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_figures as t\n"
        "t.save(t.draw('transfer-matrix', t.SHAPES['default']), sys.argv[1])\n"
        "assert not {'torch', 'open_clip', 'matplotlib.pyplot'} & set(sys.modules), 'a heavy import'\n"
    )
    paths = [str(tmp_path / name) for name in ("one", "two")]
    for seed, path in zip("12", paths, strict=True):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code, path], check=True, env=environment)
    assert Path(f"{paths[0]}.png").read_bytes() == Path(f"{paths[1]}.png").read_bytes()


def test_a_figure_is_saved_in_all_formats_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = draw("comparison", SHAPES["one cell"])
    whole = Figure.savefig

    def failing(self: Figure, path: Path, **options: Any) -> None:
        if options["format"] == "svg":
            raise RuntimeError("disk on fire")
        whole(self, path, **options)

    monkeypatch.setattr(Figure, "savefig", failing)
    with pytest.raises(RuntimeError):
        save(figure, tmp_path / "v1.5")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    save(figure, tmp_path / "v1.5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v1.5.pdf", "v1.5.png", "v1.5.svg"]


def test_a_figure_without_anything_to_draw_does_not_apply() -> None:
    nothing = FigureData(pd.DataFrame([row(sampler="zero-shot")]), curve_rows((), (), 0, 0), "default", ())
    assert [name for name in REGISTRY.names() if REGISTRY.load(name)().applies(nothing)] == []
    applying = [name for name in REGISTRY.names() if REGISTRY.load(name)().applies(SHAPES["default"])]
    assert applying == sorted(set(REGISTRY.names()) - {"cmc", "settings"})


def test_the_comparison_draws_every_mean_interval_and_seed_of_every_transfer() -> None:
    data = SHAPES["default"]
    figure = draw("comparison", data)
    titles = ["a→b", "a→c", "a→a (within)", "b→a", "b→c", "b→b (within)"]
    assert [axes.get_title() for axes in figure.axes] == titles
    assert figure.get_suptitle().endswith("mAP (%), mean ± 95 % t-interval over n = 3 seeds")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(SAMPLERS)
    for axes in figure.axes:
        source, target = axes.get_title().removesuffix(" (within)").split("→")
        assert axes.get_yticks().tolist() == [0, 1, 2, 3]
        assert axes.yaxis_inverted()
        assert axes.get_xlabel() == "mAP (%), zero-shot: 12.0"
        for at, (name, bar) in enumerate(zip(SAMPLERS, axes.containers, strict=True)):
            rows = data.metrics[(data.metrics[["source", "target", "sampler"]] == [source, target, name]).all(axis=1)]
            mean = mean_interval(rows["value"])
            assert bar.lines[0].get_xydata().tolist() == [[pytest.approx(mean.mean), at]]
            assert bar.lines[2][0].get_segments()[0][:, 0] == pytest.approx([mean.low, mean.high])
            dots = [line for line in axes.lines if line.get_marker() == "."][at]
            assert sorted(dots.get_xdata()) == sorted(rows["value"])


def test_one_seed_is_drawn_without_interval_and_the_title_says_why() -> None:
    figure = draw("comparison", SHAPES["one cell"])
    assert "one seed, so no interval is given" in figure.get_suptitle()
    assert figure.axes[0].containers[0].lines[2] == ()


def test_the_matrix_prints_every_mean_in_its_cell_and_frames_within_domain_ones() -> None:
    data = SHAPES["default"]
    missing = data.metrics[~((data.metrics["source"] == "a") & (data.metrics["target"] == "c"))]
    figure = draw("transfer-matrix", FigureData(missing, data.curves, "default", SAMPLERS, {}, WITHIN))
    assert [axes.get_title() for axes in figure.axes[:-1]] == list(SAMPLERS), "the last axes are the colour bar"
    for axes, name in zip(figure.axes, SAMPLERS, strict=False):
        printed = {text.get_position(): text.get_text() for text in axes.texts}
        for (y, source), (x, target) in itertools.product(enumerate("ab"), enumerate("abc")):
            rows = missing[(missing[["source", "target", "sampler"]] == [source, target, name]).all(axis=1)]
            assert printed[x, y] == (f"{rows['value'].mean():.1f}" if len(rows) else "\N{EN DASH}")
        assert sorted((p.get_x() + 0.46, p.get_y() + 0.46) for p in axes.patches) == [(0, 0), (1, 1)]


def test_the_curves_are_means_over_seeds_with_their_interval() -> None:
    data = SHAPES["default"]
    figure = draw("training-curves", data)
    for axes, (quantity, source) in zip(
        figure.axes, itertools.product(("loss", "hardest_negative"), "ab"), strict=True
    ):
        for line, band, name in zip(axes.lines, axes.collections, SAMPLERS, strict=True):
            rows = data.curves[(data.curves[["source", "sampler"]] == [source, name]).all(axis=1)]
            assert line.get_xdata().tolist() == [1, 2, 3, 4, 5]
            assert line.get_ydata() == pytest.approx([rows[rows["epoch"] == e][quantity].mean() for e in range(1, 6)])
            first = mean_interval(rows[rows["epoch"] == 1][quantity])
            edge = [y for x, y in band.get_paths()[0].vertices if x == 1]
            assert (min(edge), max(edge)) == pytest.approx((max(0.0, first.low), first.high))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(SAMPLERS)


def test_cumulative_matching_draws_the_mean_and_the_interval_of_every_rank_within_0_and_100() -> None:
    data = SHAPES["ranks"]
    figure = draw("cmc", data)
    assert [axes.get_title() for axes in figure.axes] == ["a→b", "a→c", "a→a (within)", "b→a", "b→c", "b→b (within)"]
    assert figure.get_suptitle().endswith("mean ± 95 % t-interval over n = 3 seeds")
    for axes in figure.axes:
        source, target = axes.get_title().removesuffix(" (within)").split("→")
        for line, band, name in zip(axes.lines, axes.collections, (*SAMPLERS, "zero-shot"), strict=True):
            rows = data.metrics[(data.metrics[["source", "target", "sampler"]] == [source, target, name]).all(axis=1)]
            by_rank = [rows[rows["metric"] == f"rank{k}"]["value"] for k in range(1, 21)]
            assert line.get_xdata().tolist() == list(range(1, 21))
            assert line.get_ydata() == pytest.approx([values.mean() for values in by_rank])
            if name != "zero-shot":
                first = mean_interval(by_rank[0])
                edge = [y for x, y in band.get_paths()[0].vertices if x == 1]
                assert (min(edge), max(edge)) == pytest.approx((max(0.0, first.low), min(100.0, first.high)))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*SAMPLERS, "zero-shot"]


def test_the_audit_draws_shares_with_intervals_and_hardness_by_quarter_of_the_first_and_the_last_epoch() -> None:
    data = SHAPES["default"]
    figure = draw("audit", data)
    titles = [f"{source}: {what}" for source in "ab" for what in ("look-alikes", "hardness")]
    assert [axes.get_title() for axes in figure.axes] == titles
    for place, source in enumerate("ab"):
        left, right = figure.axes[2 * place : 2 * place + 2]
        for at, (name, epoch) in enumerate(itertools.product(SAMPLERS, (1, 5))):
            mine = data.audits["source"].eq(source) & data.audits["sampler"].eq(name) & data.audits["epoch"].eq(epoch)
            share = mean_interval(100 * data.audits[mine]["neighbour_share"])
            bar = left.containers[at]
            assert bar.lines[0].get_xydata().tolist() == [[pytest.approx(share.mean), at // 2]]
            assert bar.lines[2][0].get_segments()[0][:, 0] == pytest.approx([share.low, share.high])
            assert (bar.lines[0].get_markerfacecolor() == "white") == (epoch == 1)
            quarters = [data.audits[mine][f"image_distance_q{q}"].mean() for q in range(1, 5)]
            assert right.lines[at].get_ydata() == pytest.approx(quarters)
            assert right.lines[at].get_xdata().tolist() == [q + (epoch == 5) * 5 for q in range(1, 5)]
        assert left.lines[-1].get_xdata() == pytest.approx([5, 5])
        assert [(t.get_text(), t.get_position()[1]) for t in left.texts] == [("graph at chance", 3)]


def test_a_varied_setting_gives_one_panel_with_the_other_settings_held() -> None:
    data = SHAPES["star"]
    figure = draw("settings", data)
    assert [axes.get_xlabel() for axes in figure.axes] == ["neighbours", "skip"]
    for axes, points in zip(
        figure.axes, ({5: "k5-m2", 10: "k10-m2", 20: "k20-m2"}, {0: "k10-m0", 2: "k10-m2", 4: "k10-m4"}), strict=True
    ):
        lines = {bar.get_label(): bar.lines[0] for bar in axes.containers}
        assert list(lines) == ["a→b", "a→c", "a→a (within)", "average"]
        for label, targets in (("a→b", ["b"]), ("average", ["b", "c"])):
            rows = [
                data.metrics[(data.metrics["sampler"] == name) & data.metrics["target"].isin(targets)]
                for name in points.values()
            ]
            assert lines[label].get_xdata().tolist() == list(points)
            assert lines[label].get_ydata() == pytest.approx([r["value"].mean() for r in rows])
        assert lines["average"].get_linewidth() > lines["a→b"].get_linewidth()
        pk = data.metrics[(data.metrics["sampler"] == "pk") & (data.metrics["target"] != "a")]["value"].mean()
        levels = {line.get_label(): line.get_ydata()[0] for line in axes.lines}
        assert levels["pk, average"] == pytest.approx(pk)


def test_a_full_grid_of_settings_gives_a_line_per_held_setting() -> None:
    figure = draw("settings", SHAPES["full"])
    labels = [[bar.get_label() for bar in axes.containers] for axes in figure.axes]
    assert labels == [
        ["average, skip = 0", "average, skip = 2"],
        ["average, neighbours = 5", "average, neighbours = 10"],
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*labels[0], *labels[1], "pk, average"]


def test_settings_that_leave_out_a_default_are_refused() -> None:
    data = ablation([(5, 2), (10, 2)])
    settings = dict(data.settings) | {"k5-m2": {"class": "dfgs", "args": {"neighbours": 5}}}
    with pytest.raises(ValueError, match="fill in defaults"):
        REGISTRY.load("settings")().applies(FigureData(data.metrics, data.curves, "x", data.samplers, settings))


def test_no_two_of_thirty_samplers_look_alike() -> None:
    drawn = looks([f"sampler-{i}" for i in range(30)]).values()
    assert len({(look.colour, look.dash) for look in drawn}) == 30
    assert len(COLOURS) * len(DASHES) == 30


def test_every_figure_has_a_caption_that_explains_the_interval_and_the_drawn_world() -> None:
    jinja2, docutils = pytest.importorskip("jinja2"), pytest.importorskip("docutils.core")
    template = jinja2.Environment().from_string((REPORT / "figure.rst").read_text(encoding="utf-8"))
    first_sentences = set()
    for name in REGISTRY.names():
        text = template.render(snakemake=SimpleNamespace(output=[f"results/figures/default/{name}.png"]))
        body = docutils.publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["body"]
        assert "95 % t-interval over seeds" in body
        assert "drawn world" in body
        first_sentences.add(text.strip().split(".")[0])
    assert len(first_sentences) == len(REGISTRY.names())
    assert not any("Intervals" in s for s in first_sentences)


@pytest.mark.parametrize("name", ["table-comparison", "table-backbone"])
def test_table_captions_are_valid_and_say_that_people_are_drawn(name: str) -> None:
    docutils = pytest.importorskip("docutils.core")
    text = (REPORT / f"{name}.rst").read_text(encoding="utf-8")
    body = docutils.publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["body"]
    assert "drawn" in body
    assert "95 % t-interval over seeds" in body or "no interval" in body
