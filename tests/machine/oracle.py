"""What the trail has to say, worked out from the tables alone: no code of the package's replay or capture is used."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import models

from django_signal_audit.events.values import mask
from django_signal_audit.models import AuditEvent

Identity = tuple[str, str]
State = dict[str, Any]

# A tag tells nothing of its value, so the oracle has to make the same one.
MASKED = {"api_token"}


def ruled() -> list[type[models.Model]]:
    """Return the concrete models of the test app that its catch-all rule names."""
    found = [model for model in apps.get_app_config("app").get_models() if not model._meta.proxy]
    return [model for model in found if model.__name__ != "Unaudited"]


def jsonable(field: Any, value: Any, pk: Any) -> Any:
    """Return what an event says of a value."""
    if value is None:
        return None
    if field.name in MASKED:
        return mask((field.model._meta.label_lower, identity(pk), field.name), value)
    if isinstance(field, models.JSONField):
        reserved = isinstance(value, dict) and {"$masked", "$digest", "$value"} & set(value)
        return {"$value": value} if reserved else value
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    if isinstance(value, (bytes, memoryview)):
        return {"$digest": f"sha256:{hashlib.sha256(bytes(value)).hexdigest()}", "length": len(value)}
    return plain(value)


def plain(value: Any) -> Any:
    """Return a key, or any other simple value, as an event has it."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dt.date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def identity(pk: Any) -> str:
    """Return an object's name in the trail."""
    if isinstance(pk, tuple):
        return json.dumps([plain(part) for part in pk])
    text = str(pk)
    return text if len(text) <= 255 else f"{text[:180]}…{hashlib.sha256(text.encode()).hexdigest()}"


def recorded_fields(model: type[models.Model]) -> list[Any]:
    """Return the fields an event of the model names: all but a key of one column, and links to parents."""
    links = {link for link in model._meta.parents.values() if link}
    keys = set(model._meta.pk_fields) if len(model._meta.pk_fields) == 1 else set()
    for parent in model._meta.get_parent_list():
        keys.add(parent._meta.pk)
        links |= {link for link in parent._meta.parents.values() if link}
    return [field for field in model._meta.concrete_fields if field not in links | keys and field.column]


def tables() -> dict[Identity, State]:
    """Return what the tables hold, by the object each row is part of."""
    every = {model: list(models.QuerySet(model).values()) for model in ruled()}
    found: dict[Identity, State] = {}
    for model, rows in every.items():
        extended = _extended(model, every) if rows else set()
        for row in rows:
            pk = tuple(row[field.attname] for field in model._meta.pk_fields)
            if pk[0] in extended:
                continue
            key = pk if len(pk) > 1 else pk[0]
            state = {field.name: jsonable(field, row[field.attname], key) for field in recorded_fields(model)}
            found[model._meta.label_lower, identity(pk if len(pk) > 1 else pk[0])] = state | members(model, row)
    return found


def _extended(model: type[models.Model], every: dict[type[models.Model], list[Any]]) -> set[Any]:
    """Return the keys of the rows that children's rows extend."""
    heirs = [other for other in every if other is not model and issubclass(other, model)]
    return {row[model._meta.pk.attname] for heir in heirs for row in every[heir]}


def members(model: type[models.Model], row: Any) -> State:
    """Return the keys of a row's members, for the m2m fields that have any."""
    found = {}
    for field in model._meta.many_to_many:
        through = field.remote_field.through
        if not through._meta.auto_created:
            continue
        own, other = (through._meta.get_field(name()) for name in (field.m2m_field_name, field.m2m_reverse_field_name))
        pairs = models.QuerySet(through).filter(**{own.attname: row[own.target_field.attname]})
        keys = sorted(plain(key) for key in pairs.values_list(other.attname, flat=True))
        if keys:
            found[field.name] = keys
    return found


