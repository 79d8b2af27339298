"""What a sampler's own settings do, such as DFGS's neighbours k and skip m: mAP against every number that is varied."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dfgs.figures.base import Drawing, FigureData, Look, legend, looks, panels
from dfgs.stats import (
    AVERAGE,
    Interval,
    Transfer,
    describe_seeds,
    intervals,
    seed_values,
    transfer_label,
    transfers,
    with_average,
)

BASELINE = "pk"
Cells = dict[tuple[str, Transfer], Interval]
"""The intervals of one model: (sampler, transfer) -> interval."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """Samplers of class `kind` that differ in one number only: its value -> the sampler's name, two or more."""

    kind: str
    argument: str
    name: str
    samplers: dict[float, str]


class Settings(Drawing):
    """A panel per number that is varied within one sampler class: the average over targets thick, each target thin."""

    title = "Settings of a sampler"

    def applies(self, data: FigureData) -> bool:
        """Need two trained settings of one class that differ in one number."""
        return bool(_slices(data))

    def compose(self, figure: Figure, data: FigureData) -> str:
        """Draw the panels side by side on one vertical axis, with one legend below."""
        values = with_average(seed_values(data.metrics, "mAP"), data.within)
        found, slices = intervals(values), _slices(data)
        labels = {column: transfer_label(column, data.within) for column in transfers(values, data.within)}
        marks = looks(list(dict.fromkeys(s.name for s in slices if s.name != AVERAGE[1]))) | {
            AVERAGE[1]: Look("black", "o", (0, ()))
        }
        models = sorted({key[0] for key in found})
        plots = [(m, *key) for m in models for key in dict.fromkeys((s.kind, s.argument) for s in slices)]
        drawn = panels(figure, len(plots), 3, (3.0, 2.8), sharey=True)
        for axes, (model, kind, argument) in zip(drawn, plots, strict=True):
            cells = {key[1:]: interval for key, interval in found.items() if key[0] == model}
            lines = [s for s in slices if (s.kind, s.argument) == (kind, argument)]
            if len(lines) == 1:
                _draw_targets(axes, lines[0], cells, labels)
            for line in lines:
                _draw_line(axes, line, AVERAGE, cells, marks[line.name], label=line.name, linewidth=2.2, capsize=3)
            _draw_baseline(axes, kind, cells, data)
            axes.set_xticks(sorted({value for line in lines for value in line.samplers}))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel(argument)
            axes.set_title(kind if len(models) == 1 else f"{model}\n{kind}")
        for axes in drawn[::3]:
            axes.set_ylabel("mAP (%)")
        handles = {h.get_label(): h for axes in drawn for h in axes.get_legend_handles_labels()[0]}
        legend(figure, sorted(handles.values(), key=lambda handle: isinstance(handle, Line2D)))
        varied = {name for s in slices for name in s.samplers.values()}
        return f"mAP (%), {describe_seeds(i for (_, name, _), i in found.items() if name in varied)}"

    def describe(self, data: FigureData) -> str:
        """Give the mean over other domains at every value of every line."""
        found = intervals(with_average(seed_values(data.metrics, "mAP"), data.within))
        means = {key[1]: interval.mean for key, interval in found.items() if key[2] == AVERAGE}
        told = "; ".join(
            f"{line.kind}, {line.argument}: "
            + ", ".join(
                f"{value:g} gives {means[name]:.1f}" for value, name in sorted(line.samplers.items()) if name in means
            )
            for line in _slices(data)
        )
        return f"a panel per varied setting, its value horizontally, mAP (%) vertically; averages: {told}."


def _slices(data: FigureData) -> list[_Slice]:
    """Find every line: per class and numeric argument, the trained samplers that agree in all other arguments.

    Raises `ValueError` when settings of one class do not all name the same arguments: a point that owes its value to a
    default would be missing from the line.
    """
    named = {(setting["class"], frozenset(setting["args"])) for setting in data.settings.values()}
    if len(named) > len({kind for kind, _ in named}):
        raise ValueError(f"settings of one class differ in the arguments they name; fill in defaults: {data.settings}")
    scored = set(data.trained("mAP")["sampler"])
    found: dict[tuple[str, str, str], dict[float, str]] = {}
    for name in (name for name in data.samplers if name in scored and name in data.settings):
        kind, arguments = data.settings[name]["class"], data.settings[name]["args"]
        for argument, value in arguments.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                others = {key: other for key, other in arguments.items() if key != argument}
                group = found.setdefault((kind, argument, json.dumps(others, sort_keys=True)), {})
                group.setdefault(float(value), name)
    lines = {key: samplers for key, samplers in found.items() if len(samplers) > 1}
    return [_Slice(*key[:2], _name(key, lines), samplers) for key, samplers in lines.items()]


def _name(line: tuple[str, str, str], lines: Iterable[tuple[str, str, str]]) -> str:
    """Name a line `average`, and by the arguments in which the lines of its panel differ, if there are several."""
    panel = [json.loads(others) for *place, others in lines if tuple(place) == line[:2]]
    fixed = json.loads(line[2])
    differing = [key for key in fixed if any(other.get(key) != fixed[key] for other in panel)]
    return ", ".join([AVERAGE[1], *(f"{key} = {fixed[key]}" for key in differing)])


def _draw_targets(axes: Axes, line: _Slice, cells: Cells, labels: dict[Transfer, str]) -> None:
    """Draw single targets; called beside one average only, since more would be a tangle."""
    targets = [column for column in labels if column != AVERAGE]
    for column, look in looks(targets).items():
        _draw_line(axes, line, column, cells, look, label=labels[column], linewidth=1.0, markersize=3.5)


def _draw_line(axes: Axes, line: _Slice, column: Transfer, cells: Cells, look: Look, **style: Any) -> None:
    """Draw one transfer's mean against the varied number; with `capsize` the intervals too."""
    points = {value: cells[name, column] for value, name in sorted(line.samplers.items()) if (name, column) in cells}
    if not points:
        return
    means = [point.mean for point in points.values()]
    bars = [point.half_width for point in points.values()] if "capsize" in style else None
    axes.errorbar(list(points), means, bars, color=look.colour, marker=look.marker, linestyle=look.dash, **style)


def _draw_baseline(axes: Axes, kind: str, cells: Cells, data: FigureData) -> None:
    """Draw the average of the first sampler of class PK as a level, if it is in the grid."""
    names = [name for name in data.samplers if data.settings.get(name, {}).get("class") == BASELINE]
    if kind != BASELINE and names and (names[0], AVERAGE) in cells:
        level = cells[names[0], AVERAGE].mean
        axes.axhline(level, color="black", linestyle=(0, (4, 2)), linewidth=1.0, label=f"{names[0]}, average")
