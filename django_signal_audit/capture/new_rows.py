"""What engines know of an object that is about to be saved: what its row will hold, its text, and its event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connections, models

from django_signal_audit.capture.rows import certainties_of
from django_signal_audit.capture.scope import Fields, SaveScope
from django_signal_audit.capture.stored_values import NOT_KNOWN
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange
from django_signal_audit.events.documents import JSONValue, decode_tag, stand_ins
from django_signal_audit.events.insert import EventRow
from django_signal_audit.events.payloads import text_of
from django_signal_audit.recorder import described
from django_signal_audit.rules.matching import Match
from django_signal_audit.rules.plans import ModelPlan


class _UnknownKey:
    """Stands for the primary key while an object is asked for its text: not None, and used by nobody unnoticed."""

    is_used = False

    def _use(self, *_: object) -> Any:
        self.is_used = True
        msg = "the primary key is not known yet"
        raise AttributeError(msg)

    __str__ = __repr__ = __format__ = __bool__ = __int__ = __index__ = __float__ = __len__ = __iter__ = _use
    __hash__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __getattr__ = _use
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _use


@contextmanager
def as_saved(instance: models.Model, using: str) -> Iterator[None]:
    """Give an instance what Django sets after the save: texts of the project may ask for it."""
    state = instance._state
    before = state.adding, state.db
    state.adding, state.db = False, using
    try:
        yield
    finally:
        state.adding, state.db = before


def stored_values_of(instance: models.Model, plan: ModelPlan, fields: Fields, using: str) -> dict[str, object] | None:
    """Return what the columns hold for the values of an object, None if only the database can tell."""
    certainties, held = certainties_of(plan, type(instance), using), instance.__dict__
    vendor = connections[using].vendor
    found = {}
    for name, field in fields.items():
        value, (plain, rule) = held.get(field.attname, NOT_KNOWN), certainties[name]
        if rule is None:
            return None
        found[name] = value if value is None or value is NOT_KNOWN else rule(plain, value, vendor)
        if found[name] is NOT_KNOWN:
            return None
    return found


def text_of_new(instance: models.Model, plan: ModelPlan, using: str) -> str | None:
    """Return the text of an object that is about to be inserted; None if it may need what is not known yet."""
    held, name = instance.__dict__, plan.model._meta.pk_fields[0].attname
    if any(hasattr(value, "resolve_expression") for value in held.values()):
        return None
    key = held.get(name)
    unknown = held[name] = _UnknownKey() if key is None else key
    try:
        with as_saved(instance, using):
            text = text_of(instance)
    finally:
        held[name] = key
    is_certain = key is not None or not (unknown.is_used or " raised " in text)
    return text if is_certain else None


def described_save(
    save: SaveScope, plan: ModelPlan, event_type: EventType, new: Mapping[str, object], text: str | None
) -> tuple[EventRow, Match] | None:
    """Return the row of the event, as far as Python knows it, and what the rules make of it."""
    change = Change(
        event_type=event_type,
        source=Source.ORM,
        using=save.using,
        model=plan.model,
        pk=getattr(save.instance, plan.model._meta.pk_fields[0].attname),
        instance=save.instance,
        fields={name: FieldChange(None, value) for name, value in new.items()},
    )
    with as_saved(save.instance, save.using):
        return described(change, text)


def is_clear(change: JSONValue) -> bool:
    """Return whether a described change of a new row has no tag in it, whose scope is the row's key."""
    value = change[1] if isinstance(change, list) else None
    return not isinstance(value, (dict, list)) or not any(stand_ins(decode_tag(value)))
