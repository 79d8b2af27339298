"""The long table: what is written is read back, and what cannot be trusted is refused by name."""

import logging
import random
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dfgs.errors import DfgsError
from dfgs.metrics import PROTOCOLS
from dfgs.results import COLUMNS, check_one_protocol, merge, read_metrics, write_metrics


def row(**changes: Any) -> dict[str, Any]:
    """One valid row, with changes."""
    return {
        "experiment": "default",
        "source": "a",
        "target": "b",
        "split": "test",
        "model": "small",
        "sampler": "pk",
        "seed": 0,
        "metric": "mAP",
        "value": 41.25,
        "protocol": "0123456789abcdef",
        "commit": "c0ffee",
        "versions": "dfgs=0.1 numpy=2.4",
    } | changes


def write_text(path: Path, **changes: str) -> Path:
    """Write a file of one row by hand, so that what `write_metrics` would refuse gets on the disk."""
    fields = {name: str(value) for name, value in row().items()} | changes
    path.write_text(",".join(fields) + "\n" + ",".join(fields.values()) + "\n", encoding="utf-8")
    return path


def test_the_same_rows_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [row(target=t, seed=s, metric=m, value=s + 0.1) for t in "cab" for s in (10, 2, 1) for m in ("rank1", "mAP")]
    write_metrics(rows, tmp_path / "first.csv")
    for attempt in range(10):
        random.Random(attempt).shuffle(rows)
        write_metrics(pd.DataFrame(rows)[list(reversed(COLUMNS))], tmp_path / "other.csv")
        assert (tmp_path / "other.csv").read_bytes() == (tmp_path / "first.csv").read_bytes()
    text = (tmp_path / "first.csv").read_text()
    assert text.splitlines()[0] == ",".join(COLUMNS)
    assert text.index(",2,mAP") < text.index(",10,mAP"), "seeds are ordered as numbers"


def test_every_value_reads_back_as_the_very_same_number(tmp_path: Path) -> None:
    draw = random.Random(0)
    values = [draw.uniform(0, 100) for _ in range(200)] + [0.1, 1 / 3, 5e-324, 1.7e308, -0.0, 3368.0]
    write_metrics([row(seed=i, value=value) for i, value in enumerate(values)], tmp_path / "m.csv")
    assert read_metrics(tmp_path / "m.csv")["value"].tolist() == values
    assert ",3368,0123" in (tmp_path / "m.csv").read_text(), "a count is written without a decimal point"


