"""Legal holds: objects whose events no prune takes. Events say who holds what and why: holds are evidence too."""

from __future__ import annotations

from django.db import DEFAULT_DB_ALIAS, models

from django_signal_audit.enums import Source
from django_signal_audit.events.changes import Change
from django_signal_audit.events.keys import parse_id, row_id
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.tenants import tenant_of_tables
from django_signal_audit.recorder import record_changes
from django_signal_audit.reports.functions import known_signatures
from django_signal_audit.retention.starting_points import family_of

HELD = "legal_hold"
RELEASED = "legal_hold_released"
# An object by its label and its primary key as events have it.
Held = tuple[str, str]


def hold(model: type[models.Model], pk: object, reason: str, *, using: str = DEFAULT_DB_ALIAS) -> bool:
    """Keep all events of an object until it is released, and return whether they were free before.

    Args:
        model: The model of the object.
        pk: Its primary key; the row may be gone.
        reason: Why, such as the number of the case.
        using: The database.

    Raises:
        EventNotWritten: The event that says so could not be written.

    """
    return _note(HELD, model, pk, reason, using)


def release(model: type[models.Model], pk: object, reason: str, *, using: str = DEFAULT_DB_ALIAS) -> bool:
    """End the hold on an object, and return whether there was one; see ``hold``."""
    return _note(RELEASED, model, pk, reason, using)


def _note(event_type: str, model: type[models.Model], pk: object, reason: str, using: str) -> bool:
    concrete = model._meta.concrete_model or model
    name = row_id(concrete, pk)
    is_held = (concrete._meta.label_lower, name) in held_objects(using)
    if is_held == (event_type == HELD):
        return False
    key = parse_id(concrete, name)
    change = Change(
        event_type=event_type,
        source=Source.MANUAL,
        using=using,
        model=concrete,
        pk=pk if key is None else key,
        instance=None if key is None else models.QuerySet(concrete, using=using).filter(pk=key).first(),
        data={"reason": reason},
    )
    if not record_changes([change], using):
        msg = "The hold could not be recorded, so nothing has changed. See the log for the cause."
        raise EventNotWritten(msg)
    return True


def held_objects(using: str) -> dict[Held, AuditEvent]:
    """Return the objects that are held, multi-table parents and children of theirs too, with the event that says so."""
    numbers = [number for number, one in known_signatures(using).items() if one.event_type in (HELD, RELEASED)]
    events = AuditEvent.of_all_tenants.using(using).filter(signature__in=numbers)
    # A row may be gone, or have moved to another tenant, when it is held. Only where keys meet is that another row.
    tenant = tenant_of_tables()
    if tenant:
        events = events.filter(tenant__in=("", tenant))
    held: dict[Held, AuditEvent] = {}
    for event in events.filter(event_type__in=(HELD, RELEASED)).order_by("id") if numbers else ():
        for label in family_of(event.model):
            held.pop((label, event.object_id), None)
            if event.event_type == HELD:
                held[label, event.object_id] = event
    return held
