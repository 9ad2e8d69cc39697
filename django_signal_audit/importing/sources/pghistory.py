"""django-pghistory: tables of typed rows that triggers write, also for bulk writes and SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import apps
from django.db import models

from django_signal_audit.enums import EventType
from django_signal_audit.importing.base import CannotImport, Entry, History, ImportSource, Summary, Unusable
from django_signal_audit.importing.tables import TableHistory, columns_of, document, moment, table_rows, texts_of_rows

_TYPES = {"Insert": EventType.CREATE.value, "Update": EventType.UPDATE.value, "Delete": EventType.DELETE.value}


class Source(ImportSource):
    """Reads the tables of all event models."""

    name = "pghistory"

    def histories(self) -> Iterable[History]:
        """Return the history of each tracked model."""
        found: list[Any] = [model for model in apps.get_models() if _is_event_model(model)]
        if not found:
            msg = "No model is tracked by django-pghistory. Import while its models are still in the project."
            raise CannotImport(msg)
        contexts = None
        if columns_of("pghistory_context", self.using):
            contexts = table_rows(
                "pghistory_context",
                self.using,
                id=models.UUIDField(primary_key=True),
                metadata=models.TextField(),
            )
        return [_Events(model, contexts, self.using) for model in found if columns_of(model._meta.db_table, self.using)]


def _is_event_model(model: Any) -> bool:
    return (
        isinstance(getattr(model, "pgh_tracked_model", None), type)
        and not model._meta.proxy
        and any(field.name == "pgh_id" for field in model._meta.concrete_fields)
    )


class _Events(TableHistory):
    """The events about one tracked model."""

    def __init__(self, events: Any, contexts: Any, using: str) -> None:
        model = events.pgh_tracked_model._meta.concrete_model
        own = {field.name: field for field in events._meta.concrete_fields}
        key = [own[field.name].attname for field in model._meta.pk_fields if field.name in own]
        if len(key) < len(model._meta.pk_fields):
            key = ["pgh_obj_id"]
        rows: models.QuerySet[Any] = models.QuerySet(events, using=using)
        super().__init__(model._meta.label_lower, rows, key=key, order=["pgh_id"], entry=self._entry)
        self._model, self._using = model, using
        self._texts: dict[Any, str] = {}
        self._is_through = bool(model._meta.auto_created)
        self._fields = [
            field for name, field in own.items() if name in {one.name for one in model._meta.concrete_fields}
        ]
        self._operations = {one.label: _operation(one) for one in events.pgh_trackers or ()}
        self._contexts = contexts
        self._metadata: dict[Any, Any] = {}

    def prepare(self, rows: Sequence[Any]) -> None:
        """Fetch the contexts, and what the objects were called."""
        attnames = [field.attname for field in self._fields]
        self._texts = {} if self._is_through else texts_of_rows(self._model, self._using, attnames, rows)
        keys = {key for row in rows if (key := getattr(row, "pgh_context_id", None)) is not None}
        if self._contexts is not None:
            self._metadata = {key: context.metadata for key, context in self._contexts.in_bulk(list(keys)).items()}

    def slices(self, summary: Summary) -> Iterator[tuple[int, Sequence[Entry]]]:
        """Yield some rows at a time; one with the values before an update gets those that the next one begins with."""
        held: Entry | None = None
        for count, entries in super().slices(summary):
            told = []
            for entry in entries:
                if held is not None:
                    if held.object_id == entry.object_id and entry.event_type in (EventType.UPDATE, EventType.DELETE):
                        told.append(_with(held, entry.snapshot))
                    held = None
                if entry.event_type == EventType.UPDATE and entry.data.get("row") == "OLD":
                    held = entry
                else:
                    told.append(entry)
            yield count, told

    def _entry(self, row: Any) -> Entry:
        if self._is_through:
            msg = "it is about an automatic through model"
            raise Unusable(msg)
        operation, which = self._operations.get(row.pgh_label, ("", ""))
        key = tuple(getattr(row, name) for name in self._key)
        metadata = self._context(row)
        context = {"request": {"path": metadata["url"]}} if metadata.get("url") else {}
        extra = {name: value for name, value in metadata.items() if name not in ("user", "url")}
        return Entry(
            key=str(row.pgh_id),
            at=moment(row.pgh_created_at),
            # What somebody has recorded by hand says nothing about a write.
            event_type=operation or row.pgh_label,
            object_id=key if len(key) > 1 else key[0],
            object_repr=self._texts.get(row.pgh_id, ""),
            snapshot={field.name: getattr(row, field.attname) for field in self._fields},
            actor=metadata.get("user"),
            context={**context, **({"extra": extra} if extra else {})},
            correlation_id=str(getattr(row, "pgh_context_id", None) or ""),
            data={"row": "OLD"} if which == "OLD" and operation == EventType.UPDATE else {},
        )

    def _context(self, row: Any) -> dict[str, Any]:
        found = self._metadata.get(getattr(row, "pgh_context_id", None))
        if found is None and "pgh_context" in row.__dict__:
            found = row.pgh_context
        found = document(found, "context")
        return found if isinstance(found, dict) else {}


def _operation(tracker: object) -> tuple[str, str]:
    """Return the type of the events with a tracker's label, and whether they have the old or the new row."""
    return _TYPES.get(str(getattr(tracker, "operation", None) or "").title(), ""), str(getattr(tracker, "row", ""))


def _with(entry: Entry, snapshot: Any) -> Entry:
    entry.snapshot, entry.data = snapshot, {}
    return entry
