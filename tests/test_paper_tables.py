"""Ours beside the printed tables: every cell says what was printed, what ran, and how they compare."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from dfgs.cli import cli
from dfgs.errors import DfgsError
from dfgs.rendering import Table, to_markdown
from dfgs.report import paper_tables
from dfgs.results import write_metrics
from dfgs.tables.published import published_table, read_published

CONFIGS = Path(__file__).parents[1] / "config"
JOB = {
    "experiment": "mine",
    "samplers": ["pk", "dfgs-image"],
    "metrics": ["mAP"],
    "cells": [
        {"source": "s", "target": "prid", "dataset": "prid2011"},
        {"source": "s", "target": "grid", "dataset": "grid"},
    ],
    "published": {
        "experiment": "protocol-1",
        "methods": {"dfgs-image": "clip-dfgs"},
        "deviations": ["Weights: others."],
    },
}


@pytest.fixture(scope="module")
def printed() -> pd.DataFrame:
    return read_published(CONFIGS / "published.csv")


def ours(values: dict[str, list[float]], sampler: str = "dfgs-image") -> list[dict[str, Any]]:
    """Long rows of one sampler: the values of each target's seeds."""
    rest = {"experiment": "mine", "source": "s", "split": "0", "model": "vit", "metric": "mAP"}
    rest |= {"protocol": "p", "commit": "c", "versions": "v"}
    return [
        rest | {"target": target, "sampler": sampler, "seed": seed, "value": value}
        for target, seeds in values.items()
        for seed, value in enumerate(seeds)
    ]


def lines(table: Table) -> dict[tuple[str, str], list[str]]:
    return {(row[0].text, row[1].text): [entry.text for entry in row[3:]] for row in table.rows}


def test_without_results_every_cell_has_not_run_and_the_printed_number_stands(printed: pd.DataFrame) -> None:
    found = lines(published_table(JOB, printed, None))
    assert found["dfgs-image", "prid"] == ["78.6", "not run", "–", "not run"]
    assert found["dfgs-image", "average"] == ["83.0", "not run", "–", "not run"]
    assert found["pk", "grid"] == ["", "not run", "–", "not run"]
    assert list(found) == [(name, target) for name in JOB["samplers"] for target in ("prid", "grid", "average")]


def test_a_cell_agrees_where_the_printed_number_lies_in_our_interval(printed: pd.DataFrame) -> None:
    frame = pd.DataFrame(ours({"prid": [78.0, 79.0, 80.0], "grid": [60.0, 60.5, 61.0]}) + ours({"prid": [50.0]}, "pk"))
    table = published_table(JOB, printed, frame)
    found = lines(table)
    assert found["dfgs-image", "prid"] == ["78.6", "79.0 ± 2.5", "+0.4", "agrees"]
    assert found["dfgs-image", "grid"] == ["78.4", "60.5 ± 1.2", "-17.9", "lower"]
    assert found["dfgs-image", "average"][1:] == ["69.8 ± 1.9", "-13.2", "lower"]
    assert found["pk", "prid"] == ["", "50.0", "–", "not printed"]
    assert found["pk", "grid"] == ["", "not run", "–", "not run"]
    row = table.numbers[(table.numbers["sampler"] == "dfgs-image") & (table.numbers["target"] == "grid")].iloc[0]
    assert (row["published"], row["mean"], row["n"]) == (78.4, 60.5, 3)
    assert row["difference"] == pytest.approx(60.5 - 78.4)
    higher = lines(published_table(JOB, printed, pd.DataFrame(ours({"prid": [98.0, 99.0]}))))
    assert higher["dfgs-image", "prid"][3] == "higher"
    assert higher["dfgs-image", "average"][1] == "not run"  # grid has not


def test_one_seed_is_not_compared_for_lack_of_an_interval(printed: pd.DataFrame) -> None:
    found = lines(published_table(JOB, printed, pd.DataFrame(ours({"prid": [78.6]}))))
    assert found["dfgs-image", "prid"] == ["78.6", "78.6", "+0.0", "one seed, no interval"]


def test_a_source_s_own_targets_stay_out_of_the_average(printed: pd.DataFrame) -> None:
    frame = pd.DataFrame(ours({"prid": [70.0, 72.0], "grid": [80.0, 82.0], "market1501": [1.0, 2.0]}))
    assert lines(published_table(JOB, printed, frame))["dfgs-image", "average"][1].startswith("76.0 ±")


