"""The user of a request, looked at for the audit log as if nobody had looked.

A look at ``request.user`` loads the session. Responses would get ``Vary: Cookie`` because of a write that is audited,
and sessions that no longer hold would be deleted. A form that is bound to the user changes its name, also if it is
refused: the name is the one with which the user was loaded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.db.models import Model
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject, empty

_WATCHED = "_audit_user"
# What changes a session, or its row.
_WRITES = ("flush", "cycle_key", "save", "create", "delete", "clear")


class WatchedUser:
    """The lazy user that Django's middleware has put on a request, and what of it was loaded.

    Args:
        request: The request, whose ``user`` nobody has asked for yet.
        original: The lazy object.

    """

    def __init__(self, request: HttpRequest, original: SimpleLazyObject[Any]) -> None:
        self._request, self._original = request, original
        self._is_stale = False
        # Whom a look has found, where the session was to be changed because of it.
        self._found: object = None
        # Whom the project has awaited, what that one or the other held at first, and the object that is named.
        self._awaited: object = None
        self._held: dict[str, object] = {}
        self._named: Any = None
        self._ask: Callable[[], Awaitable[Any]] = getattr(request, "auser", None) or self._nobody
        self.shown = SimpleLazyObject(self._use)

    def as_loaded(self) -> object:
        """Return the user with the values that were loaded, whatever a form has done to them."""
        awaited = self._awaited or getattr(self._request, "_acached_user", None)
        user = self._look() if awaited is None or self._is_loaded else awaited
        if not self._held or not isinstance(user, Model):
            return user
        if self._named is None or type(self._named) is not type(user):
            self._named = type(user).__new__(type(user))
            vars(self._named).update(self._held)
        return self._named

    async def auser(self) -> Any:
        """Return what ``request.auser()`` does, and note what was loaded."""
        user: Any = await self._ask()
        if self._awaited is None:
            self._awaited, self._held = user, self._held or dict(vars(user))
        return user

    @property
    def _is_loaded(self) -> bool:
        return self._original.__dict__["_wrapped"] is not empty

    def _look(self) -> object:
        """Return the user; the session stays as it was."""
        session: object = getattr(self._request, "session", None)
        if not isinstance(session, SessionBase) or self._is_loaded:
            return self._loaded()
        if self._found is not None:
            return self._found
        before, key = dict(vars(session)), session.session_key
        # A session that no longer holds is emptied when the user is asked for, and one of an old key gets another one.
        self._is_stale = False
        vars(session).update(dict.fromkeys(_WRITES, self._note_stale))
        try:
            found = self._loaded()
        finally:
            if session.session_key == key and not self._is_stale:
                for name in _WRITES:
                    vars(session).pop(name, None)
                session.accessed, session.modified = before.get("accessed", False), before.get("modified", False)
            else:
                vars(session).clear()
                vars(session).update(before)
        if self._is_stale:
            # The project's first use is to do it.
            self._found = found
            self._request.__dict__.pop("_cached_user", None)
            self._original.__dict__["_wrapped"] = empty
        return found

    def _loaded(self) -> object:
        is_first = not self._is_loaded
        _ = self._original.__class__  # which has it loaded
        user = self._original.__dict__["_wrapped"]
        if is_first and not self._held:
            self._held = dict(vars(user))
        return user

    async def _nobody(self) -> object:
        return None

    def _note_stale(self, *_: object, **__: object) -> None:
        self._is_stale = True

    def _use(self) -> Any:
        """Return the user to the project, and leave the traces that this leaves without a look before."""
        session = getattr(self._request, "session", None)
        if isinstance(session, SessionBase) and self._is_loaded:
            session.get(SESSION_KEY)
        return self._loaded()


def _is_djangos(user: object) -> bool:
    """Return whether a user is the lazy object of Django's middleware: one of the project's may even log in."""
    load = user.__dict__.get("_setupfunc") if type(user) is SimpleLazyObject else None
    return getattr(load, "__module__", "") == "django.contrib.auth.middleware"


def watch_user(request: HttpRequest) -> None:
    """Have the user of a request watched, if Django's middleware has put one on it and nobody has asked for it."""
    user: Any = request.__dict__.get("user")
    if _is_djangos(user) and user.__dict__["_wrapped"] is empty and watched_user(request) is None:
        watched = WatchedUser(request, user)
        request.user = watched.shown  # type: ignore[assignment]
        if "auser" in request.__dict__:
            request.auser = watched.auser
        setattr(request, _WATCHED, watched)


def watched_user(request: HttpRequest) -> WatchedUser | None:
    """Return what is watched, None if the project has put another user on the request since."""
    watched: WatchedUser | None = getattr(request, _WATCHED, None)
    return watched if watched is not None and getattr(request, "user", None) is watched.shown else None
