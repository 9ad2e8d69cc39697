"""Report: a titled table, whatever it will be written as."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar, overload

from django.utils.functional import Promise

from django_signal_audit.exceptions import SignalAuditError
from django_signal_audit.plugins import PluginError, load_class
from django_signal_audit.problems import did_you_mean

if TYPE_CHECKING:
    from django_signal_audit.events.values import JSONValue


class WrongArgument(SignalAuditError, ValueError):
    """A report was asked for with an argument that means nothing; the message says what would."""


@dataclass(frozen=True, slots=True)
class Detail:
    """A cell of several lines for people, with the data behind it for machines."""

    lines: tuple[str, ...]
    data: JSONValue


Cell: TypeAlias = "str | int | dt.date | dt.datetime | Detail | None"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name in machine formats, its heading for people, and whether it counts something."""

    name: str
    heading: str | Promise
    is_number: bool = False


# So many rows of a report that is read while it is written are in memory at once.
BATCH = 1000


class StreamedRows(Sequence[Sequence[Cell]]):
    """Rows that are read anew whenever they are iterated, and never kept: there may be more than memory holds.

    Args:
        read: Returns the rows, read as they are taken.
        count: Returns how many there are.

    """

    def __init__(self, read: Callable[[], Iterator[Sequence[Cell]]], count: Callable[[], int]) -> None:
        self._read, self._count = read, count

    def __iter__(self) -> Iterator[Sequence[Cell]]:
        return self._read()

    def __len__(self) -> int:
        return self._count()

    def __bool__(self) -> bool:
        return next(self._read(), None) is not None

    @overload
    def __getitem__(self, index: int) -> Sequence[Cell]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sequence[Cell]]: ...

    def __getitem__(self, index: int | slice) -> Sequence[Cell] | Sequence[Sequence[Cell]]:
        return list(self)[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Numbers by name that a format may draw: of each day or hour in time, or the largest first."""

    title: str
    heading: str
    values: Sequence[tuple[str, int]]
    is_time: bool = False


class LazySeries(Sequence[Series]):
    """Series that are made when a format draws them: most don't, and of many groups that takes a while."""

    def __init__(self, make: Callable[[], list[Series]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> list[Series]:
        return self._make()

    def __len__(self) -> int:
        return len(self._made)

    @overload
    def __getitem__(self, index: int) -> Series: ...

    @overload
    def __getitem__(self, index: slice) -> list[Series]: ...

    def __getitem__(self, index: int | slice) -> Series | list[Series]:
        return self._made[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A titled table. ``empty`` is what to say when it has no rows.

    ``scope`` says in words what it is about; ``series`` is what could be drawn of it; ``rest`` says that there is more.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    empty: str
    scope: str = ""
    rest: str = ""
    series: Sequence[Series] = ()

    def batches(self) -> Iterator[Sequence[Sequence[Cell]]]:
        """Yield the rows as tables: all in one, or 1,000 at a time where there may be more than memory holds."""
        if not isinstance(self.rows, StreamedRows):
            yield self.rows
            return
        rows = iter(self.rows)
        while batch := list(islice(rows, BATCH)):
            yield batch

    def records(self) -> Iterator[dict[str, object]]:
        """Yield each row as JSON has it, by column name."""
        names = [column.name for column in self.columns]
        for row in self.rows:
            yield dict(zip(names, map(cell_data, row), strict=True))


def cell_lines(cell: Cell) -> tuple[str, ...]:
    """Return the lines of a cell as a person reads them."""
    if isinstance(cell, Detail):
        return cell.lines
    if isinstance(cell, dt.datetime):
        return (cell.isoformat(sep=" ", timespec="seconds"),)
    return ("" if cell is None else str(cell),)


def cell_data(cell: Cell) -> object:
    """Return what a cell is in JSON."""
    if isinstance(cell, Detail):
        return cell.data
    return cell.isoformat() if isinstance(cell, dt.date) else cell


T = TypeVar("T")

# What people write for the built-in ones.
_SYNONYMS = {"md": "markdown", "text": "table", "txt": "table", "excel": "csv", "htm": "html", "ndjson": "jsonl"}


def load_format(alias: str, paths: Mapping[str, str], base: type[T], *, setting: str, noun: str) -> T:
    """Return the format of that alias.

    Args:
        alias: Its name.
        paths: The dotted path of each format by alias.
        base: What its class has to be a subclass of.
        setting: The key of SIGNAL_AUDIT that adds such formats.
        noun: What such a format is called.

    Raises:
        WrongArgument: There is none, or its dotted path leads to no such class.

    """
    if alias not in paths:
        msg = f"There is no {noun} {alias!r}. {did_you_mean(alias, paths, synonyms=_SYNONYMS)}"
        raise WrongArgument(msg)
    try:
        found = load_class(paths[alias], f'SIGNAL_AUDIT["{setting}"]["{alias}"]', base)
    except PluginError as error:
        raise WrongArgument(str(error)) from error
    return found()
