"""Users, and channels that reach them without sending anything."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db.models import Model

from django_signal_audit.channels.callable import CallableChannel

from .notices import HERE, INBOX, audit_settings

# Most of the users of these tests may view nothing, and the tests are not about that.
OPEN = {"check_permission": False}
TAKE = {"target": f"{HERE}.take"}
MAIL = f"{__name__}.Mail"


class Mail(CallableChannel):
    """Reaches users by their e-mail address and sends nothing."""

    def address(self, user: Model) -> str:
        return str(getattr(user, "email", ""))


def people_settings(strict: str) -> dict[str, Any]:
    """Return SIGNAL_AUDIT with an inbox, a mail that anybody gets, and ``strict`` for who may view what it is about."""
    return audit_settings(
        {
            "inbox": {"BACKEND": INBOX, "OPTIONS": OPEN},
            "mail": {"BACKEND": MAIL, "OPTIONS": {**OPEN, **TAKE}},
            "strict": {"BACKEND": strict, "OPTIONS": TAKE},
        }
    )


def make_user(name: str, email: str = "", **values: Any) -> User:
    """Make a user with an address."""
    return User.objects.create(username=name, email=email or f"{name}@example.com", **values)