def test_how_a_number_was_read_and_what_differs_stand_under_the_table(printed: pd.DataFrame) -> None:
    table = published_table(JOB, printed, None)
    assert table.notes[1:] == ("a: read from a picture of the table.", "Weights: others.")
    raised = {(row[0].text, row[1].text): row[3].raised for row in table.rows}
    assert (raised["dfgs-image", "prid"], raised["pk", "prid"]) == ("a", "")


def test_a_number_that_could_not_be_read_leaves_its_column_empty_and_says_why(printed: pd.DataFrame) -> None:
    job = JOB | {"published": JOB["published"] | {"experiment": "protocol-2", "methods": {"dfgs-text": "clip-dfgs"}}}
    table = published_table(job | {"samplers": ["dfgs-text"]}, printed, None)
    assert lines(table)["dfgs-text", "average"][0] == ""
    assert any("is printed for Protocol-1 only as far as could be read" in note for note in table.notes)


def test_an_experiment_or_method_that_was_not_published_is_refused_with_a_near_name(printed: pd.DataFrame) -> None:
    for change, message in (
        ({"experiment": "protocol-11"}, "no experiment 'protocol-11' was published .did you mean 'protocol-1'"),
        (
            {"methods": {"pk": "clip-dfsg"}},
            "no method 'clip-dfsg' in protocol-1 as published .did you mean 'clip-dfgs'",
        ),
    ):
        with pytest.raises(DfgsError, match=message):
            published_table(JOB | {"published": JOB["published"] | change}, printed, None)


def test_a_damaged_file_of_printed_numbers_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("experiment,target\n")
    with pytest.raises(DfgsError, match=r"p\.csv: columns missing: model, sampler"):
        read_published(tmp_path / "p.csv")
    with pytest.raises(DfgsError, match=r"cannot read .*gone\.csv"):
        read_published(tmp_path / "gone.csv")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_papers_protocols_are_shown_without_data_or_results(number: int, tmp_path: Path) -> None:
    config = CONFIGS / f"protocol-{number}.yaml"
    own, other = paper_tables(config, CONFIGS / "published.csv", tmp_path)
    targets = 5 if number == 1 else 4
    assert own.count("| not run |\n") == 4 * targets * 2
    assert other.count("| not run |\n") == targets * 2
    for word in ("Weights: ", "Splits: ", "Image size: ", "Precision: "):
        assert f"\n- {word}" in own
        assert f"\n- {word}" in other
    empty = re.findall(r"\| +(?:<sup>\w</sup> )?\| not run", own)
    assert len(empty) == targets * 2 * (1 if number == 1 else 2)  # pk everywhere, DFGS on text in protocol 1 alone


def test_what_has_run_is_shown_beside_the_printed_numbers(tmp_path: Path) -> None:
    rows = [row | {"metric": metric} for row in ours({"prid": [70.0, 71.0]}) for metric in ("mAP", "rank1")]
    write_metrics([row | {"source": "protocol-1"} for row in rows], tmp_path / "experiments/protocol-1/metrics.csv")
    text = paper_tables(CONFIGS / "protocol-1.yaml", CONFIGS / "published.csv", tmp_path)[0]
    assert text.count("70.5 ± 6.4") == 2


def test_a_configuration_that_repeats_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DfgsError, match=r"smoke\.yaml: no experiment that runs has a key `published`"):
        paper_tables(CONFIGS / "smoke.yaml", CONFIGS / "published.csv", tmp_path)


def test_the_commands_print_and_write_what_the_functions_give(tmp_path: Path, printed: pd.DataFrame) -> None:
    run = CliRunner()
    config = str(CONFIGS / "protocol-2.yaml")
    shown = run.invoke(cli, ["paper", config, "--results", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert shown.output == "\n".join(paper_tables(Path(config), CONFIGS / "published.csv", tmp_path)) + "\n"
    write_metrics(ours({"prid": [70.0, 71.0]}), tmp_path / "metrics.csv")
    files = [str(tmp_path / "metrics.csv"), str(tmp_path / "out" / "published")]
    written = run.invoke(cli, ["tabulate-published", "--job", json.dumps(JOB), *files])
    assert written.exit_code == 0, written.output
    expected = published_table(JOB, printed, pd.DataFrame(ours({"prid": [70.0, 71.0]})))
    assert (tmp_path / "out/published.md").read_text() == to_markdown(expected)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".md", ".csv", ".tex", ".html"}
