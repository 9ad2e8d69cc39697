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
    EXTENDED = "extended", _("extended by a child")
    VIEW = "view", _("viewed")

    @classmethod
    def label_of(cls, name: str) -> str:
        """Return what people call events of that type; a custom one is called by its name."""
        try:
            return str(cls(name).label)
        except ValueError:
            return name


class Source(TextChoices):
    """How a change reached the database."""

    ORM = "orm", _("object")
    BULK = "bulk", _("bulk")
    CASCADE = "cascade", _("cascade")
    SIGNAL = "signal", _("signal")
    MANUAL = "manual", _("manual")
    BASELINE = "baseline", _("baseline")
    IMPORT = "import", _("import")


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


class Choice(TextChoices):
    """How a user wants to be notified: at once, not at all, or of all that happens in a while together."""

    ON = "on", _("at once")
    OFF = "off", _("not at all")
    HOURLY = "1h", _("once an hour")
    DAILY = "1d", _("once a day")
    WEEKLY = "1w", _("once a week")


EVENT_TYPE_LENGTH = 100
MODEL_EVENTS = (EventType.CREATE.value, EventType.UPDATE.value, EventType.DELETE.value, EventType.M2M.value)
# What a rule on a model may ask for: looking at a row is an event only where a rule says so.
RULE_EVENTS = (*MODEL_EVENTS, EventType.VIEW.value)
# The types of events that say what a row holds. Others may name an object too, and say nothing of its fields.
ROW_EVENTS = (*MODEL_EVENTS, EventType.BASELINE.value, EventType.EXTENDED.value)
# After these an object has no row of its own: it is gone, or part of a multi-table child's row with another key.
LAST_EVENTS = (EventType.DELETE.value, EventType.EXTENDED.value)
AUTH_EVENTS = (EventType.LOGIN.value, EventType.LOGOUT.value, EventType.LOGIN_FAILED.value)
