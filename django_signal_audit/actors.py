"""The actor of an event, resolved at the moment it is written and never later."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest
from django.utils.functional import LazyObject, empty

from .context import current_context
from .keys import object_id
from .values import clean_text, safe_str

logger = logging.getLogger("django_signal_audit")


def resolve_actor(explicit: Any = None) -> tuple[str, str]:
    """Return ``(actor_id, actor_repr)``, both ``""`` if nobody is known.

    Args:
        explicit: The actor the event itself names; the context's comes second, the request's user third.

    """
    context = current_context()
    actor = explicit if explicit is not None else context.actor
    if actor is not None:
        return _describe(actor)
    if context.request is not None:
        return _of_request(context.request)
    return "", ""


def _describe(actor: Any) -> tuple[str, str]:
    if isinstance(actor, str):
        return clean_text(actor), clean_text(actor)
    pk = getattr(actor, "pk", None)
    if pk is None:  # AnonymousUser, or a user who was never saved
        return "", ""
    return object_id(pk), clean_text(safe_str(actor))


def _of_request(request: HttpRequest) -> tuple[str, str]:
    user = getattr(request, "user", None)
    # request.auser() keeps its result apart from request.user; asking the latter would query a second time.
    if isinstance(user, LazyObject) and user.__dict__.get("_wrapped") is empty:
        user = getattr(request, "_acached_user", user)
    try:
        return _describe(user)
    except Exception:
        # A backend may fail in any way, and the write must not fail with it: the session still knows the key.
        logger.warning("No user could be loaded for %s; the event names the session's.", request.path, exc_info=True)
        return _of_session(request), ""


def _of_session(request: HttpRequest) -> str:
    session = getattr(request, "session", None)
    try:
        return object_id(session.get(SESSION_KEY)) if session is not None else ""
    except Exception:
        logger.warning("The session of %s could not be read; the event names no actor.", request.path, exc_info=True)
        return ""
