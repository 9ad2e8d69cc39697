"""Anything at all as JSON for ``data`` and ``context``: bounded in depth and length, and without secrets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, ItemsView, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from types import CodeType, SimpleNamespace
from typing import Any, cast
from uuid import UUID

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import Col
from django.db.models.query import REPR_OUTPUT_SIZE
from django.utils.functional import LazyObject

from django_signal_audit.conf import get_settings
from django_signal_audit.events.project_code import OwnQueries, own_queries_anywhere

from .documents import (
    CONTAINERS,
    ESCAPE_KEY,
    JSONValue,
    bounded,
    canonical_json,
    clean_text,
    digest,
    safe_str,
    text_of_failure,
    unescaped,
)
from .keys import row_name
from .masking import has_secrets, is_plain_document, is_secret, is_stand_in, mask_document, without_secrets
from .project_code import Untouched
from .secret_fields import has_secret_key, is_masked, masked_fields, secrets_of_row, secrets_of_serialized
from .secret_texts import HIDDEN, harmless_url, may_name_secrets, parsed, secrets_named_in, without_values
from .values import shorten, to_json

MAX_KEY = 255
# All values together may be this long, however short each of them has to be.
_SMALL = 4096
# Texts may be this long, however short values have to be.
_SHORTEST_TEXT = 1024
# How much of an object that is no document is kept as one.
_SHALLOW = 5
# A shorter secret may be part of any word.
_SHORTEST = 4
_LONG = 8


def payload(value: object) -> JSONValue:
    """Return any object as JSON: what has no JSON form becomes its text."""
    return bounded(value, _leaf, name=_key, opens_tuples=True)


def _leaf(value: object) -> JSONValue:
    try:
        inside = _opened(value)
    except Exception:  # noqa: BLE001  # a broken mapping, say, or a queryset of a table that is gone
        inside = None
    return _closed(value) if inside is None else bounded(inside, _closed, _SHALLOW, _key, opens_tuples=True)


def _closed(value: object) -> JSONValue:
    try:
        return _json(value)
    except Exception:  # noqa: BLE001  # a lazy user, say, whose session is gone
        return without_values(clean_text(safe_str(value)), is_secret)


def _opened(value: object) -> object:
    """Return what is in an object that holds names and values, None for any other."""
    if isinstance(value, (Mapping, ItemsView)):
        return dict(value)
    if isinstance(value, SimpleNamespace):
        return dict(vars(value))
    if isinstance(value, models.QuerySet):
        return first_rows(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None


def _json(value: object) -> JSONValue:
    if isinstance(value, models.Model):
        pk = row_name(value._meta.model, value.pk) if has_secret_key(value._meta.model) else payload(value.pk)
        return {"model": value._meta.label_lower, "pk": pk, "repr": text_of(value)}
    plain = to_json(value)
    if not isinstance(plain, str):
        return plain
    text = clean_text(plain)
    if isinstance(value, str):
        return harmless_url(text, is_secret)
    return hide(without_values(text, is_secret), list(_secrets_inside(value)))


def _secrets_inside(value: object) -> Iterator[object]:
    """Yield the secrets that the text of an object may have: those of an error's arguments, and of attributes."""
    if isinstance(value, BaseException):
        yield from _secrets_of_parts(value.args)
        yield from secrets_in(list(value.args))
    try:
        attributes = dict(vars(value))
    except TypeError:
        attributes = {"": getattr(value, "args", ()), " ": getattr(value, "keywords", {})}
    yield from _secrets_of_parts(attributes.values())
    yield from (item for name, item in attributes.items() if is_secret(name) and isinstance(item, (str, bytes, int)))


def _secrets_of_parts(parts: Iterable[object], depth: int = _SHALLOW) -> Iterator[object]:
    """Yield the values of masked fields of the objects among some values, and of those within lists and dicts."""
    for part in parts:
        if isinstance(part, models.Model):
            yield from _secret_values(part)
        elif isinstance(part, CONTAINERS) and depth:
            yield from _secrets_of_parts([*part, *(part.values() if isinstance(part, dict) else ())], depth - 1)


