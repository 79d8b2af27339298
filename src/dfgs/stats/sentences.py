"""The verdict in two plain sentences: what a grid proves about its planned contrasts, and what it cannot."""

from collections.abc import Sequence

from dfgs.stats.summary import Contrast
from dfgs.stats.verdict import count, resolvable


def name_contrasts(contrasts: Sequence[Contrast], needs_model: bool) -> str:
    """Name samplers together where they share their baseline and model: `gs and dfgs-image against pk`."""
    groups: dict[tuple[str, str], list[str]] = {}
    for c in contrasts:
        groups.setdefault((c.model, c.baseline), []).append(c.sampler)
    return "; ".join(
        f"{_list(samplers)} against {baseline}{_of(model, needs_model)}"
        for (model, baseline), samplers in groups.items()
    )


def prove(contrasts: Sequence[Contrast], margin: float) -> str:
    """Say what is decided and name what is not: the first sentence."""
    needs_model = len({c.model for c in contrasts}) > 1
    decided = [_decided(c, margin, needs_model) for c in contrasts if c.verdict != "undecided"]
    undecided = [c for c in contrasts if c.verdict == "undecided"]
    over = f"Over {_pairs(contrasts)} of trainings "
    if not decided:
        none = (
            "the planned contrast is not decided"
            if len(contrasts) == 1
            else (f"none of the {len(contrasts)} planned contrasts is decided")
        )
        return f"{over}{none}: {name_contrasts(undecided, needs_model)}."
    rest = f"; undecided: {name_contrasts(undecided, needs_model)}" if undecided else ""
    return f"{over}{'; '.join(decided)}{rest}."


def limit(contrasts: Sequence[Contrast], sources: int, seeds: int, is_drawn: bool) -> str:
    """Say what the grid cannot tell: the second sentence; planned were so many `sources` and `seeds`."""
    undecided = [c for c in contrasts if c.verdict == "undecided"]
    parts = []
    if undecided:
        smallest, can = resolvable(sources, seeds, len(contrasts))
        parts.append(
            f"{can} (here the {smallest.rpartition(': ')[2]})" if can.startswith("cannot") else _open(undecided)
        )
    parts.append("nothing follows for another pre-trained backbone, which all trainings share, or for other sources")
    parts[-1] += " and targets, real people included, since these are drawn" if is_drawn else " and targets"
    return f"This grid {parts[0]}; {parts[1]}." if undecided else f"Beyond this grid {parts[0]}."


def _open(undecided: Sequence[Contrast]) -> str:
    """Say how many more seeds would close what is open."""
    if len(undecided) == 1:
        return f"leaves one contrast open, which would need {_more(undecided[0])} if differences go on like these"
    each = ", ".join(f"{c.sampler} against {c.baseline} {_more(c)}" for c in undecided)
    return f"leaves {len(undecided)} contrasts open, which would need, if differences go on like these: {each}"


def _more(contrast: Contrast) -> str:
    if contrast.seeds_needed is None:
        return "more than 1,000 pairs"
    return count(contrast.seeds_needed, "more seed") + " per source"


def _decided(c: Contrast, margin: float, needs_model: bool) -> str:
    interval = f"95 % interval {c.low:+.1f} to {c.high:+.1f}"
    if c.verdict == "equal":
        return (
            f"{c.sampler} equals {c.baseline} within {margin:g} points of mAP{_of(c.model, needs_model)} ({interval})"
        )
    return (
        f"{c.sampler} is {c.verdict} than {c.baseline} by {abs(c.mean):.1f} points of mAP{_of(c.model, needs_model)} "
        f"({interval}, p = {c.adjusted:.2g} after Holm)"
    )


def _pairs(contrasts: Sequence[Contrast]) -> str:
    counts = sorted({len(c.pairs) for c in contrasts})
    return count(counts[0], "pair") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} pairs"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _of(model: str, needed: bool) -> str:
    return f" with {model}" if needed else ""
