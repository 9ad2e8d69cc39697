"""django-field-audit: one table, whose JSON says old and new of what has changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import lru_cache
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import models

from django_signal_audit.enums import EventType
from django_signal_audit.events.values import canonical_json
from django_signal_audit.importing.base import Entry, History, ImportSource, ModelFields, Unusable
from django_signal_audit.importing.tables import (
    SLICE,
    Rows,
    TableHistory,
    Unreadable,
    document,
    fetched,
    moment,
    slices,
    table_rows,
)
from django_signal_audit.importing.values import NoValue, typed


class Source(ImportSource):
    """Reads the audit events."""

    name = "field_audit"

    def histories(self) -> Iterable[History]:
        """Return the history of each model."""
        rows = table_rows(
            "field_audit_auditevent",
            self.using,
            id=models.IntegerField(primary_key=True),
            event_date=models.DateTimeField(),
            object_class_path=models.CharField(max_length=255),
            object_pk=models.TextField(),
            change_context=models.TextField(),
            is_create=models.BooleanField(),
            is_delete=models.BooleanField(),
            is_bootstrap=models.BooleanField(),
            delta=models.TextField(),
        )
        user = lru_cache(10_000)(self._user)
        labels = {f"{one.__module__}.{one.__qualname__}": one._meta.label_lower for one in apps.get_models()}
        paths = rows.order_by().values_list("object_class_path", flat=True).distinct()
        # One object's rows may have several class paths: the code has moved.
        by_label: dict[str, list[str]] = {}
        for path in paths:
            by_label.setdefault(labels.get(path) or self.renamed.get(path.lower(), ""), []).append(path)
        return [
            _Events(label, rows.filter(object_class_path__in=found), self.fields(label), user)
            for label, found in by_label.items()
        ]

    def _user(self, name: str) -> Any:
        model = get_user_model()
        found = model._base_manager.using(self.using).filter(**{model.USERNAME_FIELD: name})
        return found.values_list("pk", flat=True).first()


class _Events(TableHistory):
    """The events about one model. Their column with the object's key has no index."""

    def __init__(self, label: str, rows: Rows, fields: ModelFields, user: Any) -> None:
        super().__init__(label, rows, key=["object_pk"], order=["id"], entry=self._entry, has_values=bool(label))
        self._fields, self._user = fields, user

    def _pages(self, unreadable: Unreadable) -> Iterator[list[Any]]:
        """Yield rows object by object: their keys are sorted in a temporary file."""
        with closing(sqlite3.connect("")) as sorter:
            sorter.execute("CREATE TABLE rows (key TEXT, id INTEGER)")
            for rows in slices(self.rows.only("id", "object_pk"), ["id"], unreadable):
                sorter.executemany("INSERT INTO rows VALUES (?, ?)", [(_plain(row.object_pk), row.pk) for row in rows])
            cursor = sorter.execute("SELECT id FROM rows ORDER BY key, id")
            while ids := [key for (key,) in cursor.fetchmany(SLICE)]:
                found = fetched(self.rows, ids, unreadable)
                yield [found[key] for key in ids if key in found]

    def _entry(self, row: Any) -> Entry:
        if not self.label:
            msg = f"its class {row.object_class_path} isn't in the project (--rename {row.object_class_path}=app.Model)"
            raise Unusable(msg)
        who = document(row.change_context, "context")
        name = str(who.get("username") or "") if isinstance(who, dict) else ""
        key = document(row.object_pk, "primary key")
        entry = Entry(
            key=str(row.pk),
            at=moment(row.event_date),
            event_type=_type(row),
            object_id=tuple(key) if isinstance(key, list) else key,
            actor=self._user(name) if name else None,
            actor_repr=name,
        )
        delta = document(row.delta, "delta")
        if not isinstance(delta, dict):
            msg = "its delta isn't a JSON object"
            raise Unusable(msg)
        self._fill(entry, delta)
        return entry

    def _fill(self, entry: Entry, delta: Mapping[str, object]) -> None:
        changes, m2m = {}, {}
        for name, change in delta.items():
            if not isinstance(change, dict):
                continue
            if name in self._fields.members:
                m2m[name] = (
                    change.get("add") or change.get("new") or [],
                    change.get("remove") or change.get("old") or [],
                )
                continue
            field = self._fields.columns.get(name)
            old, new = change.get("old"), change.get("new")
            try:
                changes[name] = (old, new) if field is None else (typed(field, old), typed(field, new))
            except NoValue:
                entry.unclear[name] = [old, new]
        entry.changes, entry.m2m = changes, {} if entry.event_type == EventType.DELETE else m2m


def _plain(key: object) -> str:
    """Return the JSON of a key such that equal keys are equal texts."""
    try:
        return canonical_json(document(key, "key")).decode()
    except Unusable:
        return str(key)


def _type(row: Any) -> str:
    if row.is_bootstrap:
        return EventType.BASELINE.value
    return (EventType.CREATE if row.is_create else EventType.DELETE if row.is_delete else EventType.UPDATE).value