def _key(key: object) -> str:
    text = text_of(key)
    return text if len(text) <= MAX_KEY else f"{text[:180]}…{hashlib.sha256(text.encode()).hexdigest()}"


def member_names(field: models.ManyToManyField[Any, Any], keys: Iterable[object]) -> list[JSONValue]:
    """Return keys of a m2m field's members as JSON, with tags in place of keys that are secret."""
    target: Any = field.target_field
    if is_masked(target):
        return [row_name(target.model, key) for key in keys]
    return [key if key.__class__ is int else payload(key) for key in keys]


def masked_payload(
    value: Mapping[str, object],
    scope: tuple[str, ...],
    names: Collection[str] = (),
    containers: Collection[str] = (),
    instance: models.Model | None = None,
) -> dict[str, JSONValue]:
    """Return a mapping as JSON with its secrets masked, and no longer than MAX_VALUE_BYTES.

    Args:
        value: The mapping.
        scope: What the tags are comparable within.
        names: Keys that are secret besides those that contain one of MASK_FIELDS.
        containers: Keys of the mapping's own whose values are looked through instead.
        instance: An object whose secrets are hidden in the mapping, too.

    """
    document = _without_secrets_of_rows(payload(dict(value)))
    secrets = set() if instance is None else _texts_of_secrets(instance)
    if secrets:
        document = _hidden(document, secrets)
    return limited(cast("dict[str, JSONValue]", mask_document(document, scope, names, containers)))


def _without_secrets_of_rows(value: JSONValue) -> JSONValue:
    """Return a document with stars for masked fields of what are rows of a model, or serialized objects."""
    if isinstance(value, list):
        return [_without_secrets_of_rows(item) for item in value]
    if isinstance(value, str):
        return HIDDEN if '"pk"' in value and _has_secrets_of_rows(parsed(value)) else value
    if not isinstance(value, dict):
        return value
    serialized = secrets_of_serialized(value)
    if serialized:
        return {
            name: _without(item, serialized) if name == "fields" else item
            for name, item in _without(value, serialized & {"pk"}).items()
        }
    return {name: _without_secrets_of_rows(item) for name, item in _without(value, secrets_of_row(value)).items()}


def _without(document: Any, names: Collection[str]) -> dict[str, JSONValue]:
    # What has a secret's name is masked by it.
    return {
        name: HIDDEN if name in names and not is_secret(name) and value is not None else value
        for name, value in document.items()
    }


def _has_secrets_of_rows(document: object) -> bool:
    plain = payload(document)
    return bool(_without_secrets_of_rows(plain) != plain)


def _texts_of_secrets(instance: models.Model) -> set[str]:
    values = [value for value in _secret_values(instance) if not isinstance(value, (bool, *CONTAINERS))]
    return {text for text in map(safe_str, values) if len(text) >= _SHORTEST}


def _hidden(value: JSONValue, secrets: Collection[str]) -> JSONValue:
    """Return a document with stars for secrets in its texts, and in place of numbers that are one."""
    if isinstance(value, list):
        return [_hidden(item, secrets) for item in value]
    if isinstance(value, dict):
        return value if is_stand_in(value) else {key: _hidden(item, secrets) for key, item in value.items()}
    if str(value) in secrets:
        return HIDDEN
    # A short secret may be part of any word.
    return hide(value, [text for text in secrets if len(text) >= _LONG]) if isinstance(value, str) else value


def limited(document: dict[str, JSONValue]) -> dict[str, JSONValue]:
    """Return a JSON object with digests in place of what is too long, by itself or all together."""
    limit = get_settings().max_value_bytes
    inner = unescaped(document)
    short = {key: shorten(_short_leaves(item, limit), limit) for key, item in inner.items()}
    rest = len(canonical_json(short)) - max(limit, _SMALL)
    for key in sorted(short, key=lambda key: len(canonical_json(short[key])), reverse=True) if rest > 0 else ():
        before, after = canonical_json(short[key]), digest(canonical_json(short[key]))
        gained = len(before) - len(canonical_json(after))
        if rest <= 0 or gained <= 0:
            break
        short[key] = after
        rest -= gained
    if rest > 0:
        return digest(canonical_json(document))
    return short if inner is document else {ESCAPE_KEY: short}


