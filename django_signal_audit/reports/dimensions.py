"""What events are counted by: each dimension is one word of ``--by``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.utils.translation import gettext_lazy as _

from django_signal_audit.problems import did_you_mean

from .base import Cell, Column, WrongArgument
from .localization import local

# The annotation day and hour come from. Minutes in UTC need no time zone tables, which MySQL often lacks, fold exactly
# into the days and hours of every zone, and keep apart the two hours of the night the clock is put back.
MINUTE = "recorded_minute"

Row: TypeAlias = Mapping[str, Any]
Key: TypeAlias = tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One way to sort events into groups.

    Attributes:
        columns: What names a group.
        needs: The columns of events (or MINUTE) a group comes from.
        keys: The groups an event belongs to, one cell per column.
        is_listed: Does an event belong to several groups, so that only Python can count them?
        is_time: Do the groups follow each other in time?
        caption: The column with the name the group's newest event has for it, and where the event has it.

    """

    columns: tuple[Column, ...]
    needs: tuple[str, ...]
    keys: Callable[[Row], Iterable[Key]]
    is_listed: bool = False
    is_time: bool = False
    caption: tuple[Column, str] | None = None


def _plain(columns: dict[str, Column], caption: tuple[Column, str] | None = None) -> Dimension:
    needs = tuple(columns)
    return Dimension(
        columns=tuple(columns.values()),
        needs=needs,
        keys=lambda row: [tuple(row[need] for need in needs)],
        caption=caption,
    )


def _listed(column: Column, need: str) -> Dimension:
    # Iterating a dict gives its keys, so this serves the list of rules and the mapping of changed fields alike.
    return Dimension(columns=(column,), needs=(need,), keys=lambda row: [(item,) for item in row[need]], is_listed=True)


def _period(column: Column, start: Callable[[dt.datetime], dt.date]) -> Dimension:
    return Dimension(columns=(column,), needs=(MINUTE,), keys=lambda row: [(start(local(row[MINUTE])),)], is_time=True)


def _hour(moment: dt.datetime) -> dt.datetime:
    offset = moment.utcoffset()
    # Within one time zone Python takes the two hours of the night the clock is put back for equal.
    return moment.replace(minute=0, tzinfo=None if offset is None else dt.timezone(offset))


_MODEL = Column("model", _("Model"))

DIMENSIONS: dict[str, Dimension] = {
    "model": _plain({"model": _MODEL}),
    "object": _plain(
        {"model": _MODEL, "object_id": Column("object_id", _("Key"))},
        caption=(Column("object", _("Object")), "object_repr"),
    ),
    "event": _plain({"event_type": Column("event", _("Event"))}),
    "actor": _plain(
        {"actor_id": Column("actor_id", _("Actor's key"))}, caption=(Column("actor", _("Actor")), "actor_repr")
    ),
    "rule": _listed(Column("rule", _("Rule")), "rules"),
    "field": _listed(Column("field", _("Field")), "changes"),
    "day": _period(Column("day", _("Day")), lambda moment: moment.date()),
    "hour": _period(Column("hour", _("Hour")), _hour),
}


# What people write for them.
_SYNONYMS = {
    **dict.fromkeys(("user", "users", "who", "username", "by"), "actor"),
    **dict.fromkeys(("type", "event_type", "action"), "event"),
    **dict.fromkeys(("date", "daily", "week", "month"), "day"),
    **dict.fromkeys(("time", "hourly"), "hour"),
    **dict.fromkeys(("pk", "id", "row", "instance"), "object"),
    **dict.fromkeys(("app", "table", "class"), "model"),
    "column": "field",
}


def get_dimension(name: str) -> Dimension:
    """Return the dimension of that name.

    Raises:
        WrongArgument: There is none.

    """
    if name not in DIMENSIONS:
        msg = f"Events cannot be counted by {name!r}. {did_you_mean(name, DIMENSIONS, synonyms=_SYNONYMS)}"
        raise WrongArgument(msg)
    return DIMENSIONS[name]
