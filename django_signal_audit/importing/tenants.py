"""The tenants of imported events."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.db import models

from django_signal_audit.enums import LAST_EVENTS
from django_signal_audit.events.keys import object_id, parse_id
from django_signal_audit.models.tenants import current_tenant
from django_signal_audit.rules.tenants import mapping, tenant_path

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
