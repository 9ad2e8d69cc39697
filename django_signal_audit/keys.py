"""The text by which the trail names an object: its primary key, readable and the same on every database."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from .values import clean_text, plain_field, to_json

MAX_LENGTH = 255
_KEPT = 180


def object_id(pk: Any) -> str:
    """Return the text of a primary key, ``""`` for None.

    A composite key gives ``json.dumps(list(pk))``. A text longer than the column keeps its beginning and the SHA-256
    of the whole, so that it stays unique and can be looked up again.
    """
    if pk is None:
        return ""
    text = json.dumps([to_json(part) for part in pk]) if isinstance(pk, (tuple, list)) else str(to_json(pk))
    text = clean_text(text)
    if len(text) <= MAX_LENGTH:
        return text
    return f"{text[:_KEPT]}…{hashlib.sha256(text.encode()).hexdigest()}"


def row_id(model: type[models.Model], pk: Any) -> str:
    """Return the text by which the trail names a row, however its key is spelled: ``"3"`` for 3, a UUID as text."""
    fields = model._meta.pk_fields
    parts = pk if isinstance(pk, (tuple, list)) else (pk,)
    try:
        typed = [plain_field(field).to_python(part) for field, part in zip(fields, parts, strict=True)]
    except (ValidationError, ValueError, TypeError):
        return object_id(pk)  # no row has such a key
    return object_id(typed if len(fields) > 1 else typed[0])


def parse_id(model: type[models.Model], name: str) -> Any:
    """Return the primary key behind a row's name in the trail; None if that was cut, or is no key of the model now."""
    fields = model._meta.pk_fields
    try:
        parts = json.loads(name) if len(fields) > 1 else [name]
        key = tuple(plain_field(field).to_python(part) for field, part in zip(fields, parts, strict=True))
    except (ValidationError, ValueError, TypeError):
        return None
    found = key if len(fields) > 1 else key[0]
    return found if object_id(found) == name else None


def beginning(name: str) -> str:
    """Return what a name in the trail keeps of a key that was too long for it, ``""`` if it keeps the whole key."""
    was_cut = len(name) == _KEPT + 65 and name[_KEPT] == "…"
    return name[:_KEPT] if was_cut else ""
