"""Tables: marks, header and raw numbers, compared with slow obvious versions; the files can be used as they are."""

import itertools
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from dfgs.errors import DfgsError
from dfgs.rendering import to_csv, to_latex, to_markdown, write
from dfgs.tables import Table, backbone_table, comparison

DASH = "\N{EN DASH}"
SAMPLERS = ("random", "pk", "gs", "dfgs")
WITHIN = {("a", "a"), ("b", "b")}


def row(**changes: Any) -> dict[str, Any]:
    """One long row, with changes."""
    base = {"experiment": "default", "source": "a", "target": "b", "split": "test", "model": "small", "sampler": "pk"}
    rest = {"seed": 0, "metric": "mAP", "value": 40.0, "protocol": "0" * 16, "commit": "c0ffee", "versions": "x"}
    return base | rest | changes


def grid(seeds: int = 3, models: tuple[str, ...] = ("small",)) -> list[dict[str, Any]]:
    """Rows of two sources, three targets, four samplers and the untuned backbone, with drawn numbers."""
    rng = np.random.default_rng(0)
    cells = itertools.product(models, "ab", "abc", SAMPLERS, range(seeds))
    rows = [row(model=m, source=s, target=t, sampler=n, seed=i, value=rng.uniform(20, 80)) for m, s, t, n, i in cells]
    zero = itertools.product(models, "ab", "abc")
    return rows + [row(model=m, source=s, target=t, sampler="zero-shot", value=99.0) for m, s, t in zero]


def column(table: Table, name: str) -> dict[str, tuple[str, int]]:
    """Text and place of every entry of a column, by the row's last label."""
    at = table.header.index(name)
    rows = [*table.rows, *table.reference_rows]
    return {line[table.labels - 1].text: (line[at].text, line[at].place) for line in rows}


def values_to_rows(values: dict[str, list[float]]) -> pd.DataFrame:
    """One column a→b: the values of each sampler's seeds."""
    return pd.DataFrame([row(sampler=n, seed=i, value=v) for n, vs in values.items() for i, v in enumerate(vs)])


def test_best_and_second_best_of_every_column_are_those_of_the_printed_means() -> None:
    table = comparison(pd.DataFrame(grid()), "mAP", WITHIN, SAMPLERS)
    assert table.header == ("sampler", "a→b", "a→c", "a→a (within)", "b→a", "b→c", "b→b (within)", "average")
    for name in table.header[1:]:
        entries = column(table, name)
        means = sorted(((float(entries[n][0].split(" ± ")[0]), n) for n in SAMPLERS), reverse=True)
        assert {n: p for n, (_, p) in entries.items() if p in (1, 2)} == {means[0][1]: 1, means[1][1]: 2}


def test_every_number_is_the_mean_and_t_interval_over_seeds() -> None:
    rows = grid()
    numbers = comparison(pd.DataFrame(rows), "mAP", WITHIN, SAMPLERS).numbers
    for cell in numbers[(numbers["source"] != "") & (numbers["sampler"] != "zero-shot")].to_dict("records"):
        sample = [r["value"] for r in rows if all(r[k] == cell[k] for k in ("source", "target", "sampler"))]
        half = scipy_stats.t.ppf(0.975, 2) * np.std(sample, ddof=1) / math.sqrt(3)
        expected = (np.mean(sample), np.mean(sample) - half, np.mean(sample) + half)
        assert (cell["mean"], cell["low"], cell["high"]) == pytest.approx(expected, rel=1e-9)
        assert cell["n"] == 3
        assert cell["within"] == (cell["source"] == cell["target"])


def test_the_average_of_a_seed_is_over_the_cross_domain_columns() -> None:
    rows = grid()
    numbers = comparison(pd.DataFrame(rows), "mAP", WITHIN, SAMPLERS).numbers
    average = numbers[(numbers["target"] == "average") & (numbers["sampler"] == "gs")].iloc[0]
    cross = [r["value"] for r in rows if r["sampler"] == "gs" and r["source"] != r["target"]]
    per_seed = [np.mean([cross[i] for i in range(len(cross)) if i % 3 == seed]) for seed in range(3)]
    assert average["mean"] == pytest.approx(np.mean(per_seed), rel=1e-12)
    assert average["high"] == pytest.approx(
        scipy_stats.t.interval(0.95, 2, np.mean(per_seed), scipy_stats.sem(per_seed))[1], rel=1e-9
    )


def test_the_zero_shot_reference_is_last_unranked_and_without_interval_even_where_it_is_highest() -> None:
    table = comparison(pd.DataFrame(grid()), "mAP", WITHIN)
    assert [line[0].text for line in table.rows] == sorted(SAMPLERS)
    assert [[entry.text for entry in line] for line in table.reference_rows] == [["zero-shot", *["99.0"] * 7]]
    assert {entry.place for entry in table.reference_rows[0]} == {0}
    assert to_latex(table, "x").index(r"\midrule" + "\n    zero-shot") > to_latex(table, "x").index("    random")


