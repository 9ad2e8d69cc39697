"""django-easy-audit: objects as JSON after each save, logins and requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models

from django_signal_audit.enums import EventType
from django_signal_audit.importing.base import Entry, History, ImportSource, ModelFields, Unusable
from django_signal_audit.importing.tables import (
    Rows,
    TableHistory,
    columns_of,
    document,
    histories_by_content_type,
    moment,
    serialized,
    table_rows,
)
from django_signal_audit.importing.values import NoValue, fill, from_text

_TYPES = {1: EventType.CREATE.value, 2: EventType.UPDATE.value, 3: EventType.DELETE.value}
_MEMBERS = (4, 6, 8, 10)
_REVERSE = (5, 7, 9, 11)
_LOGINS = {0: EventType.LOGIN.value, 1: EventType.LOGOUT.value}
_FAILED = 2
_PAIR = 2


class Source(ImportSource):
    """Reads the events of models, logins and requests."""

    name = "easyaudit"

    def histories(self) -> Iterable[History]:
        """Return the history of each model, and those of logins and requests."""
        rows = table_rows(
            "easyaudit_crudevent",
            self.using,
            id=models.IntegerField(primary_key=True),
            event_type=models.IntegerField(),
            object_id=models.CharField(max_length=255),
            content_type_id=models.IntegerField(),
            object_repr=models.TextField(null=True),
            object_json_repr=models.TextField(null=True),
            changed_fields=models.TextField(null=True),
            user_id=models.CharField(max_length=255, null=True),
            user_pk_as_string=models.CharField(max_length=255, null=True),
            datetime=models.DateTimeField(),
        )

        def reader(label: str) -> Callable[[Any], Entry]:
            fields = self.fields(label)
            return lambda row: _entry(row, fields)

        found = histories_by_content_type(rows, self, reader, key="object_id", order=("id",))
        return [*found, *self._logins(), *self._requests()]

    def _logins(self) -> Iterable[History]:
        rows = self._others("easyaudit_loginevent", login_type=models.IntegerField(), username=_text(), user_id=_text())
        label = get_user_model()._meta.label_lower
        of_users = models.Q(login_type__in=list(_LOGINS))
        # A failed login is about nobody.
        for name, which in ((label, of_users), ("", ~of_users)):
            if rows is not None:
                yield TableHistory(name, rows.filter(which), key=["id"], order=["id"], entry=_login, has_values=False)

    def _requests(self) -> Iterable[History]:
        rows = self._others("easyaudit_requestevent", url=_text(), method=_text(), user_id=_text())
        if rows is not None:
            yield TableHistory("", rows, key=["id"], order=["id"], entry=_request, has_values=False)

    def _others(self, table: str, **fields: Any) -> Rows | None:
        if not columns_of(table, self.using):
            return None
        common = {"id": models.IntegerField(primary_key=True), "remote_ip": _text(), "datetime": models.DateTimeField()}
        return table_rows(table, self.using, **common, **fields)


def _text() -> Any:
    return models.CharField(max_length=255, null=True)


def _entry(row: Any, fields: ModelFields) -> Entry:
    if row.event_type in _REVERSE:
        msg = "it is about the other side of a many-to-many field"
        raise Unusable(msg)
    if row.event_type not in _TYPES and row.event_type not in _MEMBERS:
        msg = f"its type {row.event_type} is unknown"
        raise Unusable(msg)
    entry = Entry(
        key=str(row.pk),
        at=moment(row.datetime),
        event_type=_TYPES.get(row.event_type, EventType.UPDATE.value),
        object_id=row.object_id,
        object_repr=row.object_repr or "",
        actor=row.user_pk_as_string or row.user_id,
    )
    fill(entry, serialized(row.object_json_repr), fields)
    if entry.event_type == EventType.DELETE:
        entry.members = {}
    elif row.event_type not in _MEMBERS:
        entry.snapshot = {**_inherited(row, fields), **(entry.snapshot or {})}
    return entry


def _inherited(row: Any, fields: ModelFields) -> Mapping[str, Any]:
    """Return the new values of a multi-table child's inherited fields, which its JSON lacks, as far as they changed."""
    changed = document(row.changed_fields, "changed fields")
    found = {}
    for name, pair in changed.items() if isinstance(changed, dict) else ():
        if isinstance(pair, list) and len(pair) == _PAIR and name in fields.columns:
            with suppress(NoValue):
                found[name] = from_text(fields.columns[name], str(pair[1]))
    return found


def _login(row: Any) -> Entry:
    failed = row.login_type == _FAILED
    if not failed and row.login_type not in _LOGINS:
        msg = f"its type {row.login_type} is unknown"
        raise Unusable(msg)
    return Entry(
        key=str(row.pk),
        at=moment(row.datetime),
        event_type=_LOGINS.get(row.login_type, EventType.LOGIN_FAILED.value),
        object_id="" if failed else row.user_id,
        object_repr="" if failed else row.username or "",
        actor=None if failed else row.user_id,
        context=_client(row),
        data={"credentials": {"username": row.username}} if failed else {},
    )


def _request(row: Any) -> Entry:
    # The query string stays out: it may carry secrets.
    request = {"method": row.method, "path": row.url}
    return Entry(
        key=str(row.pk),
        at=moment(row.datetime),
        event_type=EventType.REQUEST.value,
        object_id="",
        actor=row.user_id,
        context={"request": {**request, **_client(row).get("request", {})}},
        data=request,
    )


def _client(row: Any) -> dict[str, Any]:
    return {"request": {"ip": row.remote_ip}} if row.remote_ip else {}