class Life:
    """One object's events, checked one by one as they are added."""

    def __init__(self, name: Identity) -> None:
        self.name = name
        self.state: State | None = None

    def add(self, event_type: str, changes: dict[str, Any]) -> None:
        """Check that the event goes on from what was recorded before."""
        told = (self.name, event_type, changes, self.state)
        if event_type in ("create", "baseline"):
            assert self.state is None, ("created twice", *told)
            self.state = {name: first_value(change, told) for name, change in changes.items()}
        elif event_type == "extended":
            assert self.state is not None, ("extended before it was there", *told)
            assert changes == {}, ("extended with changes", *told)
            self.state = None
        elif event_type == "delete":
            assert self.state is not None, ("deleted before it was there", *told)
            gone = {name: old["removed"] if isinstance(old, dict) else old[0] for name, old in changes.items()}
            assert same(gone, without_empty(self.state)), ("deleted as something else", gone, *told)
            self.state = None
        else:
            assert self.state is not None, ("changed while it was not there", *told)
            for name, change in changes.items():
                self._change(name, change, told)

    def _change(self, name: str, change: Any, told: Any) -> None:
        assert self.state is not None
        if isinstance(change, dict):
            before = set(self.state.get(name, ()))
            added, removed = set(change["added"]), set(change["removed"])
            assert added or removed, ("an empty event", *told)
            assert not added & before, ("added again", *told)
            assert removed <= before, ("removed though not there", *told)
            self.state[name] = sorted(before - removed | added)
            return
        assert name in self.state, ("changed though never told of", *told)
        assert same(change[0], self.state[name]), ("the old value is not the one recorded", name, *told)
        assert not same(*change), ("changed into the same", name, *told)
        self.state[name] = change[1]


def first_value(change: Any, told: Any) -> Any:
    """Return what an event that begins a life says of a field: a parent's row brings its members along."""
    if isinstance(change, dict):
        assert not change["removed"], ("created with members removed", *told)
        return change["added"]
    assert change[0] is None, ("created from something", *told)
    return change[1]


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same, 1 and true told apart."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def without_empty(state: State) -> State:
    """Return the state without the m2m fields that have no members, which no event has to name."""
    return {name: value for name, value in state.items() if not (value == [] and name not in DOCUMENTS)}


DOCUMENTS = {"attributes"}


def trail() -> dict[Identity, State]:
    """Return what the events say there is, after checking that each object's form an unbroken chain."""
    lives: dict[Identity, Life] = {}
    rows = AuditEvent.objects.order_by("id").values_list("model", "object_id", "event_type", "changes")
    parents = {model._meta.label_lower: list(_extends(model)) for model in ruled()}
    for label, object_id, event_type, changes in rows:
        lives.setdefault((label, object_id), Life((label, object_id))).add(event_type, changes)
        if event_type == "create":
            # A parent's row that the new one extends lives on as a part of it.
            for parent in parents[label]:
                lives.pop((parent, object_id), None)
    return {name: without_empty(life.state) for name, life in lives.items() if life.state is not None}


def _extends(model: type[models.Model]) -> Iterator[str]:
    """Return the labels of the parents whose rows have the key of the model's rows that extend them."""
    while getattr(model._meta.pk.remote_field, "parent_link", False):
        model = model._meta.pk.remote_field.model
        yield model._meta.label_lower


def check() -> None:
    """Fail unless folding the events gives the tables."""
    held, told = tables(), trail()
    missing = {name: state for name, state in held.items() if name not in told}
    assert not missing, ("rows no event tells of", missing)
    surplus = {name: state for name, state in told.items() if name not in held}
    assert not surplus, ("the trail tells of rows that are not there", surplus)
    wrong = {name: (told[name], state) for name, state in held.items() if not same(told[name], state)}
    assert not wrong, ("recorded and actual", wrong)


def check_typed() -> None:
    """Fail unless ``state_of`` gives the rows, as Python values; a child's events tell of its parent's row too."""
    for model in ruled():
        for row in models.QuerySet(model).values():
            pk = tuple(row[field.attname] for field in model._meta.pk_fields)
            state = AuditEvent.objects.state_of(model, pk if len(pk) > 1 else pk[0])
            assert state is not None, (model, row)
            for field in recorded_fields(model):
                if field.name not in MASKED and not isinstance(field, models.BinaryField):
                    assert state[field.name] == row[field.attname], (model, pk, field.name, state, row)
