"""Cumulative matching curves: how many queries have their first match at rank k or above, of several models."""

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dfgs.errors import DfgsError
from dfgs.figures.base import legend, looks, panels, style
from dfgs.score_files import Score, check_one_protocol


def draw_cmc(scores: Sequence[Score], labels: Sequence[str]) -> Figure:
    """Draw one curve per score, up to the largest rank that they all hold (`score(..., ranks=range(1, K + 1))`).

    Raises `DfgsError` naming the difference if two scores do not share a protocol fingerprint, and for equal labels.
    """
    if len(labels) != len(scores) or len(set(labels)) != len(scores):
        raise DfgsError(f"labels are {', '.join(labels)}; expected {len(scores)} different ones")
    check_one_protocol(scores)
    found = [_curve(score) for score in scores]
    with style():
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        (axes,) = panels(figure, 1, 1, (5.0, 3.2))
        for score, label, look, curve in zip(scores, labels, looks(labels).values(), found, strict=True):
            axes.plot(
                range(1, len(curve) + 1),
                curve,
                color=look.colour,
                marker=look.marker,
                linestyle=look.dash,
                markevery=[k - 1 for k in _marked(len(curve))],
                label=f"{label} (mAP {score.values['mAP']:.1f})",
            )
        axes.set_xlabel("rank k")
        axes.set_ylabel("queries matched by rank k (%)")
        axes.set_xticks(_marked(min(map(len, found))))
        legend(figure, axes.get_lines())
        first = scores[0]
        figure.suptitle(
            f"CMC, {first.protocol.name}, {first.distance}\nprotocol {first.fingerprint.split()[0]}, "
            f"{int((first.ranking.matches > 0).sum())} queries with a match"
        )
    return figure


def _marked(last: int) -> list[int]:
    """Return the ranks that are marked: the first, and about five more at a round distance."""
    step = max(1, 5 * round(last / 25)) if last > 10 else 1
    return [1, *range(max(step, 2), last + 1, step)]


def _curve(score: Score) -> list[float]:
    values: list[float] = []
    while (key := f"rank{len(values) + 1}") in score.values:
        values.append(score.values[key])
    return values
