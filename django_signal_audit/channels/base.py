"""What a channel is: a class that takes a message somewhere, or raises."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.checks import CheckMessage, Error
from django.db.models import Model

from django_signal_audit.conf import get_settings
from django_signal_audit.events.keys import object_id
from django_signal_audit.events.masking import is_secret
from django_signal_audit.problems import did_you_mean, shown
from django_signal_audit.rules.hints import value_hint

from .content import Content
from .preferences import language_problem, preferred_language, preferred_zone, zone_problem

if TYPE_CHECKING:
    from django_signal_audit.models import AuditEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What a message says.

    ``why`` says why its recipient gets it and ``how_to_stop`` how to get no more; a channel adds them to the body.
    ``unsubscribe_url`` is where its user, if it goes to one, gets no more of these messages, ``""`` if that can't be.
    ``content`` is the body in parts, None if the rule has a text of its own.
    """

    subject: str
    body: str
    why: str = ""
    how_to_stop: str = ""
    unsubscribe_url: str = ""
    content: Content | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a channel sends.

    ``id`` is the same on every attempt. ``event`` is the event told of, the first one of a digest, whose events are
    all in ``events``. ``attempt`` counts from 1. ``html`` is the text in HTML, for a channel that asks for it.
    ``text`` may be made only when one of its attributes is read, which the message has too.
    """

    id: str
    event: AuditEvent
    events: Sequence[AuditEvent]
    rule: str
    channel: str
    recipient: str
    attempt: int
    text: Text
    html: str = ""

    @property
    def subject(self) -> str:
        """Return what it is about, in one line."""
        return self.text.subject

    @property
    def body(self) -> str:
        """Return what it says, as plain text."""
        return self.text.body

    @property
    def content(self) -> Content | None:
        """Return the body in parts, None if the rule has a text of its own."""
        return self.text.content

    @property
    def why(self) -> str:
        """Return why its recipient gets it."""
        return self.text.why

    @property
    def how_to_stop(self) -> str:
        """Return how to get no more of these messages."""
        return self.text.how_to_stop

    @property
    def unsubscribe_url(self) -> str:
        """Return where its user gets no more of these messages, ``""`` if that can't be."""
        return self.text.unsubscribe_url

    @property
    def reason(self) -> str:
        """Return why its recipient gets it, and how to get no more."""
        return f"{self.why} {self.how_to_stop}".strip()


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


TRUE_OR_FALSE = "True or False"
CHECK_PERMISSION_OPTION = Option(expects=TRUE_OR_FALSE, accepts=lambda value: isinstance(value, bool))
# What people call "to".
_TO_SYNONYMS = dict.fromkeys(("recipients", "recipient", "emails", "email", "addresses", "address", "users"), "to")

# What every channel that is about recipients has.
RECIPIENT_OPTIONS: Mapping[str, Option] = {
    "to": TO_OPTION,
    "check_permission": CHECK_PERMISSION_OPTION,
    "language": Option(expects='a language such as "de", or an attribute such as "user.language"', accepts=is_text),
    "time_zone": Option(
        expects='a time zone such as "Europe/Vienna", or an attribute such as "user.time_zone"', accepts=is_text
    ),
}


def is_seconds(value: object) -> bool:
    """Return whether the value is a number of seconds: more than 0, and at most a day."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _LONGEST_SECONDS


_LONGEST_SECONDS = 86_400
_SEND_TIMEOUT = Option(expects="seconds, more than 0, at most a day", accepts=is_seconds)
# What every channel has, whatever its own options are.
DELIVERY_OPTIONS: Mapping[str, Option] = {
    "SEND_TIMEOUT": _SEND_TIMEOUT,
    "ordered": Option(expects="True or False", accepts=lambda value: isinstance(value, bool)),
}
# The other options are in small letters, so people write these so too.
_SMALL = {name.lower(): option for name, option in DELIVERY_OPTIONS.items()}
# A channel gives up by itself a little before its thread is given up.
_GRACE_SECONDS = 5.0


class Channel(ABC):
    """Base class of channels.

    Subclass it, write ``send``, and name the subclass as BACKEND in ``SIGNAL_AUDIT["CHANNELS"]``. One instance serves
    a process, from several threads.
    """

    # The keys OPTIONS may have; check() reports all others.
    option_schema: ClassVar[Mapping[str, Option]] = RECIPIENT_OPTIONS
    # Whether a message of this channel needs a recipient.
    needs_recipient: ClassVar[bool] = False
    # Whether a recipient has to be a user of this project. A plain recipient is then their primary key.
    recipients_are_users: ClassVar[bool] = False
    # Whether the notification's row keeps the subject and the body, to be read there.
    keeps_message: ClassVar[bool] = False
    # Whether sending a message twice does no harm. Many results are then saved together, which is several times as
    # fast, and a worker that is killed repeats some 100 messages instead of one.
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
    def send_timeout(self) -> float:
        """Return the seconds after which a send counts as hung: option ``SEND_TIMEOUT``, or that of the settings.

        If the channel has a timeout of its own that is longer, it is a little longer than that.
        """
        own = self.options.get("SEND_TIMEOUT", self.options.get("send_timeout"))
        if is_seconds(own):
            return float(own)
        longest = self.options.get("timeout", 0)
        return max(get_settings().send_timeout, longest + _GRACE_SECONDS if is_seconds(longest) else 0)

    @property
    def is_ordered(self) -> bool:
        """Return whether messages about one object to one recipient are sent in the order of their events."""
        return self.options.get("ordered") is True

    @property
    def checks_permission(self) -> bool:
        """Return whether a user is sent only what they may view, by Django's permissions at the time of sending."""
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
        known = {**DELIVERY_OPTIONS, **self.option_schema}
        option = known.get(name) or _SMALL.get(name)
        if option is None:
            synonyms = _TO_SYNONYMS if "to" in self.option_schema else None
            return self.error(name, "isn't an option of this channel", did_you_mean(name, known, synonyms=synonyms))
        value = self.options[name]
        if not option.accepts(value):
            hidden = option.confidential or is_secret(str(name))
            said = f"It is of type {type(value).__name__}." if hidden else f"It is {shown(value)}."
            return self.error(name, f"must be {option.expects}", self._meant(name, option, value) or said)
        return None

    def _meant(self, name: str, option: Option, value: object) -> str:
        """Return the edit to make to an option that is wrong, ``""`` if it isn't known; it shows no secret."""
        if value == "":
            return "It is empty. If an environment variable holds it, that isn't set."
        if option.confidential or is_secret(str(name)):
            return "It is bytes. Write a string: .decode()." if isinstance(value, bytes) else ""
        key = "enabled" if option.expects == TRUE_OR_FALSE else "when" if callable(value) else name
        return value_hint(key, value)

    def error(self, option: str, what: str, hint: str) -> CheckMessage:
        """Return the check message for an option that is wrong."""
        return Error(f"{self._path(option)} {what}.", hint=hint, id="django_signal_audit.E015")

    def _path(self, option: str) -> str:
        return f'SIGNAL_AUDIT["CHANNELS"]["{self.alias}"]["OPTIONS"]["{option}"]'
