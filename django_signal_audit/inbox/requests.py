"""What a request to the inbox says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest, UnreadablePostError

LARGEST_KEY = 2**63 - 1
MOST_KEYS = 1000


def key_from(text: Any, name: str) -> int | None:
    """Return the key of a message, None for none.

    Raises:
        BadRequest: It is no whole number that a key can be.

    """
    if text in (None, ""):
        return None
    is_digits = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 20
    number = int(text) if is_digits else text
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= LARGEST_KEY:
        msg = f"{name} must be the id of a message."
        raise BadRequest(msg)
    return number


def cursors(request: HttpRequest) -> dict[str, int | None]:
    """Return where the page asked for begins."""
    return {name: key_from(request.GET.get(name), name) for name in ("before", "after")}


def marked(request: HttpRequest) -> tuple[list[int], int | None]:
    """Return the keys of the messages to be marked, and the key up to which all are.

    Raises:
        BadRequest: Neither is named, or not as keys, or more than 1,000 are.

    """
    said = _json(request) if request.content_type == "application/json" else _form(request)
    ids = said.get("ids") or []
    if not isinstance(ids, list) or len(ids) > MOST_KEYS:
        msg = f"ids must be a list of at most {MOST_KEYS} ids of messages."
        raise BadRequest(msg)
    keys = [key for item in ids if (key := key_from(item, "ids")) is not None]
    up_to = key_from(said.get("up_to"), "up_to")
    if not keys and up_to is None:
        msg = 'Say which messages: "ids", or "up_to" for one and all older ones.'
        raise BadRequest(msg)
    return keys, up_to


def _form(request: HttpRequest) -> Mapping[str, Any]:
    return {"ids": request.POST.getlist("ids"), "up_to": request.POST.get("up_to")}


def _json(request: HttpRequest) -> Mapping[str, Any]:
    try:
        said = json.loads(request.body)
    except (ValueError, RecursionError, UnreadablePostError):
        said = None
    if not isinstance(said, dict):
        msg = "The body must be a JSON object."
        raise BadRequest(msg)
    return said
