"""The tables that are printed, in Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence

from .databases import TITLES
from .measure import BASE, Cell, Plan, Results

COLUMNS = {
    "create": "create",
    "get_save": "get + save",
    "save_fields": "save(update_fields)",
    "save_unchanged": "save, nothing changed",
    "delete": "delete",
    "m2m_add": "m2m add of 5",
    "bulk_create": "bulk_create",
    "bulk_update": "bulk_update",
    "query_update": "QuerySet.update",
    "query_delete": "QuerySet.delete",
    "load": "loading",
}
GROUPS = {
    "One row": ("create", "get_save", "save_fields", "save_unchanged", "delete", "m2m_add"),
    "5,000 rows in one call": ("bulk_create", "bulk_update", "query_update", "query_delete"),
}
Write = Callable[[str, Cell, Cell], str]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _ratio(_operation: str, cell: Cell, base: Cell) -> str:
    ratio = cell.ratio_to(base)
    return f"{ratio:.1f}" if ratio >= 9.95 else f"{ratio:.2f}"


def _logged_ratio(operation: str, cell: Cell, base: Cell) -> str:
    """Return the ratio, or that the package does not do what is measured."""
    if cell.error:
        return "raises"
    if operation == "save_unchanged":
        return _ratio(operation, cell, base) + (" (writes a row)" if cell.logged else "")
    return _ratio(operation, cell, base) if cell is base or cell.logged else "logs nothing"


def _time(_operation: str, cell: Cell, _base: Cell) -> str:
    if cell.error:
        return "raises"
    return f"{cell.seconds * 1e3:,.0f} ms" if cell.seconds >= 0.01 else f"{cell.seconds * 1e6:,.0f} µs"


def _queries(_operation: str, cell: Cell, _base: Cell) -> str:
    return "raises" if cell.error else str(cell.queries)


def _block(plan: Plan, results: Results, operations: Sequence[str], write: Write) -> Iterator[str]:
    """Yield a table with one row per contender; in each cell the databases side by side."""
    operations = [name for name in operations if name in plan.operations]
    if not operations:
        return
    rows = []
    for one in plan.contenders:
        row = [one.name]
        for operation in operations:
            row.append(" / ".join(_one(results, kind, one.name, operation, write) for kind in plan.kinds))
        rows.append(row)
    yield from _table(["", *(COLUMNS[name.removeprefix("unaudited_")] for name in operations)], rows)


def _one(results: Results, kind: str, name: str, operation: str, write: Write) -> str:
    cell, base = results.cell(kind, name, operation), results.cell(kind, BASE, operation)
    return "n/a" if cell is None or base is None else write(operation, cell, base)


def _loading(plan: Plan, results: Results) -> Iterator[str]:
    rows = []
    for one in plan.contenders:
        times = [_one(results, kind, one.name, "load", _ratio) for kind in plan.kinds]
        sizes = []
        for kind in plan.kinds:
            size = results.memory.get((kind, one.name))
            sizes.append("n/a" if size is None else f"{size / results.memory[kind, BASE]:.2f}")
        rows.append([one.name, " / ".join(times), " / ".join(sizes)])
    yield from _table(["", "time of loading", "memory of the instances"], rows)


def report(plan: Plan, results: Results) -> Iterator[str]:
    """Yield the lines of the whole report."""
    kinds = " / ".join(TITLES[kind] for kind in plan.kinds)
    first = next(iter(results.versions.values()))
    servers = ", ".join(f"{TITLES[kind]} {results.versions[kind]['database']}" for kind in plan.kinds)
    yield (
        f"Printed by `make benchmark` on Python {first['Python']}, Django {first['Django']}, {servers},"
        f" {platform.system()}, {os.cpu_count()} cores; {plan.rounds} rounds."
    )
    peers = [f"{one.name} {one.version}" for one in plan.contenders if one.name != BASE]
    yield f"With {', '.join(peers)}."
    yield ""
    for title, operations in GROUPS.items():
        if not set(operations) & set(plan.operations):
            continue
        yield f"### {title}: time as a multiple of plain Django's ({kinds})"
        yield ""
        yield from _block(plan, results, operations, _logged_ratio)
        yield f"### {title}: time ({kinds})"
        yield ""
        yield from _block(plan, results, operations, _time)
        yield f"### {title}: statements ({kinds})"
        yield ""
        yield from _block(plan, results, operations, _queries)
    if "load" in plan.operations:
        yield f"### 20,000 instances, as a multiple of plain Django's ({kinds})"
        yield ""
        yield from _loading(plan, results)
    yield from _unaudited(plan, results, kinds)


def _unaudited(plan: Plan, results: Results, kinds: str) -> Iterator[str]:
    names = [name for name in plan.operations if name.startswith("unaudited_")]
    for title, operations in GROUPS.items():
        mine = [name for name in names if name.removeprefix("unaudited_") in operations]
        if mine:
            yield f"### A model that nobody audits, {title[0].lower()}{title[1:]}: time, then statements ({kinds})"
            yield ""
            yield from _block(plan, results, mine, _ratio)
            yield from _block(plan, results, mine, _queries)