def _short_leaves(value: JSONValue, limit: int) -> JSONValue:
    if isinstance(value, list):
        return [_short_leaves(item, limit) for item in value]
    if isinstance(value, dict) and not is_stand_in(value):
        inner = unescaped(value)
        short: JSONValue = {key: _short_leaves(item, limit) for key, item in inner.items()}
        return short if inner is value else {ESCAPE_KEY: short}
    return shorten(value, limit)


def cut(text: str, limit: int | None = None) -> str:
    """Return the beginning of a text, as much as may be kept of it."""
    most = max(get_settings().max_value_bytes, _SHORTEST_TEXT)
    limit = min(limit or most, most)
    if len(text) * 4 <= limit:
        return text
    data = text.encode("utf-8", "surrogatepass")
    return text if len(data) <= limit else data[: max(limit - 3, 0)].decode("utf-8", "ignore") + "…"


def text_of(instance: object, values: Iterable[object] = ()) -> str:
    """Return the text of an object, with stars for values of masked fields in it. The object stays as it was.

    Args:
        instance: The object, of whatever class.
        values: Further values of masked fields.

    """
    if not isinstance(instance, models.Model):
        return clean_text(safe_str(instance))
    if not may_query(instance):
        return loaded_text_of(instance, values)
    with Untouched([instance]):
        return loading_text_of(instance, own_queries_anywhere(), values)


def loaded_text_of(instance: models.Model, values: Iterable[object] = ()) -> str:
    """Return the same of an object whose ``__str__`` asks the database nothing: see ``may_query``."""
    return _without_secrets_of(clean_text(safe_str(instance)), instance, values)


def loading_text_of(instance: models.Model, block: OwnQueries, values: Iterable[object] = ()) -> str:
    """Return the same; the object keeps what its ``__str__`` loads.

    Args:
        instance: The object.
        block: What keeps queries of ``__str__`` apart: one that fails doesn't end the transaction.
        values: Further values of masked fields.

    """
    try:
        with block:
            text = str.__str__(str(instance))
    except Exception as error:  # noqa: BLE001  # any user code may run in __str__, and a log must not break a write
        text = text_of_failure(instance, error)
    return _without_secrets_of(clean_text(text), instance, values)


def _without_secrets_of(text: str, instance: models.Model, values: Iterable[object]) -> str:
    return hide(text, [*_secret_values(instance), *values])


def may_query(instance: models.Model) -> bool:
    """Return whether ``__str__`` may ask the database: it does more than put loaded values together."""
    method = type(instance).__str__
    names = _names_in(getattr(method, "__code__", None))
    return method is not models.Model.__str__ and (names is None or not instance.__dict__.keys() >= names)


@lru_cache(512)
def _names_in(code: CodeType | None) -> frozenset[str] | None:
    """Return all names that a function uses; None if it isn't known, or functions within it have names, too."""
    if code is None or any(isinstance(part, CodeType) for part in code.co_consts):
        return None
    return frozenset(code.co_names)


_DOCUMENTS = frozenset({dict, list})


def _secret_values(instance: models.Model) -> list[object]:
    """Return the values of masked fields of an object, and of the related objects that it has loaded."""
    found: list[Any] = []
    for known in (instance, *instance._state.fields_cache.values()):
        if not isinstance(known, models.Model):
            continue
        if isinstance(known, LazyObject):
            known = known._wrapped  # noqa: SLF001  # it was asked for its state, and so is loaded
        held, model = known.__dict__, known._meta.model
        for name in masked_fields(model):
            found.append(held.get(known._meta.get_field(name).attname))
        # Of columns alone: what else an object has may be other objects, which lead back to this one.
        for name in _column_names_of(model):
            value = held.get(name)
            if may_name_secrets(value) if value.__class__ is str else value.__class__ in _DOCUMENTS:
                found += secrets_in(value)
    return found


@lru_cache(1024)
def _column_names_of(model: type[models.Model]) -> tuple[str, ...]:
    return tuple(field.attname for field in model._meta.concrete_fields)


