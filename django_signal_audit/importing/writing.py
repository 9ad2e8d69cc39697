"""Writing imported events: with ids below all others, names that a second run makes again, and their tenants."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from secrets import token_hex
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, models, transaction
from django.db.models import Max, Q

from django_signal_audit.capture.rows import is_one_of
from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.context.actors import NOBODY, describe_actor
from django_signal_audit.enums import LAST_EVENTS, ROW_EVENTS, Level
from django_signal_audit.events.insert import EventRow, insert_rows
from django_signal_audit.events.keys import object_id, parse_id
from django_signal_audit.events.values import clean_text
from django_signal_audit.importing.base import CannotImport, Summary
from django_signal_audit.importing.tables import analyze
from django_signal_audit.models import AuditEvent, AuditLeaf
from django_signal_audit.models.events import Signature, signature_hash
from django_signal_audit.models.tables import has_table
from django_signal_audit.models.tenants import current_tenant
from django_signal_audit.rules.tenants import mapping, tenant_path
from django_signal_audit.transient import is_transient

# JSON and JavaScript count exactly as far as 2 ** 53.
LOWEST_ID = -(2**52)
# After so many events, and four times as many, and so on, PostgreSQL looks at the table again.
_FIRST_LOOK = 10_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


def uid_of(moment: dt.datetime, *origin: str) -> UUID:
    """Return the UUIDv7 of a time and an origin: the same each time, in the order of the times.

    Its parts are milliseconds, their fraction in twelve bits (section 6.2, method 3), and 62 bits of a hash.
    """
    microseconds = max((moment - _EPOCH) // _MICROSECOND, 0)
    milliseconds, rest = divmod(microseconds, 1000)
    digest = hashlib.sha256("\0".join(origin).encode("utf-8", "surrogatepass")).digest()
    chance = int.from_bytes(digest[:8]) >> 2
    return UUID(int=milliseconds << 80 | 7 << 76 | (rest << 12) // 1000 << 64 | 2 << 62 | chance)


class Writer:
    """Writes events in transactions of limited size.

    Args:
        using: The database.
        size: How many events a transaction has at most.
        is_dry: Whether nothing is written.
        summary: Counts the events, and names those that can't be written.

    """

    def __init__(self, using: str, size: int, summary: Summary, *, is_dry: bool) -> None:
        self._using, self._size, self._summary, self._is_dry = using, size, summary, is_dry
        highest = AuditEvent.of_all_tenants.using(using).filter(id__lt=0).aggregate(highest=Max("id"))["highest"]
        self._next = LOWEST_ID if highest is None else highest + 1
        self._pending: list[tuple[int, EventRow]] = []
        self._next_look = _FIRST_LOOK
        self._has_leaves = has_table(AuditLeaf, using) and AuditLeaf.objects.using(using).exists()
        # The objects with an event that couldn't be written.
        self.incomplete: set[tuple[str, str]] = set()

    def add(self, **columns: Any) -> None:
        """Write an event with the next id, now or with the next ones.

        Args:
            columns: Its columns; those that are left out are empty.

        """
        pk = self._next
        self._next += 1
        self._summary.written += 1
        if self._is_dry:
            return
        self._pending.append((pk, _row(columns)))
        if len(self._pending) >= self._size:
            self.flush()

    def flush(self) -> None:
        """Write what is still to be written."""
        pending, self._pending = self._with_free_uids(self._pending), []
        if not pending:
            return
        try:
            self._insert(pending)
        except DatabaseError as error:
            # MySQL calls values that don't fit operational errors; a lost connection fails again at once.
            if is_transient(error):
                raise
            if isinstance(error, IntegrityError) and self._are_there(pending):
                msg = "Other events were imported at the same time. Run one import after the other."
                raise CannotImport(msg) from error
            self._one_by_one(pending)

    def refresh_statistics(self) -> None:
        """Have PostgreSQL look at the audit log if it has grown much; to be called outside of transactions.

        Own events are looked for by ids above zero. As long as PostgreSQL doesn't know that there are few of them, it
        goes through all imported ones.
        """
        if self._summary.written >= self._next_look and not self._is_dry:
            self._next_look = 4 * self._summary.written
            analyze(AuditEvent._meta.db_table, self._using)

    def _insert(self, events: list[tuple[int, EventRow]]) -> None:
        with transaction.atomic(using=self._using):
            lock_database(self._using)
            insert_rows([row for _, row in events], self._using, [pk for pk, _ in events])

    def _with_free_uids(self, events: list[tuple[int, EventRow]]) -> list[tuple[int, EventRow]]:
        """Return the events without those that were sealed once and pruned: their leaves are of the former ones.

        A run after that makes the same names again, with other ids. What says what an object held gets another name,
        and later runs know it by the object's state; nobody would know the others.
        """
        gone = self._sealed_and_gone([row.uid for _, row in events]) if self._has_leaves else set()
        found = []
        for pk, row in events:
            if row.uid not in gone:
                found.append((pk, row))
            elif row.event_type in ROW_EVENTS:
                found.append((pk, row._replace(uid=uid_of(row.recorded_at, row.uid.hex, token_hex()))))
            else:
                self._summary.written -= 1
                self._summary.known += 1
        return found

    def _sealed_and_gone(self, uids: list[UUID]) -> set[UUID]:
        leaves = AuditLeaf.objects.using(self._using).filter(is_one_of(AuditLeaf, uids, self._using, column="event"))
        sealed = set(leaves.values_list("event", flat=True))
        there = AuditEvent.of_all_tenants.using(self._using).filter(uid__in=sealed)
        return sealed.difference(there.values_list("uid", flat=True)) if sealed else sealed

    def _are_there(self, events: list[tuple[int, EventRow]]) -> bool:
        taken = Q(id__in=[pk for pk, _ in events]) | Q(uid__in=[row.uid for _, row in events])
        return AuditEvent.of_all_tenants.using(self._using).filter(taken).exists()

    def _one_by_one(self, events: list[tuple[int, EventRow]]) -> None:
        for pk, row in events:
            try:
                self._insert([(pk, row)])
            except DatabaseError as error:
                if is_transient(error):
                    raise
                self._summary.written -= 1
                self.incomplete.add((row.model, row.object_id))
                imported: Any = row.context.get("imported", {})
                self._summary.leave("the database refuses its event", f"{row.model} {imported.get('id', '')}")


# Of events that leave these columns out. No one changes the documents.
_EMPTY: dict[str, Any] = {"actor_id": "", "actor_repr": "", "data": {}, "correlation_id": ""}


def _row(columns: dict[str, Any]) -> EventRow:
    """Return the columns of an event, with texts that every database takes."""
    level = Level.INFO.value
    signature = signature_hash(Signature(columns["event_type"], level, columns["model"], ()))
    texts = {
        name: clean_text(value) for name, value in columns.items() if value.__class__ is str and not value.isprintable()
    }
    return EventRow(**{**_EMPTY, **columns, **texts}, level=level, rules=[], signature=signature)


class Actors:
    """The texts of users as they are today.

    Args:
        using: The database.

    """

    def __init__(self, using: str) -> None:
        self._users = get_user_model()._base_manager.using(using)
        self.of = lru_cache(10_000)(self._of)

    def _of(self, key: Any) -> tuple[str, str]:
        """Return id and text of the user with a primary key; the id alone of one who is gone."""
        if key is None or key == "":
            return NOBODY
        try:
            user = self._users.filter(pk=key).first()
        except (ValueError, TypeError, ArithmeticError, ValidationError):
            user = None  # it is the key of no user
        return (object_id(key), "") if user is None else describe_actor(user)


_NOT_KNOWN = object()


class ImportedTenants:
    """Tells the tenant of each imported event: what the source says of the column, else what the row says today.

    Args:
        model: The model of the history, None if it is gone from the project.
        using: The database.

    Attributes:
        origin: What an event's uid is made of besides its source and row.

    """

    def __init__(self, model: type[models.Model] | None, using: str) -> None:
        self._model, self._using = model, using
        self._path = tenant_path(model) if model is not None else None
        self._current = "" if mapping() and model is not None else current_tenant()
        # Tables of two tenants have rows of the same time and key: these are not the same event.
        self.origin = (self._current,) if self._current else ()
        self._today = lru_cache(10_000)(self._read_row)
        self._end = lru_cache(10_000)(self._read_end)

    def of(self, row: str, event_type: str, changes: Mapping[str, Any], known: Mapping[str, Any] | None) -> str:
        """Return the tenant of an event.

        Args:
            row: The name of the row.
            event_type: What happened to it.
            changes: Its changes as events have them.
            known: What was recorded of the row until then, by field name.

        """
        if self._path is None:
            return self._current
        name = self._path.column.name
        pair = changes.get(name)
        if isinstance(pair, list):
            value = pair[0] if event_type in LAST_EVENTS else pair[1]
        else:
            value = (known or {}).get(name, _NOT_KNOWN)
        if value is _NOT_KNOWN or not isinstance(value, (str, int, float, type(None))):
            return self._today(row)
        return object_id(value) if value is None or not self._path.rest else self._end(value)

    def _read_row(self, row: str) -> str:
        if self._model is None or self._path is None:
            return ""
        pk = parse_id(self._model, row)
        rows = self._model._base_manager.using(self._using).filter(pk=pk).order_by()
        return object_id(rows.values_list(self._path.lookup, flat=True).first())

    def _read_end(self, value: object) -> str:
        if self._path is None:
            return ""
        column: Any = self._path.column
        rows = column.related_model._base_manager.using(self._using).filter(**{column.target_field.attname: value})
        return object_id(rows.order_by().values_list(self._path.rest, flat=True).first())
