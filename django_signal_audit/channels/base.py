"""What a channel is: a class that takes a message somewhere, or raises."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.checks import CheckMessage, Error
from django.db.models import Model

from django_signal_audit.events.keys import object_id
from django_signal_audit.events.masking import is_secret
from django_signal_audit.problems import did_you_mean

from .preferences import language_problem, preferred_language, preferred_zone, zone_problem

if TYPE_CHECKING:
    from django_signal_audit.models import AuditEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a channel sends.

    ``id`` is the same on every attempt. ``event`` is the event told of, the first one of a digest, whose events are
    all in ``events``. ``attempt`` counts from 1. ``html`` is the text in HTML, for a channel that asks for it.
    """

    id: str
    event: AuditEvent
    events: Sequence[AuditEvent]
    rule: str
    channel: str
    recipient: str
    subject: str
    body: str
    attempt: int
    html: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One key of a channel's OPTIONS: what it must be, in words, and the test of it.

    What is in a ``confidential`` one is shown nowhere; one whose name contains a word of MASK_FIELDS is confidential
    anyway.
    """

    expects: str
    accepts: Callable[[Any], bool]
    required: bool = False
    confidential: bool = False


def is_text(value: object) -> bool:
    """Return whether the value is a string with something in it."""
    return isinstance(value, str) and bool(value)


def is_texts(value: object) -> bool:
    """Return whether the value is a non-empty string or a list of them."""
    return is_text(value) or (isinstance(value, (list, tuple)) and bool(value) and all(map(is_text, value)))


TO_OPTION = Option(expects="a recipient or a list of recipients", accepts=is_texts)


CHECK_PERMISSION_OPTION = Option(expects="True or False", accepts=lambda value: isinstance(value, bool))
# What every channel that is about recipients has.
# What people call "to".
_TO_SYNONYMS = dict.fromkeys(("recipients", "recipient", "emails", "email", "addresses", "address", "users"), "to")

RECIPIENT_OPTIONS: Mapping[str, Option] = {
    "to": TO_OPTION,
    "check_permission": CHECK_PERMISSION_OPTION,
    "language": Option(expects='a language such as "de", or an attribute such as "user.language"', accepts=is_text),
    "time_zone": Option(
        expects='a time zone such as "Europe/Vienna", or an attribute such as "user.time_zone"', accepts=is_text
    ),
}


class Channel(ABC):
    """Base class of channels.

    Subclass it, write ``send``, and name the subclass as BACKEND in ``SIGNAL_AUDIT["CHANNELS"]``. One instance serves
    a process, from several threads.
    """

    # The keys OPTIONS may have; check() reports all others.
    option_schema: ClassVar[Mapping[str, Option]] = RECIPIENT_OPTIONS
    # Does a message of this channel go to somebody in particular?
    needs_recipient: ClassVar[bool] = False
    # Does a recipient have to be a user of this project? A plain recipient is their primary key then.
    recipients_are_users: ClassVar[bool] = False
    # Does the notification row keep subject and body, to be read there?
    keeps_message: ClassVar[bool] = False
    # Does it do no harm to send a message again? Those of a worker that is killed are then some 100, not one: what
    # was sent is noted many at a time, which is several times as fast.
    is_repeatable: ClassVar[bool] = False

    def __init__(self, alias: str, options: Mapping[str, object] | None = None) -> None:
        self.alias = alias
        self.options: Mapping[str, Any] = options or {}

    @abstractmethod
    def send(self, message: Message) -> None:
        """Deliver the message, or raise.

        Raises:
            RetryLater: Not now; try again after its seconds, or after the usual backoff.
            GiveUp: Never; the notification is dead at once.
            Exception: Anything else is retried with backoff.

        """

    def recipients(self) -> tuple[str, ...]:
        """Return the recipients of a rule that names none: option ``to``, or one nameless recipient."""
        to = self.options.get("to", ())
        named = (to,) if isinstance(to, str) else tuple(to)
        return named or ("",)

    @property
    def checks_permission(self) -> bool:
        """Return whether a user is sent only what they may view, by Django's permissions at the moment of sending."""
        return bool(self.options.get("check_permission", True))

    def address(self, user: Model) -> str:
        """Return where a user is reached on this channel, ``""`` if nowhere: their primary key unless overridden."""
        return object_id(user.pk)

    def recipient_problem(self, recipient: str) -> tuple[str, str | None] | None:
        """Return what is wrong with a plain recipient, as in "… names X, which …", and the edit to make."""
        return None

    def mailbox_hint(self, recipient: str) -> str | None:
        """Return what to write for a plain name that may be a recipient and most likely is none, None if it is fine."""
        return None

    def html(self, message: Message) -> str:
        """Return the message in HTML, ``""`` for none; called in the language and time zone of its reader."""
        return ""

    def language(self, user: Model | None) -> str:
        """Return the language that a user is written to in, or somebody who is none."""
        return preferred_language(str(self.options.get("language", "")), user)

    def time_zone(self, user: Model | None) -> dt.tzinfo | None:
        """Return the time zone that a user is told times in, or somebody who is none; None for no zone of theirs."""
        return preferred_zone(str(self.options.get("time_zone", "")), user)

    def check(self) -> list[CheckMessage]:
        """Return what is wrong with the options; extend it in subclasses."""
        problems = [self._check_option(name) for name in self.options]
        missing = [name for name, option in self.option_schema.items() if option.required and name not in self.options]
        problems += [self.error(name, "is missing", f"Add it: {self.option_schema[name].expects}.") for name in missing]
        return [problem for problem in (*problems, *self._check_preferences()) if problem]

    def _check_preferences(self) -> Iterator[CheckMessage]:
        for name, problem_of in (("language", language_problem), ("time_zone", zone_problem)):
            value = self.options.get(name, "")
            problem = problem_of(value) if is_text(value) and name in self.option_schema else None
            if problem:
                what, hint = problem
                yield self.error(name, what, hint or f"It must be {self.option_schema[name].expects}.")

    def _check_option(self, name: str) -> CheckMessage | None:
        option = self.option_schema.get(name)
        if option is None:
            synonyms = _TO_SYNONYMS if "to" in self.option_schema else None
            return self.error(
                name, "isn't an option of this channel", did_you_mean(name, self.option_schema, synonyms=synonyms)
            )
        value = self.options[name]
        if not option.accepts(value):
            hidden = option.confidential or is_secret(str(name))
            shown = f"It is of type {type(value).__name__}." if hidden else f"It is {value!r:.200}."
            return self.error(name, f"must be {option.expects}", shown)
        return None

    def error(self, option: str, what: str, hint: str) -> CheckMessage:
        """Return the check message for an option that is wrong."""
        path = f'SIGNAL_AUDIT["CHANNELS"]["{self.alias}"]["OPTIONS"]["{option}"]'
        return Error(f"{path} {what}.", hint=hint, id="django_signal_audit.E015")