def without_its_secrets(value: object) -> object:
    """Return a value of the settings as a message may quote it: with stars for the secrets in it, if there are any."""
    hidden = without_secrets(mask_document(payload(value), ()))
    return hidden if HIDDEN in safe_str(hidden) else value


def secrets_in(value: object) -> Iterator[object]:
    """Yield the secrets in a document, or in a text that names them."""
    if isinstance(value, str):
        if has_secrets(value, is_column=True):
            yield value
            yield from secrets_named_in(value, is_secret)
            yield from secrets_in(parsed(value))
    elif not is_plain_document(value):
        document = payload(value)
        yield from _hidden_in(document, mask_document(document, ()))


def _hidden_in(value: JSONValue, masked: JSONValue) -> Iterator[object]:
    """Yield the parts of a document that its masked form has tags for."""
    if value == masked or is_stand_in(value):
        return
    if isinstance(masked, dict) and not is_stand_in(masked):
        pairs: Iterable[Any] = zip(value.values(), masked.values(), strict=True)  # type: ignore[union-attr]
    elif isinstance(masked, list):
        pairs = zip(value, masked, strict=True)  # type: ignore[arg-type]
    else:
        for leaf in leaves(value):
            yield leaf
            yield from secrets_in(leaf) if isinstance(leaf, str) else ()
        return
    for one, other in pairs:
        yield from _hidden_in(one, other)


def leaves(value: JSONValue) -> Iterator[Any]:
    """Yield what is no list and no object in a document."""
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


def hide(text: str, values: Collection[object]) -> str:
    """Return the text with stars in place of the values."""
    if not values:
        return text
    secrets = {safe_str(value) for value in values if value is not None and not isinstance(value, (bool, *CONTAINERS))}
    secrets |= {value.hex for value in values if isinstance(value, UUID)}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, HIDDEN)
        else:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return text


def first_rows(queryset: Any) -> list[Any]:
    """Return as many rows of a queryset as its text has."""
    rows = list(queryset[:REPR_OUTPUT_SIZE])
    if queryset._fields is None:
        return rows
    names = _column_names(queryset)
    hidden = {name for name in names if is_secret(name) or _is_secret_column(queryset, name)}
    return [_with_stars(hidden, names, row) for row in rows]


def _column_names(queryset: Any) -> tuple[str, ...]:
    """Return the names of the columns, in the order of the rows."""
    query = queryset.query
    own = [field.attname for field in queryset.model._meta.concrete_fields]
    return tuple(queryset._fields or (*query.extra_select, *own, *query.annotation_select))


def _with_stars(hidden: set[str], names: Sequence[str], row: object) -> object:
    if isinstance(row, dict):
        # What has a secret's name is masked by it.
        return {name: HIDDEN if name in hidden and not is_secret(name) else value for name, value in row.items()}
    if not isinstance(row, tuple) or len(row) != len(names):
        # A flat list has values; a composite primary key is a tuple among them.
        return HIDDEN if hidden and row is not None else row
    found = [HIDDEN if name in hidden and value is not None else value for name, value in zip(names, row, strict=True)]
    return dict(zip(names, found, strict=True)) if hasattr(row, "_fields") else found


def _is_secret_column(queryset: Any, name: str) -> bool:
    annotation = queryset.query.annotations.get(name)
    if annotation is not None:
        parts = list(annotation.flatten())
        # How many secrets there are is none.
        return not any(isinstance(part, models.Count) for part in parts) and any(
            is_masked(part.target) for part in parts if isinstance(part, Col)
        )
    return _leads_to_secret(queryset.model, name.split(LOOKUP_SEP))


def _leads_to_secret(model: type[models.Model], path: list[str]) -> bool:
    """Return whether a path through relations ends at a masked field; what follows a field is made of its value."""
    field: Any = None
    for name in path:
        try:
            field = model._meta.pk if name == "pk" else model._meta.get_field(name)
        except FieldDoesNotExist:
            break
        if field is None or not field.is_relation or field.related_model is None:
            break
        model = field.related_model
    if field is None:
        return False
    return is_masked(field if field.concrete and not field.many_to_many else model._meta.pk)