def test_a_frame_read_from_disk_has_the_promised_columns_and_types(tmp_path: Path) -> None:
    write_metrics([row(sampler="None", split="NA")], tmp_path / "m.csv")
    frame = read_metrics(tmp_path / "m.csv")
    assert tuple(frame.columns) == COLUMNS
    assert frame["seed"].dtype == "int64"
    assert frame["value"].dtype == "float64"
    assert frame.loc[0, ["sampler", "split"]].tolist() == ["None", "NA"], "words that look missing stay words"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"value": "nan"}, "line 2, column 'value': 'nan'"),
        ({"value": "4,0"}, "line 2: 13 fields, expected 12"),
        ({"value": "high"}, "line 2, column 'value': 'high'"),
        ({"seed": "1.5"}, "line 2, column 'seed': '1.5'"),
        ({"seed": "-1"}, "line 2, column 'seed': '-1'"),
        ({"protocol": ""}, "line 2, column 'protocol': empty"),
        ({"smapler": "pk"}, "columns missing: none; unknown: smapler"),
    ],
)
def test_a_bad_file_is_refused_by_file_line_and_column(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    path = write_text(tmp_path / "bad.csv", **changes)
    with pytest.raises(DfgsError, match=re.escape(said)) as caught:
        read_metrics(path)
    assert str(path) in str(caught.value)


def test_a_file_that_lacks_or_repeats_a_column_or_is_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("experiment,source\ndefault,a\n")
    with pytest.raises(DfgsError, match=r"short\.csv: columns missing: target, split, .*versions; unknown: none"):
        read_metrics(tmp_path / "short.csv")
    (tmp_path / "twice.csv").write_text(",".join([*COLUMNS, "seed"]) + "\n")
    with pytest.raises(DfgsError, match=r"twice\.csv: .*expected, each once: experiment"):
        read_metrics(tmp_path / "twice.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DfgsError, match=r"empty\.csv: columns missing: experiment"):
        read_metrics(tmp_path / "empty.csv")
    with pytest.raises(DfgsError, match=r"cannot read .*absent\.csv"):
        read_metrics(tmp_path / "absent.csv")


@pytest.mark.parametrize("changes", [{"value": float("nan")}, {"commit": None}, {"seed": "x"}, {"other": 1}])
def test_a_bad_row_is_never_written_and_the_earlier_file_stays(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_metrics([row()], tmp_path / "m.csv")
    before = (tmp_path / "m.csv").read_bytes()
    with pytest.raises(DfgsError, match=r"m\.csv"):
        write_metrics([row(seed=1), row() | changes], tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.csv"]


def test_merged_files_hold_every_cell_once_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    write_metrics([row(), row(seed=1)], tmp_path / "one.csv")
    write_metrics([row(seed=1, commit="d00d"), row(seed=2)], tmp_path / "two.csv")
    merged = merge([tmp_path / "one.csv", tmp_path / "two.csv"])
    assert merged["seed"].tolist() == [0, 1, 2]
    pd.testing.assert_frame_equal(merged, merge([tmp_path / "two.csv", tmp_path / "one.csv"]))


@pytest.mark.parametrize("changes", [{"value": 41.26}, {"protocol": "f" * 16}])
def test_a_cell_with_two_numbers_or_protocols_is_refused_and_both_files_are_named(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    write_metrics([row(seed=1), row(seed=2)], tmp_path / "one.csv")
    write_metrics([row(seed=2, **changes)], tmp_path / "two.csv")
    with pytest.raises(DfgsError, match="seed 2") as caught:
        merge([tmp_path / "one.csv", tmp_path / "two.csv"])
    assert "one.csv" in str(caught.value)
    assert "two.csv" in str(caught.value)
    assert ("two protocols: 0123456789abcdef and ffffffffffffffff" in str(caught.value)) == ("protocol" in changes)


def test_nothing_to_merge_is_said() -> None:
    with pytest.raises(DfgsError, match="no metrics to merge"):
        merge([])


def test_two_protocols_for_one_target_and_metric_are_refused_and_named() -> None:
    one, other = (PROTOCOLS["market1501"].fingerprint(split="test", distance=d) for d in ("cosine", "euclidean"))
    frame = pd.DataFrame([row(protocol=one), row(sampler="gs", protocol=other)])
    with pytest.raises(DfgsError) as caught:
        check_one_protocol(frame)
    message = str(caught.value)
    assert message.startswith("mAP on target b (split test, model small) was scored under 2 protocols: distance ")
    place = {"cosine": "(source a, sampler pk, seed 0)", "euclidean": "(source a, sampler gs, seed 0)"}
    first, second = (place[name] for name in re.findall("cosine|euclidean", message))
    assert message.index(first) < message.index(second)
    assert "market1501" not in message, "what both share is not named"


def test_targets_metrics_splits_and_models_may_have_protocols_of_their_own() -> None:
    others = [row(**{name: "other"}, protocol="f" * 16) for name in ("target", "metric", "split", "model")]
    check_one_protocol(pd.DataFrame([row(), *others]))


def test_numbers_of_two_commits_are_compared_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_one_protocol(pd.DataFrame([row(), row(seed=1)]))
        assert not caplog.records
        check_one_protocol(pd.DataFrame([row(), row(seed=1, commit="d00d")]))
    assert "2 commits" in caplog.text
    assert "c0ffee (1 rows)" in caplog.text
    assert "d00d (1 rows)" in caplog.text
