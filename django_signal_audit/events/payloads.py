"""Anything at all as JSON for ``data`` and ``context``: bounded in depth and length, and without secrets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, ItemsView, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from django.db import models
from django.db.models.query import REPR_OUTPUT_SIZE
from django.utils.functional import LazyObject

from django_signal_audit.conf import get_settings
from django_signal_audit.events.masking import OPENINGS, harmless_url, parsed, without_values

from .documents import (
    CONTAINERS,
    ESCAPE_KEY,
    JSONValue,
    bounded,
    canonical_json,
    clean_text,
    digest,
    safe_str,
    unescaped,
)
from .keys import row_name
from .masking import HIDDEN, is_plain_document, is_secret, is_stand_in, mask_document
from .secret_fields import has_secret_key, is_masked, masked_fields
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
        # As many as its text has.
        return list(value[:REPR_OUTPUT_SIZE])
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
    return harmless_url(text, is_secret) if isinstance(value, str) else without_values(text, is_secret)


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
) -> dict[str, JSONValue]:
    """Return a mapping as JSON with its secrets masked, and no longer than MAX_VALUE_BYTES."""
    document = mask_document(payload(dict(value)), scope, names, containers)
    return limited(cast("dict[str, JSONValue]", document))


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
    """Return the text of an object, with stars for values of masked fields in it.

    Args:
        instance: The object, of whatever class.
        values: Further values of masked fields.

    """
    text = clean_text(safe_str(instance))
    return hide(text, [*_secret_values(instance), *values]) if isinstance(instance, models.Model) else text


def _secret_values(instance: models.Model) -> list[object]:
    """Return the values of masked fields of an object, and of the related objects that it has loaded."""
    found: list[Any] = []
    for known in (instance, *instance._state.fields_cache.values()):
        if not isinstance(known, models.Model):
            continue
        if isinstance(known, LazyObject):
            known = known._wrapped  # noqa: SLF001  # it was asked for its state, and so is loaded
        for name in masked_fields(known._meta.model):
            found.append(known.__dict__.get(known._meta.get_field(name).attname))
        for name, value in known.__dict__.items():
            kind = value.__class__
            if (value[:1] in OPENINGS if kind is str else kind is dict or kind is list) and not name.startswith("_"):
                found += secrets_in(value)
    return found


def secrets_in(value: object) -> Iterator[Any]:
    """Yield the secrets in a document, or in a text that is JSON."""
    if value.__class__ is str:
        document = parsed(value)
        if document is not None and mask_document(value, ()) != value:
            yield value
            yield from secrets_in(document)
    elif not is_plain_document(value):
        document = payload(value)
        yield from _hidden_in(document, mask_document(document, ()))


def _hidden_in(value: JSONValue, masked: JSONValue) -> Iterator[object]:
    """Yield the parts of a document that its masked form has tags for."""
    if value == masked:
        return
    if isinstance(masked, dict) and not (is_stand_in(masked) and not is_stand_in(value)):
        pairs: Iterable[Any] = zip(value.values(), masked.values(), strict=True)  # type: ignore[union-attr]
    elif isinstance(masked, list):
        pairs = zip(value, masked, strict=True)  # type: ignore[arg-type]
    else:
        yield from leaves(value)
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