def test_the_header_names_metric_interval_and_number_of_seeds() -> None:
    caption = comparison(pd.DataFrame(grid()), "mAP", WITHIN).caption
    assert caption.startswith("Experiment default: mAP (%), mean ± 95 % t-interval over n = 3 seeds.")
    fewer = pd.DataFrame([r for r in grid() if (r["sampler"], r["seed"]) != ("gs", 2)])
    assert "mean ± 95 % t-interval over n = 2 to 3 seeds." in comparison(fewer, "mAP", WITHIN).caption


def test_one_seed_is_shown_without_interval_and_the_header_says_why() -> None:
    table = comparison(pd.DataFrame(grid(seeds=1)), "mAP", WITHIN)
    assert "one seed, so no interval is given" in table.caption
    assert "±" not in to_markdown(table)
    assert table.numbers["low"].isna().all()
    assert (table.numbers["n"] == 1).all()


def test_a_missing_cell_shows_a_dash_and_has_no_average() -> None:
    rows = [r for r in grid() if (r["sampler"], r["target"]) != ("gs", "c")]
    table = comparison(pd.DataFrame(rows), "mAP", WITHIN, [*SAMPLERS, "planned"])
    assert column(table, "a→c")["gs"] == (DASH, 0)
    assert column(table, "average")["gs"] == (DASH, 0)
    assert "±" in column(table, "a→b")["gs"][0]
    assert {text for text, _ in (column(table, name)["planned"] for name in table.header[1:])} == {DASH}
    missing = table.numbers[table.numbers["n"] == 0]
    assert len(missing) == 3 + 7
    assert missing[["mean", "low", "high"]].isna().all(axis=None)
    assert " & -- & " in to_latex(table, "x")


def test_numbers_that_print_alike_share_their_place() -> None:
    table = comparison(values_to_rows({"a": [40.01], "b": [40.04], "c": [39.0], "d": [38.0]}), "mAP")
    assert {name: place for name, (_, place) in column(table, "a→b").items()} == {"a": 1, "b": 1, "c": 3, "d": 4}
    assert "<ins>" not in to_markdown(table), "with two best there is no second best"


def test_a_single_sampler_is_not_called_the_best() -> None:
    table = comparison(values_to_rows({"pk": [40.0, 41.0]}), "mAP")
    assert column(table, "a→b") == {"pk": ("40.5 ± 6.4", 0)}


def test_a_cell_with_a_collapsed_seed_and_its_average_are_marked_and_explained() -> None:
    rows = grid()
    rows += [row(metric="collapsed", sampler="gs", seed=i, value=float(i == 1)) for i in range(3)]
    rows += [row(metric="collapsed", sampler="pk", seed=i, value=0.0) for i in range(3)]
    table = comparison(pd.DataFrame(rows), "mAP", WITHIN, SAMPLERS)
    marked = {(n, c) for c in table.header[1:] for n, (text, _) in column(table, c).items() if text.endswith("†")}
    assert marked == {("gs", "a→b"), ("gs", "average")}
    assert "†: at least one seed collapsed" in table.caption
    assert r"$\dagger$" in to_latex(table, "mAP")
    assert "†" not in comparison(pd.DataFrame(grid()), "mAP", WITHIN, SAMPLERS).caption


def test_models_have_rows_of_their_own_and_are_ranked_apart() -> None:
    table = comparison(pd.DataFrame(grid(models=("small", "vit"))), "mAP", WITHIN, SAMPLERS)
    assert table.header[:2] == ("model", "sampler")
    assert table.labels == 2
    assert [line[0].text for line in table.rows] == ["small"] * 4 + ["vit"] * 4
    for model in ("small", "vit"):
        places = sorted(line[2].place for line in table.rows if line[0].text == model)
        assert places == [1, 2, 3, 4]


def test_markdown_marks_best_and_second_and_keeps_its_pipes() -> None:
    text = to_markdown(comparison(values_to_rows({"a|b": [40.0], "c": [41.0], "_d_": [39.0]}), "mAP"))
    lines = text.splitlines()
    assert re.search(r"\| c +\| +\*\*41\.0\*\* \|", text)
    assert re.search(r"\| a\\\|b +\| +<ins>40\.0</ins> \|", text)
    assert r"\_d\_" in text
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[2:]} == {4}
    assert lines[0].startswith("Experiment default: mAP (%)")


def test_latex_special_characters_are_escaped() -> None:
    name = r"a&b%c$d#e_f{g}h~i^j\k<l>m|n[o]*"
    text = to_latex(comparison(values_to_rows({name: [40.0], "pk": [41.0]}), "mAP"), "my table_1")
    wanted = (
        r"a\&b\%c\$d\#e\_f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k\textless{}l\textgreater{}"
        r"m\textbar{}n{[}o{]}{*} & \underline{40.0}"
    )
    assert wanted in text
    assert r"\label{tab:my-table-1}" in text
    assert r"mAP (\%), one seed" in text
    assert text.isascii()


