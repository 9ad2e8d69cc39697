"""The measuring itself: rounds in which every contender takes its turn at each operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .contenders import Contender
from .processes import Failed, Process, start

BASE = "plain Django"


@dataclass(slots=True)
class Cell:
    """What one contender did with one operation on one database."""

    # The median of every round's calls, in seconds.
    rounds: list[float] = field(default_factory=list)
    queries: int = 0
    logged: int = 0
    error: str = ""

    @property
    def seconds(self) -> float:
        """Return the median over the rounds."""
        return median(self.rounds)

    def ratio_to(self, base: Cell) -> float:
        """Return the median of the rounds' ratios: what slows a whole round down, slows both."""
        return median(own / plain for own, plain in zip(self.rounds, base.rounds, strict=True))


@dataclass(slots=True)
class Results:
    """Everything that was measured, by kind of database, contender and operation."""

    cells: dict[tuple[str, str, str], Cell] = field(default_factory=dict)
    memory: dict[tuple[str, str], float] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def cell(self, kind: str, name: str, operation: str) -> Cell | None:
        """Return the cell, None if the contender does not take part."""
        return self.cells.get((kind, name, operation))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and how often."""

    kinds: Sequence[str]
    contenders: Sequence[Contender]
    operations: Sequence[str]
    rounds: int
    # On one row, in one turn; a call on many rows is made once.
    calls: int


def measure(plan: Plan, tell: Callable[[str], None]) -> Results:
    """Measure database after database."""
    results = Results()
    for kind in plan.kinds:
        with start(plan.contenders, kind) as processes:
            results.versions[kind] = processes[0].ask("versions")
            _count(plan, kind, processes, results, tell)
            for number in range(plan.rounds):
                tell(f"{kind}: round {number + 1} of {plan.rounds}")
                # Nobody is always the first after a pause, or always after the slowest.
                turns = processes[number % len(processes) :] + processes[: number % len(processes)]
                _play_round(plan, kind, turns, results)
    return results


def _count(plan: Plan, kind: str, processes: Sequence[Process], results: Results, tell: Callable[[str], None]) -> None:
    for process in processes:
        for operation in plan.operations:
            cell = results.cells[kind, process.one.name, operation] = Cell()
            try:
                counted = process.ask("count", name=operation)
            except Failed as error:
                cell.error = error.args[0]
                tell(f"{process.one.name}: {operation} raises {cell.error}")
            else:
                cell.queries, cell.logged = len(counted["statements"]), counted["logged"]
        if "load" in plan.operations:
            results.memory[kind, process.one.name] = process.ask("memory", name="load")


def _play_round(plan: Plan, kind: str, turns: Sequence[Process], results: Results) -> None:
    for operation in plan.operations:
        for process in turns:
            cell = results.cells[kind, process.one.name, operation]
            if not cell.error:
                cell.rounds.append(_time(process, operation, plan.calls))


def _time(process: Process, operation: str, calls: int) -> float:
    taken: list[Any] = process.ask("time", name=operation, calls=calls)
    return median(taken) / 1e9
