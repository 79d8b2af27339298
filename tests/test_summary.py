"""`verdict.json`: what is written is what is read, and a file of another making is refused by name."""

import json
from pathlib import Path

import pytest

from dfgs.errors import DfgsError
from dfgs.stats.summary import BlockContrast, Blocks, Contrast, Pair, Verdict, read_verdict, write_verdict

VERDICT = Verdict(
    experiment="main",
    title="Does it help?",
    metric="mAP",
    margin=0.5,
    level=0.05,
    sentences=("gs is worse than pk.", "Three seeds cannot tell more."),
    notes=("All seeds share one backbone.",),
    averaged={"a": ("b", "c")},
    is_within=False,
    commits=("c0ffee",),
    contrasts=(
        Contrast(
            *("small", "gs", "pk", -11.0, -14.0, -8.0, "t", "", 1.5, 0.03, 0.06, "undecided", 2),
            pairs=(Pair("a", 0, -10.5), Pair("a", 1, -11.5)),
        ),
        Contrast("small", "dfgs", "pk", -1.0, None, None, None, "one seed", None, 1.0, 1.0, "undecided", None, ()),
    ),
    blocks=(
        Blocks("small", 6, {"pk": 1.0, "gs": 2.0}, 0.1, 1.4, "", (BlockContrast("gs", "pk", -1, -2, 0, 2, 0.5),)),
        Blocks("tiny", 1, {}, None, None, "one block", ()),
    ),
)


def test_a_verdict_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_verdict(VERDICT, tmp_path / "verdict.json")
    assert read_verdict(tmp_path / "verdict.json") == VERDICT


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema": 0}, "no verdict of schema 1"), ({"contrasts": [{}]}, "damaged verdict"), ({"notes": None}, "damaged")],
)
def test_a_file_of_another_making_is_refused_by_name(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "verdict.json"
    write_verdict(VERDICT, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DfgsError, match=f"{path}: {message}"):
        read_verdict(path)
