"""django-auditlog 2 and 3: one table, whose JSON says old and new of what has changed, mostly as texts.

An upgrade keeps what there is, so each row may have another form: texts only, or typed values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import models

from django_signal_audit.enums import EventType
from django_signal_audit.events.documents import safe_str
from django_signal_audit.importing.base import Entry, History, ImportSource, ModelFields, Unusable
from django_signal_audit.importing.tables import document, histories_by_content_type, moment, table_rows
from django_signal_audit.importing.values import NoValue, from_text, typed

_ACTIONS = {
    0: EventType.CREATE.value,
    1: EventType.UPDATE.value,
    2: EventType.DELETE.value,
    3: "view",
}
_ROW_ACTIONS = frozenset({EventType.CREATE, EventType.UPDATE, EventType.DELETE})
# Of so many related objects the texts are read, to find the keys that the source doesn't have.
_MOST_RELATED = 10_000
_NULL = "None"
_PAIR = 2


class _Model:
    """What is known of the model that rows are about."""

    def __init__(self, fields: ModelFields, using: str) -> None:
        self._using = using
        self.fields, self.members = fields.columns, fields.members
        names = {field.name for field in fields.model._meta.get_fields()} if fields.model else set()
        self.others = names - {*self.fields, *self.members}
        self._tracked = _tracked(fields.model)
        self._keys: dict[str, dict[str, Any]] = {}

    def left_out(self) -> Iterable[str]:
        """Return the names of the fields that a creation without them says to be "None"."""
        for name, field in self.fields.items():
            if self._tracked is None:
                if field.null:
                    yield name
            elif name in self._tracked:
                yield name

    def key_of(self, name: str, text: str) -> Any:
        """Return the key of the only related object with that text today, None if there is no such one."""
        if name not in self._keys:
            self._keys[name] = self._keys_of(self.members[name])
        return self._keys[name].get(text)

    def _keys_of(self, field: Any) -> dict[str, Any]:
        rows: models.QuerySet[Any] = models.QuerySet(field.related_model, using=self._using)
        found: dict[str, Any] = {}
        doubles = set()
        for one in rows[:_MOST_RELATED] if rows.count() <= _MOST_RELATED else ():
            text = safe_str(one)
            doubles |= {text} & found.keys()
            found[text] = getattr(one, field.target_field.attname)
        return {text: key for text, key in found.items() if text not in doubles}


def _tracked(model: Any) -> set[str] | None:
    """Return the names of the fields that auditlog follows, None if nobody knows."""
    if model is None or not apps.is_installed("auditlog"):
        return None
    registry: Any = import_module("auditlog.registry").auditlog
    if not registry.contains(model):
        return None
    options = registry.get_model_fields(model)
    names = {field.name for field in model._meta.concrete_fields}
    return (set(options["include_fields"]) or names) - set(options["exclude_fields"])


class _Rows:
    """Reads the rows about one model."""

    def __init__(self, fields: ModelFields, using: str) -> None:
        self._model = _Model(fields, using)

    def entry(self, row: Any) -> Entry:
        """Return what a row says."""
        event_type = _ACTIONS.get(row.action)
        if event_type is None:
            msg = f"its action {row.action} is unknown"
            raise Unusable(msg)
        entry = Entry(
            key=str(row.pk),
            at=moment(row.timestamp),
            event_type=event_type,
            object_id=row.object_pk,
            object_repr=row.object_repr,
            actor=row.actor_id,
            actor_repr=getattr(row, "actor_email", None) or "",
            context={"request": {"ip": str(row.remote_addr)}} if getattr(row, "remote_addr", None) else {},
            correlation_id=getattr(row, "cid", None) or "",
            data=_additional(row),
        )
        if event_type in _ROW_ACTIONS:
            self._read(entry, _changes(row))
        return entry

    def _read(self, entry: Entry, changes: Mapping[str, object]) -> None:
        pairs = {name: pair for name, pair in changes.items() if isinstance(pair, list) and len(pair) == _PAIR}
        is_text = all(isinstance(value, str) for pair in pairs.values() for value in pair)
        found = {}
        for name in [name for name in pairs if name not in self._model.others]:
            try:
                found[name] = self._pair(name, pairs[name], entry.event_type, is_text=is_text)
            except NoValue:
                entry.unclear[name] = pairs[name]
        if entry.event_type != EventType.UPDATE:
            for name in [name for name in self._model.left_out() if name not in pairs]:
                value = _left_out(self._model.fields[name])
                found[name] = (None, value) if entry.event_type == EventType.CREATE else (value, None)
        entry.changes = found
        for name, change in changes.items():
            if isinstance(change, dict) and change.get("type") == "m2m":
                self._read_members(entry, name, change)

    def _pair(self, name: str, pair: list[Any], event_type: str, *, is_text: bool) -> tuple[Any, Any]:
        if name in self._model.members:
            raise NoValue  # no version writes these as pairs
        field = self._model.fields.get(name)
        if field is None:
            return (pair[0], pair[1])
        if isinstance(field, models.BinaryField):
            raise NoValue  # what bytes were decoded to does not lead back to them
        convert: Any = from_text if is_text else typed
        # One side is "no row", whatever the field allows.
        old = None if event_type == EventType.CREATE else convert(field, pair[0])
        new = None if event_type == EventType.DELETE else convert(field, pair[1])
        return old, new

    def _read_members(self, entry: Entry, name: str, change: Mapping[str, Any]) -> None:
        texts = [str(text) for text in change.get("objects") or []]
        if name not in self._model.members:
            return
        found = [self._model.key_of(name, text) for text in texts]
        unknown = [text for text, key in zip(texts, found, strict=True) if key is None]
        keys = [key for key in found if key is not None]
        is_added = change.get("operation") == "add"
        entry.m2m = {**entry.m2m, name: (keys, []) if is_added else ([], keys)}
        if unknown:
            entry.unclear[name] = {"added" if is_added else "removed": unknown}


def _left_out(field: Any) -> Any:
    """Return the value of a field that is left out because its text is "None"."""
    return None if field.null else _NULL if isinstance(field, (models.CharField, models.TextField)) else None


def _additional(row: object) -> dict[str, Any]:
    found = document(getattr(row, "additional_data", None), "additional data")
    return found if isinstance(found, dict) else {"additional_data": found} if found else {}


def _changes(row: Any) -> Mapping[str, Any]:
    found = document(row.changes, "changes")
    if found is None:
        found = document(getattr(row, "changes_text", None), "changes")
    if isinstance(found, str):
        found = document(found, "changes")
    if not isinstance(found or {}, dict):
        msg = "its changes aren't a JSON object"
        raise Unusable(msg)
    return found or {}


def _table() -> str:
    """Return the name of the table; a project may have a model of its own for it."""
    label = getattr(settings, "AUDITLOG_LOGENTRY_MODEL", "")
    try:
        return str(apps.get_model(label)._meta.db_table)
    except (LookupError, ValueError, AttributeError):
        return "auditlog_logentry"


class Source(ImportSource):
    """Reads the log entries, of whatever version."""

    name = "auditlog"

    def histories(self) -> Iterable[History]:
        """Return the history of each model."""
        rows = table_rows(
            _table(),
            self.using,
            id=models.BigIntegerField(primary_key=True),
            content_type_id=models.IntegerField(),
            object_pk=models.CharField(max_length=255),
            object_repr=models.TextField(),
            action=models.IntegerField(),
            changes=models.TextField(null=True),
            changes_text=models.TextField(null=True),
            timestamp=models.DateTimeField(),
            actor_id=models.CharField(max_length=255, null=True),
            actor_email=models.CharField(max_length=255, null=True),
            remote_addr=models.CharField(max_length=50, null=True),
            additional_data=models.TextField(null=True),
            cid=models.CharField(max_length=255, null=True),
        )
        return histories_by_content_type(rows, self, lambda label: _Rows(self.fields(label), self.using).entry)
