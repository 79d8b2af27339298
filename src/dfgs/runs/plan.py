"""What a grid will take before it is submitted: jobs, hours, disk, and when it ends on so many slots."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dfgs.config import Config
from dfgs.grid import Grid
from dfgs.runs.cells import RULES, Cell, Key, cells_of
from dfgs.runs.rates import Cost, Rates, size


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells of a grid that are left, what each is expected to take and leave (None: nobody knows), and the rest.

    `hours` and `gpu_hours` sum what is known.
    """

    cells: list[Cell]
    left: list[Cell]
    costs: dict[Key, Cost | None]
    sizes: dict[Key, float | None]

    @property
    def unknown(self) -> list[Cell]:
        """Cells of which nobody knows how long they take."""
        return [cell for cell in self.left if self.costs[cell.key] is None]

    @property
    def hours(self) -> float:
        """Hours of processes, one after the other."""
        return sum(cost.seconds for cost in self._known()) / 3600

    @property
    def gpu_hours(self) -> float:
        """Hours of GPUs that are held."""
        return sum(cost.gpu_seconds for cost in self._known()) / 3600

    @property
    def sources(self) -> list[str]:
        """Whose figures the hours are."""
        return sorted({cost.source for cost in self._known()})

    def _known(self) -> Iterator[Cost]:
        yield from (cost for cell in self.left if (cost := self.costs[cell.key]) is not None)


def make_plan(config: Config, results: Path, rates: Rates) -> Plan:
    """Plan the grid of a configuration; what lies in `results` already is not done again."""
    grid = Grid(config)
    cells = cells_of(grid)
    drawn = {cell.name: cell.job for cell in cells if cell.rule == "draw"}
    left = [cell for cell in cells if not cell.is_done(results)]
    costs = {cell.key: rates.cost(cell, drawn) for cell in left}
    return Plan(cells, left, costs, {cell.key: size(cell, drawn) for cell in left})


def finish(plan: Plan, slots: int) -> float:
    """Return the seconds until the last cell ends when up to `slots` run at a time, each as soon as it can.

    Cells start in the order of the plan among those that wait for nothing; queues and restarts are not in it.
    """
    waits, followers = _dependencies(plan.left)
    order = {cell.key: number for number, cell in enumerate(plan.left)}
    ready = [(order[key], key) for key, count in waits.items() if count == 0]
    heapq.heapify(ready)
    running: list[tuple[float, int, Key]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            number, key = heapq.heappop(ready)
            cost = plan.costs[key]
            heapq.heappush(running, (now + (cost.seconds if cost else 0.0), number, key))
        now, _, ended = heapq.heappop(running)
        for key in followers[ended]:
            waits[key] -= 1
            if waits[key] == 0:
                heapq.heappush(ready, (order[key], key))
    return now


def _dependencies(cells: list[Cell]) -> tuple[dict[Key, int], dict[Key, list[Key]]]:
    keys = {cell.key for cell in cells}
    needs = {cell.key: {need for need in cell.needs if need in keys} for cell in cells}
    followers: dict[Key, list[Key]] = defaultdict(list)
    for key, wanted in needs.items():
        for need in wanted:
            followers[need].append(key)
    return {key: len(wanted) for key, wanted in needs.items()}, followers


def told(plan: Plan, config: Config, slots: Iterable[int]) -> Iterator[str]:
    """Tell a plan, line by line."""
    grid = Grid(config)
    yield from _jobs(plan)
    yield "Tables, figures and the report come on top: local jobs of seconds."
    if plan.unknown:
        counts = Counter(cell.rule for cell in plan.unknown)
        listed = ", ".join(f"{number} {rule}" for rule, number in counts.items())
        yield f"Not known: how long {listed} take. Run one of each, then plan again with --rates ledger."
    if plan.sources:
        whose = " and ".join(plan.sources)
        yield f"Expected: {plan.hours:.2f} hours of processes, {plan.gpu_hours:.2f} GPU-hours; by {whose}."
        least = "at least " if plan.unknown else ""
        for number in slots:
            yield f"At {number} slot{'s' * (number > 1)}: {least}{finish(plan, number) / 3600:.2f} hours."
    yield _disk(plan)
    for name in config.run:
        yield f"Experiment {name}: {'; '.join(grid.resolvable(name))}."


def _jobs(plan: Plan) -> Iterator[str]:
    planned, left = (Counter(cell.rule for cell in cells) for cells in (plan.cells, plan.left))
    yield f"{'rule':14}{'jobs':>6}{'there':>7}{'to do':>7}{'hours':>9}"
    for rule in (rule for rule in RULES if planned[rule]):
        costs = [plan.costs[cell.key] for cell in plan.left if cell.rule == rule]
        known = [cost.seconds for cost in costs if cost is not None]
        hours = f"{sum(known) / 3600:.2f}" if len(known) == len(costs) else "?"
        yield f"{rule:14}{planned[rule]:>6}{planned[rule] - left[rule]:>7}{left[rule]:>7}{hours:>9}"
    yield f"{'all':14}{len(plan.cells):>6}{len(plan.cells) - len(plan.left):>7}{len(plan.left):>7}"


def _disk(plan: Plan) -> str:
    """Tell the disk space, features apart: the target `lean` drops them."""
    known = {key: value for key, value in plan.sizes.items() if value is not None}
    features = sum(value for (rule, _), value in known.items() if rule == "embed")
    rest = sum(known.values()) - features
    said = f"Disk: {rest / 1e9:.2f} GB, and {features / 1e9:.2f} GB of features (none with the target `lean`)"
    missing = len(plan.sizes) - len(known)
    return said + (f"; {missing} jobs leave files whose size is not known." if missing else ".")
