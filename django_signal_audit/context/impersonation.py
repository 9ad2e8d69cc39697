"""Who is really behind a request whose user is impersonated."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.core.signing import TimestampSigner
from django.http import HttpRequest
from django.utils.functional import LazyObject

from django_signal_audit.conf import on_settings_changed
from django_signal_audit.context.savepoints import own_queries_anywhere
from django_signal_audit.events.keys import object_id
from django_signal_audit.events.values import JSONValue

from .actors import describe_actor, is_user, user_of_request
from .scopes import current_context

logger = logging.getLogger("django_signal_audit")

# The views that begin to impersonate. They log the other user in, and say who did it only afterwards.
_ACQUIRE_VIEWS = {"hijack.views.AcquireUserView", "loginas.views.user_login"}
_CACHE = "_audit_impersonator"


def resolve_impersonator() -> dict[str, JSONValue]:
    """Return id and repr of the user who impersonates the actor, an empty dict if nobody does."""
    context = current_context()
    if context.impersonator:
        return dict(context.impersonator)
    if context.request is None:
        return {}
    try:
        return _of_request(context.request)
    except Exception:
        logger.exception("The impersonator could not be determined for %s.", context.request.path)
        return {}


def _of_request(request: HttpRequest) -> dict[str, JSONValue]:
    # django-impersonate sets it; middleware of the project may do so too.
    named = getattr(request, "impersonator", None)
    if is_user(named):
        return _describe(named)
    if not _packages():
        return {}
    starter = _starter(request)
    if starter is not None:
        return _describe(starter)
    pk = _pk_in_session(request)
    return _load(request, pk) if pk else {}


@cache
def _packages() -> frozenset[str]:
    return frozenset(name for name in ("hijack", "loginas") if apps.is_installed(name))


on_settings_changed(_packages.cache_clear)


def _describe(user: Any) -> dict[str, JSONValue]:
    pk, text = describe_actor(user)
    return {"id": pk, "repr": text}


def _starter(request: HttpRequest) -> Any:
    """Return who impersonates somebody from this request on: the session does not say so before its end."""
    view: Any = getattr(getattr(request, "resolver_match", None), "func", None)
    view = getattr(view, "view_class", view)
    if f"{getattr(view, '__module__', '')}.{getattr(view, '__name__', '')}" not in _ACQUIRE_VIEWS:
        return None
    # AuthenticationMiddleware's own: login() replaces request.user and leaves it.
    before, now = getattr(request, "_cached_user", None), getattr(request, "user", None)
    is_other = not isinstance(now, LazyObject) and is_user(before) and is_user(now) and before != now
    return before if is_other else None


def _pk_in_session(request: HttpRequest) -> str:
    """Return the key of the impersonator in the session, if it is the session's user that acts."""
    session: Any = getattr(request, "session", None)
    if session is None or SESSION_KEY not in session:
        return ""
    pk = _hijacker(session) if "hijack" in _packages() else ""
    pk = pk or (_loginas(session) if "loginas" in _packages() else "")
    user_id = str(session[SESSION_KEY])
    # A token may have authenticated another user than the session's, whom nobody impersonates.
    return pk if pk and pk != user_id == user_of_request(request)[0] else ""


def _hijacker(session: Any) -> str:
    # Users may impersonate in turn. The first is the real one.
    history = session.get("hijack_history")
    return str(history[0]) if history else ""


def _loginas(session: Any) -> str:
    signed = session.get(getattr(settings, "LOGINAS_FROM_USER_SESSION_FLAG", "loginas_from_user"))
    return TimestampSigner().unsign(signed) if signed else ""


def _load(request: HttpRequest, pk: str) -> dict[str, JSONValue]:
    """Return the description of a user, loaded once for each request."""
    known: dict[str, JSONValue] | None = getattr(request, _CACHE, None)
    if known is None or known["id"] != pk:
        known = {"id": pk, "repr": ""}
        try:
            with own_queries_anywhere():
                model = get_user_model()
                user = model._base_manager.filter(pk=pk).first()
            known = _describe(user) if user is not None else known
        except Exception:
            logger.warning("The impersonator %s could not be loaded.", object_id(pk), exc_info=True)
        setattr(request, _CACHE, known)
    return known
