"""The actor of an event, resolved at the moment it is written and never later."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.core.signing import TimestampSigner
from django.db import models
from django.http import HttpRequest
from django.utils.functional import LazyObject, Promise, empty

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.context.request_user import watched_user
from django_signal_audit.context.scopes import NO_CONTEXT, asking, current_context
from django_signal_audit.events.documents import JSONValue, clean_text, safe_str
from django_signal_audit.events.keys import object_id, row_name
from django_signal_audit.events.payloads import text_of
from django_signal_audit.events.project_code import own_queries_anywhere
from django_signal_audit.plugins import is_sync, load

logger = logging.getLogger("django_signal_audit")

NOBODY = ("", "")


def resolve_actor(explicit: object = None) -> tuple[str, str]:
    """Return ``(actor_id, actor_repr)``, both ``""`` if nobody is known.

    Args:
        explicit: The actor the event itself names; the context's comes second, the request's user third.

    """
    context = current_context()
    actor = unwrapped(explicit)
    if actor is None:
        actor = unwrapped(context.actor)
    if actor is not None:
        try:
            return _named_once(actor)
        except Exception:
            logger.warning("An actor of the type %s cannot be named.", type(actor).__name__, exc_info=True)
            return NOBODY
    if context.request is not None:
        return _actor_of(context.request)
    return NOBODY


def _named_once(actor: object) -> tuple[str, str]:
    """Return how an event names an actor, who keeps a name for a whole request, task or block."""
    known = current_context().actors
    found = known.get(id(actor))
    if found is None or found[0] is not actor:
        found = actor, describe_actor(actor)
        # Who is saved later has a name then.
        if found[1] != NOBODY and current_context() is not NO_CONTEXT:
            known[id(actor)] = found
    return found[1]


def unwrapped(value: object) -> object:
    """Return what stands behind a lazy object such as ``request.user``; None if it cannot be loaded."""
    try:
        return _loaded(value)
    except Exception:
        logger.warning("A lazy object, most likely a user, could not be loaded.", exc_info=True)
        return None


def _loaded(value: object) -> object:
    # Asked in this order: about anything else, a lazy object asks what it stands for.
    if not isinstance(value, LazyObject):
        return safe_str(value) if isinstance(value, Promise) else value
    with own_queries_anywhere():
        _ = value.__class__  # which has it loaded
    return _loaded(value.__dict__["_wrapped"])


def describe_actor(actor: object) -> tuple[str, str]:
    """Return how an event names a user, or an actor that is only a text."""
    actor = _loaded(actor)
    if isinstance(actor, str):
        return clean_text(actor), clean_text(actor)
    pk = getattr(actor, "pk", None)
    if pk is None:  # AnonymousUser, or a user who was never saved
        return NOBODY
    pk_text = row_name(actor._meta.model, pk) if isinstance(actor, models.Model) else object_id(pk)
    return pk_text, clean_text(text_of(actor))


def _actor_of(request: HttpRequest) -> tuple[str, str]:
    answer = _ask_project(request)
    if answer is not None:
        return answer
    try:
        return user_of_request(request)
    except Exception:
        # A backend may fail in any way, and the write must not fail with it: the session still knows the key.
        logger.warning("No user could be loaded for %s; the event names the session's.", request.path, exc_info=True)
        return _of_session(request), ""


def user_of_request(request: HttpRequest) -> tuple[str, str]:
    """Return the user whom a request acts for, as far as the request itself says."""
    described = (_named_once(user) for user in _users(request))
    return next((found for found in described if found != NOBODY), NOBODY)


def _ask_project(request: HttpRequest) -> tuple[str, str] | None:
    """Return what the function of the setting ACTOR says, None if there is none or it does not know."""
    if not get_settings().actor:
        return None
    try:
        with asking("ACTOR") as may_ask, own_queries_anywhere():
            actor = _actor_function()(request) if may_ask else None
            return None if actor is None else describe_actor(actor)
    except Exception:
        logger.exception('SIGNAL_AUDIT["ACTOR"] failed for %s; the event names the user of the request.', request.path)
        return None


@cache
def _actor_function() -> Any:
    return load(get_settings().actor, 'SIGNAL_AUDIT["ACTOR"]', "a function that can be called without await", is_sync)


on_settings_changed(_actor_function.cache_clear)


def _users(request: HttpRequest) -> Iterator[object]:
    """Return whom the request may act for, the likeliest first.

    A view that authenticates on its own says so in ``request.auth``: django-ninja puts the user or a token there and
    leaves ``request.user`` to the session, REST framework sets both.
    """
    auth, watched = getattr(request, "auth", None), watched_user(request)
    user = None if watched is not None else _user_of(request)
    if is_user(auth):
        yield auth
    # A user who was set in the view is more certain than the one the session would lead to.
    if user is not None and not isinstance(user, LazyObject):
        yield user
    owner = getattr(auth, "user", None)
    if is_user(owner):
        yield owner
    yield user if watched is None else watched.as_loaded()
    # ASGI middleware of Channels authenticates before Django does, and consumers have no other user.
    scope = getattr(request, "scope", None)
    yield scope.get("user") if isinstance(scope, dict) else None


def is_user(value: object) -> bool:
    """Return whether a value is an authenticated user: of the user model, or one that stands for it as tokens' do."""
    return getattr(value, "is_authenticated", False) is True and getattr(value, "pk", None) is not None


