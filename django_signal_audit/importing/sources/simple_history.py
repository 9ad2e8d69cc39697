"""django-simple-history: a table of typed rows for each model, which says all values after each save."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import apps
from django.db import models

from django_signal_audit.enums import EventType
from django_signal_audit.importing.base import CannotImport, Entry, ImportSource
from django_signal_audit.importing.tables import TableHistory, columns_of, moment, texts_of_rows
from django_signal_audit.rules.patterns import auditable_members

_TYPES = {"+": EventType.CREATE.value, "~": EventType.UPDATE.value, "-": EventType.DELETE.value}


class _HistoricalRows(TableHistory):
    """The rows of one historical model."""

    def __init__(self, historical: Any, using: str) -> None:
        self._model = historical.instance_type
        super().__init__(
            self._model._meta.label_lower,
            models.QuerySet(historical, using=using),
            key=[field.attname for field in self._model._meta.pk_fields],
            order=("history_date", "history_id"),
            entry=self._entry,
        )
        self._using = using
        names = {field.name for field in historical._meta.concrete_fields}
        self._fields = [field for field in self._model._meta.concrete_fields if field.name in names]
        self._members = list(_histories_of_members(historical, self._model))
        self._texts: dict[Any, str] = {}
        self._keys: dict[str, dict[Any, list[Any]]] = {}

    def prepare(self, rows: Sequence[Any]) -> None:
        """Fetch the members at the time of each row, and what the objects were called."""
        keys = [row.history_id for row in rows]
        self._texts = texts_of_rows(self._model, self._using, [field.attname for field in self._fields], rows)
        for field, through in self._members:
            found: dict[Any, list[Any]] = {key: [] for key in keys}
            pairs: models.QuerySet[Any] = (
                models.QuerySet(through, using=self._using).filter(history_id__in=keys).order_by()
            )
            member = through._meta.get_field(field.m2m_reverse_field_name()).attname
            for key, one in pairs.values_list("history_id", member):
                found[key].append(one)
            self._keys[field.name] = found

    def _entry(self, row: Any) -> Entry:
        event_type = _TYPES[row.history_type]
        is_deleted = event_type == EventType.DELETE
        key = tuple(getattr(row, name) for name in self._key)
        return Entry(
            key=str(row.history_id),
            at=moment(row.history_date),
            event_type=event_type,
            object_id=key if len(key) > 1 else key[0],
            object_repr=self._texts[row.history_id],
            snapshot={field.name: getattr(row, field.attname) for field in self._fields},
            # The members were gone already when the deletion was recorded.
            members={} if is_deleted else {name: found[row.history_id] for name, found in self._keys.items()},
            actor=getattr(row, "history_user_id", None),
            context={"reason": row.history_change_reason} if getattr(row, "history_change_reason", None) else {},
        )


def _histories_of_members(historical: object, model: type[models.Model]) -> Iterable[tuple[Any, Any]]:
    """Yield the m2m fields that a historical model follows, with the model of their rows."""
    for name, field in auditable_members(model).items():
        through = field.remote_field.through
        for found in apps.get_models():
            if getattr(found, "instance_type", None) is through and _refers_to(found, historical):
                yield model._meta.get_field(name), found


def _refers_to(model: Any, historical: Any) -> bool:
    return any(field.name == "history" and field.related_model is historical for field in model._meta.concrete_fields)


class Source(ImportSource):
    """Reads the tables of all historical models."""

    name = "simple_history"

    def histories(self) -> Iterable[TableHistory]:
        """Return the history of each model."""
        found = [model for model in apps.get_models() if _is_historical(model)]
        if not found:
            msg = "No model has a history of django-simple-history. Import while its models are still in the project."
            raise CannotImport(msg)
        return [_HistoricalRows(model, self.using) for model in found if columns_of(model._meta.db_table, self.using)]


def _is_historical(model: Any) -> bool:
    names = {field.name for field in model._meta.concrete_fields}
    return isinstance(getattr(model, "instance_type", None), type) and {"history_type", "history_date"} <= names
