"""What events have to fulfil, and which index leads to those that do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

from django.db import connections
from django.db.models import Q

from django_signal_audit.admin.base import with_uid
from django_signal_audit.admin.keyset import HistoryScan, IndexScan, SortedScan
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.names import Lowered

Scans: TypeAlias = Sequence["IndexScan | HistoryScan"]
# Returns those of some events, by key, that fulfil a condition no database can ask for.
Check: TypeAlias = Callable[[AuditEventQuerySet], "set[int]"]


@dataclass(frozen=True, slots=True)
class Condition:
    """What an event has to fulfil.

    Attributes:
        q: What is asked of events that something else leads to.
        scans: The parts of an index that lead to all that fulfil it; None if there is no such index.
        check: What only Python can ask of events that fulfil ``q``.

    """

    q: Q
    scans: Scans | None = None
    check: Check | None = None

    @property
    def is_history(self) -> bool:
        """Return whether its events are in the order in which they happened to each object."""
        return bool(self.scans) and isinstance(self.scans[0], HistoryScan)  # type: ignore[index]


def by_column(events: AuditEventQuerySet, column: str, value: str) -> Condition:
    """Return the condition that a column with an index of its own has a value."""
    return Condition(Q(**{column: value}), [IndexScan(events, column, value)])


def by_name(events: AuditEventQuerySet, column: str, name: str) -> list[Condition]:
    """Return the conditions that the name in a column is exactly this one; the index knows no case."""
    is_exact = Q(**{column: name})
    scan = IndexScan(events, Lowered(column), lowered(events.db, name))
    return [Condition(is_exact, [scan]), Condition(is_exact)]


def by_beginning(events: AuditEventQuerySet, column: str, beginning: str) -> Condition:
    """Return the condition that the name in a column has a beginning, in whatever case."""
    names = names_beginning(events.db, column, beginning)
    scans = None if names is None else [IndexScan(events, Lowered(column), name) for name in names]
    return Condition(is_beginning(events.db, column, beginning), scans)


def nobody(events: AuditEventQuerySet) -> list[Condition]:
    """Return the conditions that an event has no actor: neither a name nor a primary key."""
    return [Condition(Q(actor_repr=""), [IndexScan(events, Lowered("actor_repr"), "")]), Condition(Q(actor_id=""))]


def by_key(events: AuditEventQuerySet, key: str, labels: Sequence[str]) -> Condition:
    """Return the condition that an event is about an object with this primary key, of any of the models."""
    # The key is the second column of its index, so the first is named too.
    return Condition(Q(object_id=key), [HistoryScan(events, label, key) for label in labels])


def by_uid(events: AuditEventQuerySet, text: str) -> Condition:
    """Return the condition that an event is the one with this uid."""
    condition = with_uid("uid", text)
    return Condition(condition, [SortedScan(events.filter(condition))])


def by_reason(reason: str) -> Condition:
    """Return the condition that the reason has a beginning, in whatever case."""
    wanted = reason.casefold()

    def check(events: AuditEventQuerySet) -> set[int]:
        found: Any = events.order_by().values_list("pk", "context")
        return {pk for pk, context in found if _reason(context).casefold().startswith(wanted)}

    return Condition(Q(), check=check)


def _reason(context: object) -> str:
    found = context.get("reason") if isinstance(context, dict) else ""
    return found if isinstance(found, str) else ""


def by_fields(names: Sequence[str], is_shown: Callable[[AuditEvent, str], bool]) -> Condition:
    """Return the condition that a field changed, by any of its names, which the user may see of the event."""

    def check(events: AuditEventQuerySet) -> set[int]:
        found: set[int] = set()
        for name in names:
            rows = events.filter(changes__has_key=name).only("id", "model", "object_id", "event_type", "recorded_at")
            found.update(event.pk for event in rows if is_shown(event, name))
        return found

    return Condition(Q(changes__has_any_keys=list(names)), check=check)


# More names than this are no longer looked up one by one.
MAX_NAMES = 100
# A beginning is no longer than this, whatever was typed in: the column holds little more.
MAX_LENGTH = 200
# SQLite knows the two cases of ASCII alone. Of so many other letters, both are tried.
MAX_LETTERS = 4

# From one name to the next one: one look into the index for each.
_SQL = """
WITH RECURSIVE known (name, number) AS (
    SELECT (SELECT {name} FROM {table} event WHERE {first} AND {last} ORDER BY {name} LIMIT 1), 1
    UNION ALL
    SELECT (SELECT {name} FROM {table} event WHERE {name} > known.name AND {last} ORDER BY {name} LIMIT 1), number + 1
    FROM known WHERE known.name IS NOT NULL AND number <= {most}
)
SELECT known.name FROM known WHERE known.name IS NOT NULL
"""
# What ends the names with one beginning: no character comes after this one.
_LAST = "\U0010ffff"


def names_beginning(using: str, column: str, beginning: str) -> list[str] | None:
    """Return the names in a column that have a beginning, as the index holds them; None if these are too many.

    Args:
        using: The database.
        column: ``object_repr`` or ``actor_repr``.
        beginning: In whatever case.

    """
    found: list[str] = []
    for variant in _variants(using, beginning):
        found += _names(using, column, variant)
        if len(found) > MAX_NAMES:
            return None
    return list(dict.fromkeys(found))


def lowered(using: str, name: str) -> str:
    """Return a name as the database has it in lower case."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT LOWER(%s)", [name])
        return str(cursor.fetchone()[0])


