"""Whose a row is: its tenant after a write, or before its deletion, by the mapping in the setting TENANT."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django_signal_audit.enums import EventType
from django_signal_audit.events.changes import Change
from django_signal_audit.events.keys import object_id, row_name
from django_signal_audit.events.project_code import own_queries
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.tenants import PATH
from django_signal_audit.rules.patterns import Model, concrete
from django_signal_audit.rules.tenants import TenantPath, mapping, tenant_path

from .images import chunks

logger = logging.getLogger("django_signal_audit")

_NOT_KNOWN = object()


def tenants_of(changes: Sequence[Change], using: str) -> list[str | None] | None:
    """Return the tenant of each change's row, ``""`` for none.

    None in place of a tenant: the change is about no row. None in place of the list: rows don't name their tenants.
    """
    if not mapping():
        return None
    found: list[str | None] = [None if change.model is None or change.pk is None else "" for change in changes]
    places: dict[Model, list[int]] = {}
    for at, change in enumerate(changes):
        if found[at] is not None and change.model is not None:
            places.setdefault(concrete(change.model), []).append(at)
    for model, some in places.items():
        path = tenant_path(model)
        if path is not None:
            for at, tenant in zip(some, _of_rows(model, path, [changes[at] for at in some], using), strict=True):
                found[at] = tenant
    return found


def tenants_by_key(model: Model, pks: Iterable[object], using: str) -> dict[object, str]:
    """Return the tenants of rows as they are in the table, by primary key; none of a model without tenants."""
    path = tenant_path(model)
    found = {} if path is None else _values(model, "pk", path.lookup, pks, using)
    return {pk: object_id(value) for pk, value in found.items()}


def _of_rows(model: Model, path: TenantPath, changes: Sequence[Change], using: str) -> list[str]:
    known = [_known(path, change) for change in changes]
    if not path.rest and all(value is not _NOT_KNOWN for value in known):
        return list(map(object_id, known))
    try:
        with own_queries(using):
            return list(_looked_up(model, path, list(zip(changes, known, strict=True)), using))
    except Exception:
        # Columns of other models may be behind the code. The change is recorded all the same.
        logger.exception("%s: the tenant of %s can't be read, so its event has none.", PATH, model._meta.label)
        return [""] * len(changes)


def _known(path: TenantPath, change: Change) -> object:
    """Return what the change itself knows of the column: what was left, or what went with the row."""
    name, is_gone = path.column.name, change.event_type == EventType.DELETE
    if name in change.fields:
        return change.fields[name].old if is_gone else change.fields[name].new
    if path.column.primary_key:
        return change.pk
    return change.row.get(name, _NOT_KNOWN)


def _looked_up(model: Model, path: TenantPath, changes: Sequence[tuple[Change, Any]], using: str) -> Iterator[str]:
    """Yield the tenants of rows; some of their columns have yet to be read."""
    rows = _values(model, "pk", path.lookup, (one.pk for one, known in changes if known is _NOT_KNOWN), using)
    ends: dict[Any, Any] = {}
    if path.rest:
        related: Any = path.column.related_model
        target = path.column.target_field.attname  # type: ignore[attr-defined]  # a path goes on from foreign keys only
        ends = _values(related, target, path.rest, (known for _, known in changes if known is not _NOT_KNOWN), using)
    for change, known in changes:
        if known is _NOT_KNOWN:
            value = rows.get(change.pk, _NOT_KNOWN)
        else:
            value = ends.get(known, _NOT_KNOWN if known is not None else None) if path.rest else known
        # The row, or one that it leads to, is gone: it belongs to whom it belonged to last.
        yield _last_recorded(model, change.pk, using) if value is _NOT_KNOWN else object_id(value)


def _values(model: Model, key: str, lookup: str, keys: Iterable[object], using: str) -> dict[object, object]:
    found: dict[Any, Any] = {}
    for chunk in chunks(dict.fromkeys(one for one in keys if one is not None)):
        rows = model._base_manager.using(using).filter(**{f"{key}__in": chunk}).order_by()
        found.update(rows.values_list(key, lookup))
    return found


def _last_recorded(model: Model, pk: object, using: str) -> str:
    name = row_name(model, pk)
    events = AuditEvent.of_all_tenants.using(using).filter(model=model._meta.label_lower, object_id=name)
    # Some databases find "a" where "A" was asked for.
    found = events.order_by("-id").values_list("object_id", "tenant")[:10]
    return next((tenant for one, tenant in found if one == name), "")
