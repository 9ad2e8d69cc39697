"""Login, logout and failed logins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import models, router
from django.dispatch import Signal

from django_signal_audit.context.actors import unwrapped
from django_signal_audit.context.scopes import context_scope, current_context
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change
from django_signal_audit.events.masking import is_secret, words_of
from django_signal_audit.events.secret_texts import HIDDEN
from django_signal_audit.models import AuditEvent
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.registry import Registry

from .base import CaptureSource, register_source

UID = "django_signal_audit.accounts"


# Other packages send these signals as well, and not always with all that Django sends.


def record_login(request: object = None, user: object = None, **_: object) -> None:
    """Record that somebody logged in (receiver of user_logged_in)."""
    _record(EventType.LOGIN, request, user, {})


def record_logout(request: object = None, user: object = None, **_: object) -> None:
    """Record that somebody logged out (receiver of user_logged_out); the user is None for an anonymous session."""
    _record(EventType.LOGOUT, request, user, {})


def record_login_failed(credentials: object = None, request: object = None, **_: object) -> None:
    """Record a failed login with the name that was tried (receiver of user_login_failed)."""
    given = credentials if isinstance(credentials, Mapping) else {}
    shown = {str(name): value if _says_who(str(name)) else HIDDEN for name, value in given.items()}
    _record(EventType.LOGIN_FAILED, request, None, {"credentials": shown})


# The last words of what backends are told of a person; the rest is what they are to believe it by.
_PERSONS = frozenset({
    "account", "domain", "email", "id", "identifier", "login", "mail", "mobile", "name", "number", "phone", "realm",
    "tenant", "uid", "user", "username",
})  # fmt: skip


def _says_who(name: str) -> bool:
    last = (words_of(name)[-1:] or ("",))[0]
    return name == get_user_model().USERNAME_FIELD or last in _PERSONS or is_secret(name)


def _record(event_type: EventType, request: object, user: Any, data: dict[str, object]) -> None:
    using = router.db_for_write(AuditEvent)
    # Django hands on request.user at a logout, which is lazy.
    user = unwrapped(user)
    is_row = isinstance(user, models.Model) and user.pk is not None
    change = Change(
        event_type=event_type,
        source=Source.SIGNAL,
        using=using,
        model=user._meta.concrete_model if is_row else None,
        pk=user.pk if is_row else None,
        instance=user if is_row else None,
        actor=user,
        data=data,
    )
    # Without our middleware the signal still knows the request.
    if _is_request(request) and current_context().request is None:
        with context_scope(request=request):
            record_changes([change], using)
    else:
        record_changes([change], using)


def _is_request(value: object) -> bool:
    """Return whether a value has what events record of a request: Django's requests and REST framework's have."""
    return all(hasattr(value, name) for name in ("META", "headers", "method", "path", "path_info"))


_RECEIVERS: dict[EventType, tuple[Signal, Callable[..., None]]] = {
    EventType.LOGIN: (user_logged_in, record_login),
    EventType.LOGOUT: (user_logged_out, record_logout),
    EventType.LOGIN_FAILED: (user_login_failed, record_login_failed),
}


@register_source
class AccountSource(CaptureSource):
    """Connects the signals of django.contrib.auth that rules ask for."""

    def connect(self, registry: Registry) -> None:
        """Connect what the rules ask for."""
        for event_type, (signal, receiver) in _RECEIVERS.items():
            if registry.watches_event(event_type):
                signal.connect(receiver, dispatch_uid=UID)

    def disconnect(self) -> None:
        """Leave no receiver behind."""
        for signal, _ in _RECEIVERS.values():
            signal.disconnect(dispatch_uid=UID)
