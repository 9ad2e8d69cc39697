"""A series of writes that every package can record, more or less."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from typing import Any

from django.core.management import call_command
from django.db.models import F
from reversion import create_revision, is_registered

from django_signal_audit.models import AuditEvent
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .shop.models import Category, Tag

NOON = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)


def write(model: Any) -> dict[str, Any]:
    """Write rows of a model in every way, and return them by what happened to them."""
    # django-reversion records in such blocks alone.
    block: Callable[[], AbstractContextManager[Any]] = create_revision if is_registered(model) else nullcontext

    def save(one: Any, **options: Any) -> None:
        with block():
            one.save(**options)

    tea, coffee = Category.objects.create(name="Tea"), Category.objects.create(name="Coffee")
    red, green = Tag.objects.create(name="red"), Tag.objects.create(name="green")
    full = model(
        name="full",
        note="a note",
        qty=12,
        price=Decimal("1234.5"),
        weight=0.1,
        day=dt.date(2026, 3, 1),
        moment=NOON,
        clock=dt.time(1, 2, 3),
        span=dt.timedelta(days=1, seconds=2),
        meta={"a": [1, "b"], "c": None},
        blob=b"abc",
        file="a.txt",
        password="hunter22",
        category=tea,
    )
    save(full)
    full.qty, full.active, full.price, full.category, full.password = None, False, Decimal("2.25"), coffee, "hunter33"
    full.meta = {"a": [2]}
    save(full)
    with block():
        full.tags.add(red, green)
    with block():
        full.tags.remove(red)
    with block():
        full.tags.set([red])
    full.qty = 5
    full.name = "never written"
    save(full, update_fields=["qty"])
    full.refresh_from_db()
    # django-field-audit refuses expressions.
    full.qty = 6 if model.__name__ == "FieldAudited" else F("qty") + 1
    save(full)
    full.refresh_from_db()
    save(full)  # changes nothing
    model.objects.filter(pk=full.pk).update(note="by a query")
    bulk = model.objects.bulk_create([model(name="bulk")])[0]
    bulk = model.objects.filter(name="bulk").latest("pk")
    bulk.qty = 1
    save(bulk)
    gone = model(name="gone", qty=1)
    save(gone)
    key = gone.pk
    with block():
        gone.tags.add(green)
    gone.delete()
    again = model(pk=key, name="again")
    save(again)
    cleared = model(name="cleared")
    save(cleared)
    with block():
        cleared.tags.add(red)
    with block():
        cleared.tags.clear()
    unseen = model(name="unseen")
    save(unseen)
    model.objects.filter(pk=unseen.pk)._raw_delete("default")
    return {"full": full, "bulk": bulk, "again": again, "cleared": cleared, "unseen": unseen}


def run_import(*arguments: str) -> str:
    """Return what ``audit_import`` prints."""
    out = io.StringIO()
    call_command("audit_import", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def differences(*labels: str) -> list[tuple[str, Any, str, str, Any, Any]]:
    """Return the differences that a replay finds in some models."""
    plans = [plan for plan in get_registry().plans.values() if plan.label in labels]
    assert len(plans) == len(labels)
    found = Replay(plans, "default").differences()
    return [
        (item.model._meta.label_lower, item.pk, item.kind.value, item.field, item.recorded, item.actual)
        for item in found
    ]


def imported(label: str, **filters: Any) -> list[AuditEvent]:
    """Return the imported events of a model in the order of their ids."""
    return list(AuditEvent.objects.filter(model=label, id__lt=0, **filters).order_by("id"))


def of(row: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return type and changes of the events of an object."""
    return [(event.event_type, event.changes) for event in AuditEvent.objects.for_object(row).order_by("id")]
