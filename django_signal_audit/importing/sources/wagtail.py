"""Wagtail's log entries: what was done to pages, snippets and settings, without values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models

from django_signal_audit.enums import EVENT_TYPE_LENGTH
from django_signal_audit.importing.base import CannotImport, Entry, History, ImportSource
from django_signal_audit.importing.tables import columns_of, document, histories_by_content_type, moment, table_rows

# The tables, and the column that has the object's primary key.
_TABLES = {"wagtailcore_pagelogentry": "page_id", "wagtailcore_modellogentry": "object_id"}


class Source(ImportSource):
    """Reads the log entries of pages and of other models."""

    name = "wagtail"

    def histories(self) -> Iterable[History]:
        """Return the history of each model."""
        tables = [table for table in _TABLES if columns_of(table, self.using)]
        if not tables:
            msg = f'None of the tables {", ".join(_TABLES)} exists in the database "{self.using}".'
            raise CannotImport(msg)
        return [history for table in tables for history in self._of_table(table, _TABLES[table])]

    def _of_table(self, table: str, key: str) -> Iterable[History]:
        rows = table_rows(
            table,
            self.using,
            id=models.IntegerField(primary_key=True),
            content_type_id=models.IntegerField(null=True),
            label=models.TextField(),
            action=models.CharField(max_length=255),
            data=models.TextField(),
            data_json=models.TextField(),
            timestamp=models.DateTimeField(),
            uuid=models.CharField(max_length=36, null=True),
            user_id=models.CharField(max_length=255, null=True),
            revision_id=models.IntegerField(null=True),
            content_changed=models.BooleanField(),
            deleted=models.BooleanField(),
            **{key: models.CharField(max_length=255)},
        )

        def entry(row: Any) -> Entry:
            found = document(getattr(row, "data", None) or getattr(row, "data_json", None), "data")
            details = {"revision": row.revision_id} if getattr(row, "revision_id", None) else {}
            return Entry(
                key=str(row.pk),
                at=moment(row.timestamp),
                event_type=row.action[:EVENT_TYPE_LENGTH],
                object_id=getattr(row, key),
                object_repr=row.label,
                actor=row.user_id,
                correlation_id=str(getattr(row, "uuid", None) or ""),
                data={
                    **(found if isinstance(found, dict) else {"data": found} if found else {}),
                    **details,
                    "content_changed": bool(row.content_changed),
                    "deleted": bool(row.deleted),
                },
            )

        return histories_by_content_type(rows, self, lambda _label: entry, key=key, order=("id",), has_values=False)
