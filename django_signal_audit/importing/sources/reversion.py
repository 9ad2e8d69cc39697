"""django-reversion: what objects held at each revision, as serialized objects; deletions are never recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from django.apps import apps
from django.core import serializers
from django.db import models

from django_signal_audit.enums import EventType
from django_signal_audit.importing.base import Entry, History, ImportSource, Unusable
from django_signal_audit.importing.tables import TableHistory, content_types, fetched, moment, serialized, table_rows
from django_signal_audit.importing.values import NoValue, fill
from django_signal_audit.models.inheritance import shares_key


class Source(ImportSource):
    """Reads versions with their revisions."""

    name = "reversion"

    def histories(self) -> Iterable[History]:
        """Return the history of each model."""
        versions = table_rows(
            "reversion_version",
            self.using,
            id=models.IntegerField(primary_key=True),
            revision_id=models.IntegerField(),
            object_id=models.CharField(max_length=191),
            content_type_id=models.IntegerField(),
            db=models.CharField(max_length=191),
            format=models.CharField(max_length=255),
            serialized_data=models.TextField(),
            object_repr=models.TextField(),
        ).filter(db=self.using)
        revisions = table_rows(
            "reversion_revision",
            self.using,
            id=models.IntegerField(primary_key=True),
            date_created=models.DateTimeField(),
            user_id=models.CharField(max_length=255, null=True),
            comment=models.TextField(),
        )
        labels = content_types(self.using)
        keys = versions.order_by().values_list("content_type_id", flat=True).distinct()
        return [_Versions(labels.get(key, ""), key, versions, revisions, labels, self) for key in keys]


class _Versions(TableHistory):
    """The versions of one model's objects."""

    def __init__(
        self,
        label: str,
        content_type: int,
        versions: Any,
        revisions: Any,
        labels: Mapping[int, str],
        source: ImportSource,
    ) -> None:
        rows = versions.filter(content_type_id=content_type)
        super().__init__(label, rows, key=["object_id"], order=["id"], entry=self._entry)
        self._versions, self._revisions = versions, revisions
        self._fields = source.fields(label)
        self._content_type = content_type
        model = self._fields.model
        related = {
            key: found for key, name in labels.items() if (found := source.fields(name).model) and found != model
        }
        self._parents = [key for key, other in related.items() if model and _extends(model, other)]
        self._children = [key for key, other in related.items() if model and _extends(other, model)]
        self._revised: dict[int, Any] = {}
        self._of_parents: dict[tuple[int, str], list[Any]] = {}
        self._with_child: set[tuple[int, str]] = set()
        self._by_natural_key = lru_cache(10_000)(_by_natural_key)

    def prepare(self, rows: Sequence[Any]) -> None:
        """Fetch the revisions, and what the same revisions say of the other tables of a multi-table object."""
        ids = {row.revision_id for row in rows}
        self._revised = fetched(self._revisions, list(ids))
        same = self._versions.filter(revision_id__in=ids, object_id__in={row.object_id for row in rows})
        self._of_parents = {}
        for row in same.filter(content_type_id__in=self._parents) if self._parents else ():
            self._of_parents.setdefault((row.revision_id, row.object_id), []).append(row)
        children = same.filter(content_type_id__in=self._children) if self._children else None
        self._with_child = set(children.values_list("revision_id", "object_id")) if children is not None else set()

    def _entry(self, row: Any) -> Entry | None:
        if not self.label:
            msg = f"its content type {self._content_type} is gone"
            raise Unusable(msg)
        here = (row.revision_id, row.object_id)
        if here in self._with_child:
            return None  # the child's version has it
        revision = self._revised.get(row.revision_id)
        if revision is None:
            msg = "its revision is gone, or can't be read"
            raise Unusable(msg)
        entry = Entry(
            key=str(row.pk),
            at=moment(revision.date_created),
            event_type=EventType.UPDATE.value,
            object_id=row.object_id,
            object_repr=row.object_repr,
            actor=revision.user_id,
            context={"reason": comment} if (comment := _comment(revision.comment)) else {},
            correlation_id=f"reversion {row.revision_id}",
        )
        values: dict[str, Any] = {}
        for version in (*self._of_parents.get(here, ()), row):
            values |= _values(version)
        fill(entry, values, self._fields, self._by_natural_key)
        return entry


def _by_natural_key(field: Any, value: tuple[Any, ...]) -> Any:
    manager = field.related_model._default_manager
    try:
        found = manager.get_by_natural_key(*value)
    except Exception as error:
        raise NoValue from error
    return getattr(found, field.target_field.attname)


def _values(version: Any) -> dict[str, Any]:
    """Return what a version says, in whatever format."""
    if version.format == "json":
        return serialized(version.serialized_data)
    try:
        (found,) = serializers.deserialize(version.format, version.serialized_data, ignorenonexistent=True)
    except Exception as error:
        msg = f"its data can't be read ({version.format})"
        raise Unusable(msg) from error
    columns = {field.name: getattr(found.object, field.attname) for field in found.object._meta.local_concrete_fields}
    return {**columns, **{name: list(keys) for name, keys in (found.m2m_data or {}).items()}}


def _comment(text: str) -> str:
    """Return a comment as people read it: those of the admin are JSON."""
    if text.startswith("[") and apps.is_installed("django.contrib.admin"):
        from django.contrib.admin.models import LogEntry

        return str(LogEntry(change_message=text).get_change_message())
    return text


def _extends(child: Any, parent: Any) -> bool:
    return child is not parent and issubclass(child, parent) and shares_key(child, parent)
