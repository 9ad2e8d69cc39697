"""The closed vocabularies: where a change came from, how grave it is, what became of a notification."""

from __future__ import annotations

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class EventType(TextChoices):
    """The built-in event types. Custom events carry any other name."""

    CREATE = "create", _("create")
    UPDATE = "update", _("update")
    DELETE = "delete", _("delete")
    M2M = "m2m", _("m2m")
    LOGIN = "login", _("login")
    LOGOUT = "logout", _("logout")
    LOGIN_FAILED = "login_failed", _("login failed")
    REQUEST = "request", _("request")
    BASELINE = "baseline", _("baseline")

    @classmethod
    def label_of(cls, name: str) -> str:
        """Return what people call events of that type; a custom one is called by its name."""
        return str(cls(name).label) if name in cls.values else name


class Source(TextChoices):
    """How a change reached the database."""

    ORM = "orm", _("object")
    BULK = "bulk", _("bulk")
    CASCADE = "cascade", _("cascade")
    SIGNAL = "signal", _("signal")
    MANUAL = "manual", _("manual")
    BASELINE = "baseline", _("baseline")


class Level(TextChoices):
    """How grave an event is, from least to most."""

    INFO = "info", _("info")
    WARNING = "warning", _("warning")
    CRITICAL = "critical", _("critical")

    @classmethod
    def highest(cls, levels: list[str]) -> str:
        """Return the gravest of the levels, INFO for none."""
        order = cls.values
        return max(levels, key=order.index, default=cls.INFO.value)


EVENT_TYPE_LENGTH = 100
MODEL_EVENTS = (EventType.CREATE.value, EventType.UPDATE.value, EventType.DELETE.value, EventType.M2M.value)
# The types of events that say what a row holds. Others may name an object too, and say nothing of its fields.
ROW_EVENTS = (*MODEL_EVENTS, EventType.BASELINE.value)
AUTH_EVENTS = (EventType.LOGIN.value, EventType.LOGOUT.value, EventType.LOGIN_FAILED.value)
