"""The verdict's tables, one per level, and what stands beside a comparison: costs and who beats whom."""

import itertools
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dfgs.errors import DfgsError
from dfgs.rendering import Entry, Table, to_html, to_latex, to_markdown, write
from dfgs.stats.queries import query_interval
from dfgs.stats.summarise import summarise
from dfgs.tables import comparison
from dfgs.tables.beside import Beside, costs_of
from dfgs.tables.published import published_table, read_published
from dfgs.tables.queries import queries_table, read_queries
from dfgs.tables.verdict import blocks_table, verdict_table
from test_paper_tables import CONFIGS, JOB
from test_summarise import PLAN, rows


class Reader(HTMLParser):
    """Collects the elements of a fragment and checks that they close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.elements.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            tag, attributes, text = self.elements[-1]
            self.elements[-1] = (tag, attributes, text + data.strip())


def texts(table: Table) -> list[list[str]]:
    return [[entry.text for entry in row] for row in table.rows]


def record(sampler: str, seconds: float, **changes: Any) -> dict[str, Any]:
    cost = {"seconds": seconds, "audit_seconds": 60.0, "epoch_seconds": [10.0, 30.0], "sampler_seconds": [4.0, 0.0]}
    return {"trial": {"model": "small", "sampler": sampler}, "device": "cpu", **cost, **changes}


def test_an_html_table_has_caption_scopes_sortable_values_and_escaped_texts() -> None:
    line = (Entry("a<b"), Entry("44.3 ± 2.1", 1, "a"), Entry("n/a"), Entry("+1.0", value=1.04), Entry("–"))
    table = Table(
        "x & y",
        ("name", "p", "q", "r", "s"),
        1,
        (line,),
        ((*line[:1], *line[2:], line[2]),),
        pd.DataFrame(),
        ("n < 3",),
    )
    text = to_html(table)
    assert text.isascii()
    found = Reader(text).elements
    assert [t for tag, _, t in found if tag == "caption"] == ["x & y"]
    assert [a for tag, a, _ in found if tag == "th"] == [{"scope": "col"}] * 5 + [{"scope": "row"}] * 2
    assert [a["data-value"] for tag, a, _ in found if tag == "td"][:4] == ["44.3", "", "1.04", ""]
    assert [(tag, t) for tag, _, t in found if tag in ("strong", "sup")] == [("strong", "44.3 ± 2.1"), ("sup", "a")]
    assert [a for tag, a, _ in found if tag == "tbody"] == [{}, {"class": "reference"}]
    assert [t for tag, _, t in found if tag == "li"] == ["n < 3"]


def test_notes_and_superscripts_are_in_markdown_and_latex_too() -> None:
    table = Table("c", ("x", "y"), 1, ((Entry("a"), Entry("1", 0, "a,b")),), (), pd.DataFrame(), ("a: 5 % × 2",))
    assert "| 1<sup>a,b</sup> |" in to_markdown(table)
    assert to_markdown(table).endswith("|\n\n- a: 5 % × 2\n")
    assert r"1\textsuperscript{a,b} \\" in to_latex(table, "x")
    assert r"{\footnotesize a: 5 \% $\times$ 2}" in to_latex(table, "x")


def test_the_verdicts_table_says_its_level_method_and_every_number() -> None:
    verdict = summarise(rows(), PLAN)
    table = verdict_table(verdict)
    assert "level of trainings" in table.caption
    assert "95 % intervals: Student's t." in table.caption
    assert "a: b, c; b: a, c" in table.caption
    up = verdict.contrasts[0]
    assert texts(table)[0] == [
        *("up", "pk", f"{up.mean:+.1f}", f"{up.low:+.1f} to {up.high:+.1f}", "16"),
        *(f"{up.p_value:.2g}", f"{up.adjusted:.2g}", "better", "0"),
    ]
    assert table.notes[:2] == verdict.sentences
    assert "All seeds share one pre-trained backbone" in table.notes[-1]
    numbers = table.numbers.set_index("sampler")
    assert (numbers.loc["up", "mean"], numbers.loc["up", "pairs"]) == (up.mean, 16)
    assert set(numbers["level"]) == {"trainings"}


def test_a_contrast_of_one_seed_shows_dashes_and_the_reason() -> None:
    table = verdict_table(summarise(rows(seeds=1), replace(PLAN, seeds=(0,))))
    assert "No intervals." in table.caption
    assert [row[3] for row in texts(table)] == ["–"] * 4
    assert [row[-1] for row in texts(table)] == ["–"] * 4
    assert any(note.startswith("No interval: one seed") for note in table.notes)


def test_several_models_are_named_in_the_tables() -> None:
    verdict = summarise(rows(models=("small", "vit")), PLAN)
    assert [row[:3] for row in texts(verdict_table(verdict))][4] == ["vit", "up", "pk"]
    assert blocks_table(verdict).header[0] == "model"
    assert len(blocks_table(verdict).notes) == 2


def test_the_blocks_table_is_of_its_own_level_and_decides_nothing() -> None:
    verdict = summarise(rows(), PLAN)
    table = blocks_table(verdict)
    assert "level of datasets" in table.caption
    assert "verdict" not in table.header
    ranks = verdict.blocks[0].mean_ranks
    assert [row[2] for row in texts(table)] == [f"{ranks[name]:.2f}" for name, _ in PLAN.contrasts]
    assert table.notes[0].startswith("small: mean ranks over 4 blocks: ")
    frame = rows()
    few = summarise(frame[frame["sampler"].isin(["pk", "up"])], replace(PLAN, contrasts=(("up", "pk"),)))
    assert blocks_table(few).rows == ()
    assert blocks_table(few).notes[0].startswith("small: no ranks. ranks over datasets: 2 samplers on 4")


def test_who_beats_whom_is_raised_in_the_column_that_the_verdict_is_on() -> None:
    verdict = summarise(rows(), PLAN)
    table = comparison(rows(), "mAP", PLAN.within, ["pk", "up", "down", "same", "loose"], Beside(verdict=verdict))
    raised = {row[0].text: [entry.raised for entry in row[1:]] for row in table.rows}
    assert {name: cells[-1] for name, cells in raised.items()} == {
        **{"pk": "b", "up": "a", "down": "", "same": "", "loose": ""},
    }
    assert {mark for cells in raised.values() for mark in cells[:-1]} == {""}
    assert table.notes[0].startswith("a: beats pk, b: beats down; decided over trainings at the planned contrasts")
    assert table.notes[1] == f"Verdict: {verdict.sentences[0]}"
    average = table.numbers[table.numbers["target"] == "average"].set_index("sampler")
    assert average["beats"].to_dict() == {"pk": "down", "up": "pk", "down": "", "same": "", "loose": ""}
    assert set(table.numbers.loc[table.numbers["target"] != "average", "beats"]) == {""}


def test_a_table_of_another_metric_has_no_marks_and_says_what_the_verdict_is_on() -> None:
    verdict, frame = summarise(rows(), PLAN), rows(metric="rank1")
    table = comparison(frame, "rank1", PLAN.within, (), Beside(verdict=verdict))
    assert {entry.raised for row in table.rows for entry in row} == {""}
    assert table.notes == (f"Verdict, on mAP: {verdict.sentences[0]}",)


def test_hours_and_the_samplers_share_are_means_over_trainings() -> None:
    records = [record("pk", 3660.0), record("pk", 7260.0), record("up", 60 + 36000.0, device="cuda")]
    records[1]["sampler_seconds"] = [0.0, 4.0]
    costs = costs_of(records)
    assert (costs["small", "pk"].hours, costs["small", "pk"].share) == (pytest.approx(1.5), pytest.approx(0.1))
    table = comparison(rows(), "mAP", PLAN.within, ("pk", "up"), Beside(costs=costs))
    assert table.header[-2:] == ("hours", "sampler (%)")  # two devices
    assert [[e.text for e in row[-2:]] for row in table.rows[:3]] == [["1.5", "10.0"], ["10", "10.0"], ["–", "–"]]
    assert set(table.numbers.loc[table.numbers["sampler"] == "pk", "hours"]) == {1.5}
    assert table.notes[0].startswith("hours: one fine-tuning")
    assert Beside(costs=costs_of(records[:2])).header[0] == "CPU hours"
    assert Beside(costs=costs_of(records[2:])).header[0] == "GPU hours"


def queries(shift: float, seed: int) -> pd.DataFrame:
    """Per-query rows of two targets, 12 people with two queries each."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(itertools.product("ab", range(24)), columns=["target", "number"])
    precision = np.clip(rng.uniform(0.2, 0.6, len(frame)) + shift, 0, 1)
    people = frame["number"] // 2
    return frame.assign(split="test", query=frame["number"].astype(str), pid=people, average_precision=precision)


