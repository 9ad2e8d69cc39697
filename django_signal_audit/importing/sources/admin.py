"""Django's own admin log: who added, changed or deleted what in the admin, without values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.db import models

from django_signal_audit.importing.base import Entry, History, ImportSource, Unusable
from django_signal_audit.importing.tables import histories_by_content_type, moment, table_rows

_TYPES = {1: "admin_add", 2: "admin_change", 3: "admin_delete"}


class Source(ImportSource):
    """Reads the log entries of the admin."""

    name = "admin"

    def histories(self) -> Iterable[History]:
        """Return the history of each model."""
        rows = table_rows(
            "django_admin_log",
            self.using,
            id=models.IntegerField(primary_key=True),
            action_time=models.DateTimeField(),
            user_id=models.CharField(max_length=255),
            content_type_id=models.IntegerField(null=True),
            object_id=models.TextField(null=True),
            object_repr=models.CharField(max_length=200),
            action_flag=models.IntegerField(),
            change_message=models.TextField(),
        )
        return histories_by_content_type(
            rows, self, lambda _label: _entry, key="object_id", order=("id",), has_values=False
        )


def _entry(row: Any) -> Entry:
    if row.action_flag not in _TYPES:
        msg = f"its action {row.action_flag} is unknown"
        raise Unusable(msg)
    return Entry(
        key=str(row.pk),
        at=moment(row.action_time),
        event_type=_TYPES[row.action_flag],
        object_id=row.object_id or "",
        object_repr=row.object_repr,
        actor=row.user_id,
        data=_message(row.change_message),
    )


def _message(text: str) -> dict[str, Any]:
    """Return what was changed: a text, or JSON that names fields by their labels."""
    found: Any = text
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
    return {"message": found} if found else {}
