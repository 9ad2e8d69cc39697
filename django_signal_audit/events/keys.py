"""The text by which the audit log names an object: its primary key, readable and the same on every database."""

from __future__ import annotations

import hashlib
import json
import random
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from itertools import accumulate
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models

from django_signal_audit.events.documents import tag
from django_signal_audit.events.secret_fields import has_secret_key
from django_signal_audit.events.values import clean_text, plain_field, to_json

MAX_LENGTH = 255
_KEPT = 180
_TAG = re.compile(r"hmac-sha256:[0-9a-f]{32}")


def object_id(pk: object) -> str:
    """Return the text of a primary key, ``""`` for None.

    A composite key gives ``json.dumps(list(pk))``. A text longer than the column keeps its beginning and the SHA-256
    of the whole, so that it stays unique and can be looked up again.
    """
    if pk is None:
        return ""
    if type(pk) is int and -_MAX_INTEGER <= pk < _MAX_INTEGER:
        return str(pk)
    text = json.dumps([to_json(part) for part in pk]) if isinstance(pk, (tuple, list)) else str(to_json(pk))
    text = clean_text(text)
    if len(text) <= MAX_LENGTH:
        return text
    return f"{text[:_KEPT]}…{hashlib.sha256(text.encode()).hexdigest()}"


def row_name(model: type[models.Model], pk: object) -> str:
    """Return the text by which the audit log names a row: its primary key, or a tag where that is a secret."""
    name = object_id(pk)
    # A tag is the row's name already.
    if not name or not has_secret_key(model) or _TAG.fullmatch(name):
        return name
    return tag((_root(model)._meta.label_lower, "pk"), name)


def _root(model: type[models.Model]) -> type[models.Model]:
    """Return the model that declares the primary key: a multi-table child's is its parent's."""
    field = model._meta.pk_fields[0]
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    return field.model


def row_id(model: type[models.Model], pk: object) -> str:
    """Return the text by which the audit log names a row, however its key is spelled: ``"3"`` for 3, a UUID as text."""
    typed = _typed(model, pk)
    if typed is None:
        return row_name(model, pk)  # no row has such a key
    return row_name(model, typed if len(typed) > 1 else typed[0])


def is_key(model: type[models.Model], pk: object) -> bool:
    """Return whether a row of the model could have this primary key, which may be spelled as events have it."""
    if _typed(model, pk) is not None:
        return True
    return isinstance(pk, str) and (parse_id(model, pk) is not None or _TAG.fullmatch(pk) is not None)


def _typed(model: type[models.Model], pk: object) -> list[object] | None:
    """Return the parts of a primary key as the model has them, None if no row can have it."""
    fields = model._meta.pk_fields
    parts = pk if isinstance(pk, (tuple, list)) else (pk,)
    try:
        return [plain_field(field).to_python(part) for field, part in zip(fields, parts, strict=True)]
    except (ValidationError, ValueError, TypeError):
        return None


def parse_id(model: type[models.Model], name: str) -> object:
    """Return the primary key behind a row's name in the audit log.

    None if the name was cut, is a secret's tag, or is no key of the model now.
    """
    if has_secret_key(model):
        return None
    fields = model._meta.pk_fields
    try:
        parts = json.loads(name) if len(fields) > 1 else [name]
        key = tuple(plain_field(field).to_python(part) for field, part in zip(fields, parts, strict=True))
    except (ValidationError, ValueError, TypeError, RecursionError):
        return None
    if any(isinstance(part, int) and not -_MAX_INTEGER <= part < _MAX_INTEGER for part in key):
        return None  # no column holds it, and SQLite's driver refuses it
    found = key if len(fields) > 1 else key[0]
    return found if object_id(found) == name else None


def parse_ids(model: type[models.Model], names: Iterable[str]) -> dict[str, object]:
    """Return the primary keys behind names of rows as ``parse_id`` does; names without one are left out."""
    fields = model._meta.pk_fields
    is_integer = len(fields) == 1 and type(plain_field(fields[0])).to_python is models.IntegerField.to_python
    if is_integer and not has_secret_key(model):
        # A page asks for thousands of these.
        numbers = ((name, int(name)) for name in names if _INTEGER.fullmatch(name))
        return {name: number for name, number in numbers if -_MAX_INTEGER <= number < _MAX_INTEGER}
    found = {name: parse_id(model, name) for name in names}
    return {name: pk for name, pk in found.items() if pk is not None}


def beginning(name: str) -> str:
    """Return what a name in the audit log keeps of a key that was too long for it, ``""`` if it keeps the whole key."""
    was_cut = len(name) == _KEPT + 65 and name[_KEPT] == "…"
    return name[:_KEPT] if was_cut else ""


_MAX_INTEGER = 1 << 63
_INTEGER = re.compile("0|-?[1-9][0-9]{0,18}")
_NANOSECONDS = 1_000_000  # in a millisecond
# The highest of the random bits behind the variant: without it, a series has room to count.
_ROOM = 1 << 61


def _number() -> int:
    """Return the 128 bits: milliseconds, their fraction in twelve bits (section 6.2, method 3), and chance."""
    milliseconds, rest = divmod(time.time_ns(), _NANOSECONDS)
    return milliseconds << 80 | 7 << 76 | (rest << 12) // _NANOSECONDS << 64 | 2 << 62 | secrets.randbits(62)


def new_uid() -> UUID:
    """Return a new UUIDv7; migrations name this function."""
    return UUID(int=_number())


def uid_step() -> int:
    """Return by how much a UUIDv7 exceeds the one before it in a series, taken as numbers."""
    return 1 + random.getrandbits(32)  # a name, not a secret


def uids_from(first: UUID, count: int) -> list[str]:
    """Return so many UUIDv7s that ascend from the first one by random steps, each as 32 hexadecimal digits."""
    steps = (uid_step() for _ in range(count - 1))
    return [f"{number:032x}" for number in accumulate(steps, initial=first.int)]


def new_uids() -> Iterator[UUID]:
    """Yield UUIDv7s that ascend by random steps from one moment on (section 6.2, method 2)."""
    number = _number() & ~_ROOM
    while True:
        yield UUID(int=number)
        number += uid_step()