def test_every_latex_row_has_as_many_cells_as_the_table_has_columns() -> None:
    table = comparison(pd.DataFrame(grid(models=("small", "vit"))), "mAP", WITHIN)
    text = to_latex(table, "x")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 8 + 2
    assert {line.count("&") for line in rows} == {len(table.header) - 1}
    assert r"\begin{tabular}{llrrrrrrr}" in text
    assert text.count("{") == text.count("}")
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 2, 1]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a LaTeX installation")
def test_the_latex_compiles_within_the_line(tmp_path: Path) -> None:
    rows = [r | {"source": "market1501-" + r["source"]} for r in grid()]
    rows += [row(source="market1501-a", sampler=r"[x]&%$#_{}~^\<>|*", seed=seed) for seed in range(3)]
    write(comparison(pd.DataFrame(rows), "mAP", WITHIN), tmp_path / "comparison")
    write(backbone_table(pd.DataFrame([*rows, row(metric="chance_mAP")])), tmp_path / "backbone")
    (tmp_path / "main.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
        r"\input{comparison}\input{backbone}\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "main.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout


def test_files_are_the_same_bytes_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame(grid())
    write(comparison(frame, "mAP", WITHIN, SAMPLERS), tmp_path / "one")
    shuffled = frame.sample(frac=1, random_state=0)
    write(comparison(shuffled, "mAP", WITHIN, SAMPLERS), tmp_path / "two")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{n}.{s}" for n in ("one", "two") for s in ("csv", "html", "md", "tex")
    ]
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert (tmp_path / "one.md").read_bytes() == (tmp_path / "two.md").read_bytes()
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_the_csv_is_plain_and_every_line_says_what_it_is(tmp_path: Path) -> None:
    table = comparison(pd.DataFrame(grid()), "mAP", WITHIN)
    write(table, tmp_path / "v1.5")
    frame = pd.read_csv(tmp_path / "v1.5.csv", keep_default_na=False, na_values={"low": "", "high": ""})
    assert frame["caption"].eq(table.caption).all()
    assert frame["metric"].eq("mAP").all()
    assert frame["mean"].tolist() == table.numbers["mean"].tolist()
    assert len(to_csv(table).splitlines()) == 1 + (4 + 1) * 7


def test_two_protocols_are_refused() -> None:
    frame = pd.DataFrame([*grid(), row(seed=7, protocol="f" * 16)])
    with pytest.raises(DfgsError, match="2 protocols"):
        comparison(frame, "mAP")


def test_the_backbone_table_shows_zero_shot_beside_chance() -> None:
    rows = [row(target=t, split=k, sampler="zero-shot", value=v) for t, k, v in (("x", "0", 10.0), ("x", "1", 14.0))]
    rows += [
        row(target="x", source=s, split=k, sampler="zero-shot", metric="chance_mAP", value=2.0)
        for s in "ab"
        for k in "01"
    ]
    rows += [row(target="y", sampler="zero-shot", value=9.0), row(target="x", value=80.0)]
    table = backbone_table(pd.DataFrame(rows))
    assert [[entry.text for entry in line] for line in table.rows] == [
        ["x", "12.0", "2.0", "6.0"],
        ["y", "9.0", DASH, DASH],
    ]
    assert table.header == ("target", "zero-shot mAP", "chance mAP", "times chance")
    assert "random ranking" in to_markdown(table)


def test_splits_weigh_alike_in_the_backbone_table_however_many_sources_use_them() -> None:
    places = [("a", "0", 10.0), ("b", "0", 10.0), ("b", "1", 20.0)]
    rows = [row(source=s, split=k, sampler="zero-shot", value=v) for s, k, v in places]
    assert backbone_table(pd.DataFrame(rows)).numbers["mAP"].tolist() == [15.0]


def test_a_backbone_table_without_zero_shot_numbers_is_refused() -> None:
    with pytest.raises(DfgsError, match="no mAP of sampler 'zero-shot'"):
        backbone_table(pd.DataFrame([row()]))


def test_a_target_of_several_splits_shows_how_far_they_are_apart() -> None:
    rows = [
        row(sampler=name, seed=seed, split=f"split-{i}", value=40.0 + 10 * seed + step * i)
        for name, step in (("pk", 2.0), ("gs", 4.0), ("zero-shot", 9.0))
        for seed in (0, 1)
        for i in (0, 1, 2)
        if name != "zero-shot" or seed == 0
    ]
    rows += [row(sampler=name, target="c", seed=seed) for name in ("pk", "gs") for seed in (0, 1)]
    table = comparison(pd.DataFrame(rows), "mAP", (), ("pk", "gs"))
    assert table.caption.endswith(" b: the mean over 3 splits, whose standard deviation is 2.0 to 4.0.")
    assert "c: the mean over" not in table.caption
    numbers = table.numbers.set_index(["sampler", "target"])[["mean", "n", "splits", "deviation_over_splits"]]
    assert tuple(numbers.loc["pk", "b"]) == (47.0, 2, 3, 2.0)
    assert tuple(numbers.loc["gs", "b"]) == (49.0, 2, 3, 4.0)
    assert tuple(numbers.loc["pk", "c"])[:3] == (40.0, 2, 1)
    assert tuple(numbers.loc["pk", "average"])[2] == 0
    assert numbers["deviation_over_splits"].isna().sum() == len(numbers) - 3