def test_the_queries_table_compares_trained_pairs_target_by_target(tmp_path: Path) -> None:
    trained = {}
    for sampler, seed in itertools.product(("pk", "up"), (0, 1)):
        folder = tmp_path / sampler / str(seed)
        folder.mkdir(parents=True)
        own = queries(0.1 * (sampler == "up"), seed)
        whose = {"model": "small", "source": "a", "seed": seed, "sampler": sampler, "value": 1}
        pd.DataFrame([whose]).to_csv(folder / "metrics.csv", index=False)
        own.to_csv(folder / "per_query.csv.gz", index=False)
        trained[sampler, seed] = own
    read = read_queries(sorted(tmp_path.rglob("metrics.csv")))
    table = queries_table(read, replace(PLAN, contrasts=(("up", "pk"), ("loose", "pk"))))
    assert [row[:4] for row in texts(table)] == [
        ["up", "pk", f"a→{target}", str(seed)] for seed in (0, 1) for target in ("a (within)", "b")
    ]
    expected = query_interval(*(trained[name, 1].query("target == 'b'") for name in ("up", "pk")))
    assert texts(table)[3][4:] == [
        f"{100 * expected.mean:+.1f}",
        f"{100 * expected.low:+.1f} to {100 * expected.high:+.1f}",
        "12",
    ]
    assert "level of queries" in table.caption
    assert table.numbers["mean"].iloc[3] == pytest.approx(100 * expected.mean)
    (tmp_path / "pk" / "0" / "per_query.csv.gz").unlink()
    with pytest.raises(DfgsError, match=r"cannot read .*pk/0/metrics\.csv or per_query"):
        read_queries([tmp_path / "pk" / "0" / "metrics.csv"])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a LaTeX installation")
def test_the_latex_of_every_level_compiles_within_the_line(tmp_path: Path) -> None:
    verdict = summarise(rows(), PLAN)
    beside = Beside(costs_of([record("pk", 3660.0)]), verdict)
    write(comparison(rows(), "mAP", PLAN.within, ("pk", "up"), beside), tmp_path / "mAP")
    write(verdict_table(verdict), tmp_path / "verdict")
    write(blocks_table(verdict), tmp_path / "blocks")
    write(published_table(JOB, read_published(CONFIGS / "published.csv"), None), tmp_path / "published")
    inputs = "".join(rf"\input{{{name}}}" for name in ("mAP", "verdict", "blocks", "published"))
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "main.tex").write_text(head + inputs + r"\end{document}")
    command = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout
