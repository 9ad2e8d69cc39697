"""Values for the fields of the test app's models: few enough to collide, odd enough to be rounded or converted."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import models
from django.db.models import Case, F, Value, When
from django.db.models.functions import Concat, Upper
from hypothesis import strategies as st
from model_utils.fields import AutoCreatedField, AutoLastModifiedField

from tests.app.models import Upside

UUIDS = [UUID(int=number << 96 | 0xABC) for number in range(1, 5)]
TEXT_KEYS = ["a", "A", "b", "ä", "attic", "lost"]
NOON = dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC)

STRATEGIES: dict[type, Any] = {
    models.UUIDField: st.sampled_from([*UUIDS, *(str(key).upper() for key in UUIDS[:2])]),
    models.SlugField: st.sampled_from([None, "s1", "s2", "S1"]),
    models.CharField: st.sampled_from(["", "a", "A", "b", "ß "]),
    Upside: st.sampled_from(["a", "A", "b"]),
    models.IntegerField: st.sampled_from([0, 1, 2, "2"]),
    models.PositiveBigIntegerField: st.sampled_from([0, 1]),
    models.DecimalField: st.sampled_from([Decimal("1.5"), "2.345", 3, 0, 0.1]),
    models.FloatField: st.sampled_from([None, 0.1, 1, -0.0, "2.5", 1e22]),
    models.BooleanField: st.sampled_from([True, False, 1]),
    models.JSONField: st.sampled_from(
        [{}, [], {"a": [1, 2.5, None]}, "x", True, 1, 1.0, {"$masked": "x"}, {"b": 1e22}]
    ),
    models.DateField: st.sampled_from([None, dt.date(2026, 1, 31), "2026-02-01"]),
    models.DateTimeField: st.sampled_from([NOON, "2026-03-29T03:30:00.123456+02:00"]),
    AutoCreatedField: st.just(NOON),
    AutoLastModifiedField: st.just(NOON),
    models.FileField: st.sampled_from(["", "photos/a.txt"]),
    models.BinaryField: st.sampled_from([None, b"", b"\0\xff"]),
}


def rows(model: type[models.Model]) -> Any:
    """Return all rows of a model in a steady order."""
    return models.QuerySet(model).order_by("pk")


def keys(model: type[models.Model]) -> list[Any]:
    """Return the keys there are, in a steady order."""
    return list(rows(model).values_list("pk", flat=True))


@cache
def writable(model: type[models.Model], *, key: bool = False) -> tuple[Any, ...]:
    """Return the fields a write can give a value to; those of a natural key only if asked for."""
    links = {link for parent in (model, *model._meta.get_parent_list()) for link in parent._meta.parents.values()}
    fields = [
        field
        for field in model._meta.concrete_fields
        if field not in links
        and not isinstance(field, (models.AutoField, models.GeneratedField, models.CompositePrimaryKey))
    ]
    return tuple(field for field in fields if key or field not in model._meta.pk_fields)


def draw_value(draw: Any, field: Any) -> Any:
    """Draw a value of a field; a foreign key's is one of the keys there are."""
    if isinstance(field, models.ForeignKey):
        known = list(rows(field.related_model).values_list(field.target_field.attname, flat=True))
        return draw(st.sampled_from([*([None] if field.null or not known else []), *known]))
    if field.primary_key and isinstance(field, models.CharField):
        return draw(st.sampled_from(TEXT_KEYS if (field.max_length or 0) < 300 else [*TEXT_KEYS, "k" * 300]))
    return draw(next(STRATEGIES[kind] for kind in type(field).__mro__ if kind in STRATEGIES))


def draw_values(draw: Any, model: type[models.Model], *, full: bool) -> dict[str, Any]:
    """Draw values for an instance, by attribute: for every field, or for some."""
    fields = writable(model, key=full)
    if not full:
        fields = draw(st.lists(st.sampled_from(fields), min_size=1, max_size=3, unique=True)) if fields else ()
    return {field.attname: draw_value(draw, field) for field in fields}


def draw_expression(draw: Any, field: Any) -> Any:
    """Draw what an UPDATE sets a field to: a value, or an expression where one makes sense."""
    name = field.name
    if type(field) is models.IntegerField:
        return draw(st.sampled_from([1, F(name) + 1, F(name) * 0, Case(When(**{name: 1}, then=2), default=F(name))]))
    if type(field) is models.CharField and not field.unique:
        return draw(st.sampled_from(["", "b", Upper(name), Concat(F(name), Value("!")), F(name)]))
    if type(field) is models.DecimalField:
        return draw(st.sampled_from([2, F(name) * Decimal("1.005"), F(name) / 3]))
    return draw_value(draw, field)


def draw_updates(draw: Any, model: type[models.Model]) -> dict[str, Any]:
    """Draw the arguments of an UPDATE, by field name."""
    fields = writable(model)
    chosen = draw(st.lists(st.sampled_from(fields), min_size=1, max_size=3, unique=True)) if fields else ()
    return {field.name: draw_expression(draw, field) for field in chosen}


def draw_key(draw: Any, model: type[models.Model]) -> Any:
    """Draw the key of a row that is there, None if there is none."""
    known = keys(model)
    return draw(st.sampled_from(known)) if known else None


def draw_keys(draw: Any, model: type[models.Model]) -> list[Any]:
    """Draw some of the keys there are."""
    known = keys(model)
    return draw(st.lists(st.sampled_from(known), max_size=4, unique=True)) if known else []


def spelled(draw: Any, key: Any) -> Any:
    """Return a key as it is, or as text, the way it comes out of a URL."""
    if isinstance(key, tuple):
        return tuple(spelled(draw, part) for part in key)
    return draw(st.sampled_from([key, str(key)]))


def links(model: type[models.Model], key: Any) -> dict[str, Any]:
    """Return a row's links to parents that its key does not tell: without them it would become part of other rows."""
    names = [link.attname for link in model._meta.parents.values() if link is not None and not link.primary_key]
    return rows(model).values(*names).get(pk=key) if names else {}


def has_sibling(model: type[models.Model], parent: type[models.Model], key: Any) -> bool:
    """Return whether a parent's row is part of a child's that is of another kind than the model.

    The parent's part of what one of the two writes is told of as its own alone: the guarantees name that end.
    """
    kin = [child for child in apps.get_models() if issubclass(child, parent) and child is not parent]
    others = [child for child in kin if not (issubclass(child, model) or issubclass(model, child))]
    name = parent._meta.pk.attname
    return any(models.QuerySet(child).filter(**{name: key}).exists() for child in others if not child._meta.proxy)
