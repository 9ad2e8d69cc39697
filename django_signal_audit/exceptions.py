"""The one family of exceptions this package raises."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured


class SignalAuditError(Exception):
    """Base class of every error of this package. Do not raise directly."""


class InvalidSettings(SignalAuditError, ImproperlyConfigured):
    """SIGNAL_AUDIT holds a mistake; ``manage.py check`` names them all.

    ``message`` says what is wrong and where, ``hint`` the edit to make; the text of the exception is both.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".rstrip())
        self.message, self.hint = message, hint


class EventNotWritten(SignalAuditError):
    """A change could not be recorded, so with ``ON_ERROR="raise"`` it does not happen."""


class ImmutableEvent(SignalAuditError, TypeError):
    """An audit event was to be changed or deleted outside the pruning API."""


class DeliveryError(SignalAuditError):
    """Base class of what a channel raises to steer the next attempt.

    ``shown_characters`` is how much of its text is noted, at most 2,000 characters; None for as many as that.
    """

    shown_characters: int | None = None


class RetryLater(DeliveryError):
    """The message could not be sent now; try again.

    ``seconds`` is the wait the receiver asked for, or None for the usual backoff.
    """

    def __init__(self, reason: object = "", *, seconds: float | None = None) -> None:
        # RetryLater(30) reads naturally, so a bare number is the wait and not the reason.
        if isinstance(reason, (int, float)) and seconds is None:
            seconds, reason = float(reason), f"the receiver asked to wait {reason} s"
        super().__init__(str(reason))
        self.seconds = seconds


class GiveUp(DeliveryError):
    """The message can never be sent: the notification is dead at once."""


class Unreachable(DeliveryError):
    """Nobody is to get the message: the notification is skipped, and this is the reason."""
