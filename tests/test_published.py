"""`config/published.csv`: the paper's numbers in our long format, checked against the averages printed beside them."""

from pathlib import Path

import pandas as pd
import pytest

from dfgs.results import COLUMNS, KEY, read_metrics, write_metrics

FILE = Path(__file__).parents[1] / "config" / "published.csv"
MARKS = {"IMG", "2ND", "IMG/2ND", "LOG", "README", "-"}
TARGETS = {
    "protocol-1": {"prid2011", "grid", "viper", "ilids"},
    "protocol-2": {"cuhk03", "msmt17", "market1501"},
    "protocol-3": {"cuhk03", "msmt17", "market1501"},
}


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return pd.read_csv(FILE, dtype={"value": str, "note": str}, keep_default_na=False)


@pytest.fixture(scope="module")
def numbers(published: pd.DataFrame) -> pd.DataFrame:
    return published[published["value"] != ""].astype({"value": float})


def test_the_printed_numbers_are_rows_of_our_own_long_format(
    published: pd.DataFrame, numbers: pd.DataFrame, tmp_path: Path
) -> None:
    assert list(published.columns) == [*COLUMNS, "origin", "mark", "note"]
    write_metrics(numbers[list(COLUMNS)], tmp_path / "m.csv")
    assert len(read_metrics(tmp_path / "m.csv")) == len(numbers)
    assert not published.duplicated(list(KEY)).any()
    assert set(published["origin"]) == {"paper"}
    assert set(published["mark"]) == MARKS
    assert not (numbers["mark"] == "-").any()
    assert published["experiment"].is_monotonic_increasing


def test_every_printed_average_is_the_mean_of_its_targets(numbers: pd.DataFrame) -> None:
    checked = 0
    for (experiment, _, _, metric), rows in numbers.groupby(["experiment", "model", "sampler", "metric"]):
        by_target = rows.set_index("target")["value"]
        targets = TARGETS.get(str(experiment), set())
        if not targets or not {*targets, "average"} <= set(by_target.index):
            continue
        assert by_target[sorted(targets)].mean() == pytest.approx(by_target["average"], abs=0.1), (rows, metric)
        checked += 1
    assert checked == 96


def test_the_headline_is_there_with_its_sampler(numbers: pd.DataFrame) -> None:
    ours = numbers[(numbers["model"] == "clip-dfgs") & (numbers["target"] == "average")]
    pivot = ours.pivot_table(index=["experiment", "sampler"], columns="metric", values="value")
    assert pivot.loc[("protocol-1", "dfgs-image")].to_dict() == {"mAP": 83.0, "rank1": 76.5}
    assert pivot.loc[("protocol-1", "dfgs-text")].to_dict() == {"mAP": 82.4, "rank1": 75.6}
    assert pivot.loc[("protocol-2", "dfgs-image")].to_dict() == {"mAP": 53.7, "rank1": 67.3}
    assert pivot.loc[("protocol-3", "dfgs-image")].to_dict() == {"mAP": 55.3, "rank1": 68.3}


def test_protocol_1s_rank_1_of_clip_dfgs_is_a_whole_number_of_queries(numbers: pd.DataFrame) -> None:
    """100, 125, 316 and 60 queries: the printed numbers come from one split."""
    queries = {"prid2011": 100, "grid": 125, "viper": 316, "ilids": 60}
    rows = numbers[(numbers["experiment"] == "protocol-1") & (numbers["model"] == "clip-dfgs")]
    found = rows[(rows["metric"] == "rank1") & rows["target"].isin(list(queries))]
    assert len(found) == 8
    for row in found.itertuples():
        share = row.value / 100 * queries[row.target]
        assert abs(share - round(share)) <= 0.05 / 100 * queries[row.target] + 1e-9, row


def test_cells_that_could_not_be_read_are_empty_and_say_so(published: pd.DataFrame) -> None:
    empty = published[published["value"] == ""]
    assert set(empty.loc[empty["note"] == "the table could not be read", "experiment"]) == {
        f"ablation-{name}"
        for name in ("backbone", "batch", "cost", "encoder", "loss", "neighbours", "sampler", "single-source", "skip")
    }
    assert empty["note"].str.contains("could not be read|could be read|not printed").all()
    assert (published.loc[published["experiment"].str.startswith("ablation"), "value"] == "").all()