def _user_of(request: HttpRequest) -> object:
    user = getattr(request, "user", None)
    # request.auser() keeps its result apart from request.user; asking the latter would query a second time.
    if isinstance(user, LazyObject) and user.__dict__.get("_wrapped") is empty:
        user = getattr(request, "_acached_user", user)
    return user


def _of_session(request: HttpRequest) -> str:
    session = getattr(request, "session", None)
    try:
        return object_id(session.get(SESSION_KEY)) if session is not None else ""
    except Exception:
        logger.warning("The session of %s could not be read; the event names no actor.", request.path, exc_info=True)
        return ""


# The views that begin to impersonate.
_ACQUIRE_VIEWS = {"hijack.views.AcquireUserView", "loginas.views.user_login"}
_CACHE = "_audit_impersonator"
_STARTER = "_audit_starter"


def resolve_impersonator() -> dict[str, JSONValue]:
    """Return id and repr of the user who impersonates the actor, an empty dict if nobody does."""
    context = current_context()
    if context.impersonator:
        return dict(context.impersonator)
    if context.request is None:
        return {}
    try:
        return _impersonator_of(context.request)
    except Exception:
        logger.exception("The impersonator could not be determined for %s.", context.request.path)
        return {}


def _impersonator_of(request: HttpRequest) -> dict[str, JSONValue]:
    # django-impersonate sets it; middleware of the project may do so too.
    named = getattr(request, "impersonator", None)
    if is_user(named):
        return _describe(named)
    if not _packages():
        return {}
    starter: dict[str, JSONValue] = getattr(request, _STARTER, {})
    if starter and starter["id"] != user_of_request(request)[0]:
        return starter
    pk = _pk_in_session(request)
    return _load(request, pk) if pk else {}


def may_impersonate() -> bool:
    """Return whether a package by which users impersonate others is installed."""
    return bool(_packages())


def begins_to_impersonate(view: Any) -> bool:
    """Return whether a view, which may be a project's own subclass or wrapped, has one user act as another."""
    view = getattr(view, "view_class", None) or inspect.unwrap(view)
    kinds = getattr(view, "__mro__", (view,))
    names = (f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}" for kind in kinds)
    return not _ACQUIRE_VIEWS.isdisjoint(names)


def note_starter(request: HttpRequest) -> None:
    """Note who is about to impersonate somebody, before the view that begins it runs.

    The view logs the other user in, which empties the session, and says who did it only afterwards.
    """
    pk = _pk_in_session(request)
    user = getattr(request, "user", None)
    setattr(request, _STARTER, _load(request, pk) if pk else _describe(user) if is_user(user) else {})


@cache
def _packages() -> frozenset[str]:
    return frozenset(name for name in ("hijack", "loginas") if apps.is_installed(name))


on_settings_changed(_packages.cache_clear)


def _describe(user: object) -> dict[str, JSONValue]:
    pk, text = describe_actor(user)
    return {"id": pk, "repr": text}


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