def is_beginning(using: str, column: str, beginning: str) -> Q:
    """Return the condition that the name in a column has a beginning, for events that another index leads to."""
    condition = Q()
    for variant in _variants(using, beginning):
        condition |= Q(**{f"{column}__istartswith": variant})
    return condition


def _variants(using: str, beginning: str) -> list[str]:
    """Return the beginning in the cases that the database can't tell are one."""
    beginning = beginning[:MAX_LENGTH]
    if connections[using].vendor != "sqlite" or beginning.isascii():
        return [beginning]
    letters = [
        dict.fromkeys((char, char.lower(), char.upper()) if not char.isascii() else (char,)) for char in beginning
    ]
    choices = [place for place, one in enumerate(letters) if len(one) > 1][MAX_LETTERS:]
    for place in choices:
        letters[place] = dict.fromkeys(beginning[place])
    return list(map("".join, product(*letters)))


def _names(using: str, column: str, beginning: str) -> list[str]:
    connection = connections[using]
    if connection.vendor == "mysql":
        return _names_one_by_one(using, column, beginning)
    quote = connection.ops.quote_name
    name, params = f"event.{quote(column)}", [beginning, beginning + _LAST, beginning + _LAST]
    name = f'LOWER({name}) COLLATE "C"' if connection.vendor == "postgresql" else f"LOWER({name})"
    first, last = f"{name} >= LOWER(%s)", f"{name} < LOWER(%s)"
    table = quote(AuditEvent._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(_SQL.format(name=name, table=table, first=first, last=last, most=MAX_NAMES), params)
        return [row[0] for row in cursor.fetchall()]


def _names_one_by_one(using: str, column: str, beginning: str) -> list[str]:
    """Return the same on MariaDB, which looks a name up in the index only where it is told the name."""
    connection = connections[using]
    name, table = connection.ops.quote_name(column), connection.ops.quote_name(AuditEvent._meta.db_table)
    field: Any = AuditEvent._meta.get_field(column)
    text = connection.ops.prep_for_like_query(field.get_db_prep_value(beginning, connection))
    sql, params = f"SELECT {name} FROM {table} WHERE {name} LIKE %s", [f"{text}%"]  # noqa: S608  # our own names
    found: list[str] = []
    with connection.cursor() as cursor:
        while len(found) <= MAX_NAMES:
            after = f" AND {name} > %s" if found else ""
            cursor.execute(f"{sql}{after} ORDER BY {name} LIMIT 1", [*params, *found[-1:]])
            row = cursor.fetchone()
            if row is None:
                break
            found.append(row[0])
    return found
