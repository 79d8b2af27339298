"""Messages for a user's mistake."""

import pytest

from dfgs.errors import did_you_mean


@pytest.mark.parametrize("wrong", ["dgfs", "dfg", "dfgss"])
def test_a_near_name_is_suggested(wrong: str) -> None:
    assert did_you_mean(wrong, ["pk", "dfgs", "random"]) == " (did you mean 'dfgs'?)"


def test_without_a_near_name_all_known_ones_are_listed_in_order() -> None:
    assert did_you_mean("zzz", ["pk", "dfgs", "gs"]) == " (known: dfgs, gs, pk)"
