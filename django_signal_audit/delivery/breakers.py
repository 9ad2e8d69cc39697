"""Breakers: a channel that fails again and again is suspended for a growing while, by everybody who sends.

While it is (open), nothing of it is claimed, so no attempt is spent. Then (half open) one message is tried by one
worker: if that is sent the channel is as it was (closed), and if not it is suspended for twice as long.
"""

from __future__ import annotations

import datetime as dt
import logging
import smtplib
import threading
from typing import Any

from django.db import transaction
from django.db.models import Case, F, When

from django_signal_audit.channels import get_channel
from django_signal_audit.channels.base import Channel
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.events.documents import printable
from django_signal_audit.models import ChannelState, Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.signals import channel_failing, channel_recovered

logger = logging.getLogger("django_signal_audit")

# So many messages in a row have to fail.
MOST_FAILURES = 5
# One is enough where nobody answers, or where it took so long: everybody after it would wait as long.
SLOW_SECONDS = 1.0
FIRST_SECONDS = 15.0
LONGEST_SECONDS = 900.0
# What a worker may take besides, between claiming the message that is tried and noting how it went.
_MARGIN_SECONDS = 10.0

# Errors of the operating system that are about files, and those where a mail server did answer.
_ANSWERED = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    smtplib.SMTPRecipientsRefused,
    smtplib.SMTPResponseException,
)


def is_out_of_reach(error: BaseException | None) -> bool:
    """Return whether an error says that nobody answers: no connection, no such host, no answer in time."""
    while error is not None:
        if isinstance(error, smtplib.SMTPConnectError):
            return True
        if isinstance(error, OSError):
            return not isinstance(error, _ANSWERED)
        error = error.__cause__
    return False


def pause(openings: int) -> dt.timedelta:
    """Return for how long a channel is suspended, the first time, the second and so on."""
    return dt.timedelta(seconds=min(FIRST_SECONDS * 2.0 ** min(openings - 1, 20), LONGEST_SECONDS))


class Breakers:
    """The breakers of all channels, as the threads of a process see them."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._states: dict[str, ChannelState] = {}
        # The channels through which this process tries a message.
        self._trying: set[str] = set()
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """See what others have found."""
        states = {state.channel: state for state in ChannelState.objects.using(self.using)}
        with self._lock:
            self._states = states

    @property
    def shut(self) -> list[str]:
        """Return the channels that nothing is to be sent by now."""
        return [alias for alias in list(self._states) if self.is_shut(alias)]

    def is_shut(self, alias: str) -> bool:
        """Return whether nothing is to be sent by a channel now."""
        state = self._states.get(alias)
        return state is not None and (state.paused_at is not None or _is_open(state))

    def is_half_open(self, alias: str) -> bool:
        """Return whether one message of a channel may be tried."""
        state = self._states.get(alias)
        return state is not None and state.until is not None and not self.is_shut(alias)

    def may_send(self, alias: str) -> bool:
        """Return whether a message is to be sent by a channel; of one that is half open, this is the one to try."""
        if self.is_shut(alias):
            return False
        return not self.is_half_open(alias) or self._try(alias)

    def _try(self, alias: str) -> bool:
        state = self._states[alias]
        until = utc_now() + dt.timedelta(seconds=_longest_try(alias))
        if not self._rows(alias).filter(until=state.until).update(until=until):
            state.until = until  # somebody else tries one
            return False
        with self._lock:
            state.until = until
            self._trying.add(alias)
        return True

    def _rows(self, alias: str) -> Any:
        return ChannelState.objects.using(self.using).filter(pk=alias)

    def end_try(self, alias: str) -> None:
        """Have another message tried, if the one of this process came to no send at all."""
        with self._lock:
            is_trying, state = alias in self._trying, self._states.get(alias)
            self._trying.discard(alias)
        if is_trying and state is not None:
            now = utc_now()
            self._rows(alias).filter(until=state.until).update(until=now)
            state.until = now

    def note_success(self, alias: str) -> None:
        """Note that a channel has answered. It costs nothing unless it had failed."""
        state = self._states.get(alias)
        if state is None or not (state.failures or state.openings):
            return
        with self._lock:
            self._trying.discard(alias)
            self._states[alias] = ChannelState(channel=alias, paused_at=state.paused_at)
        closed = {"failures": 0, "last_failed": None, "openings": 0, "since": None, "until": None}
        if self._rows(alias).filter(openings__gt=0).update(**closed):
            logger.warning('The channel "%s" sends again.', printable(alias))
            channel_recovered.send_robust(ChannelState, state=state, using=self.using)
        else:
            self._rows(alias).update(**closed)

    def note_failure(self, row: Notification, error: Exception, channel: Channel | None, seconds: float) -> None:
        """Note that a send has failed after so many seconds, and leave the channel alone if that is enough."""
        alias, text = row.channel, describe(error, channel)
        with self._lock:
            is_try = alias in self._trying
            self._trying.discard(alias)
        if not self._rows(alias).exists():
            # Outside of the transaction: on MySQL two that insert the same key would deadlock.
            ChannelState.objects.using(self.using).bulk_create([ChannelState(channel=alias)], ignore_conflicts=True)
        with transaction.atomic(using=self.using):
            again = When(last_failed=row.pk, then=F("failures"))
            self._rows(alias).update(
                failures=Case(again, default=F("failures") + 1), last_failed=row.pk, last_error=text
            )
            state = self._rows(alias).get()
            is_enough = is_out_of_reach(error) or seconds >= SLOW_SECONDS or state.failures >= MOST_FAILURES
            is_opened = is_try or (is_enough and not _is_open(state))
            if is_opened:
                self._open(state)
        with self._lock:
            self._states[alias] = state
        if is_opened and state.openings == 1:
            channel_failing.send_robust(ChannelState, state=state, using=self.using)

    def _open(self, state: ChannelState) -> None:
        now = utc_now()
        state.openings += 1
        state.since, state.until = state.since or now, now + pause(state.openings)
        state.save(using=self.using, update_fields=["openings", "since", "until"])
        logger.warning(
            'The channel "%s" fails and is suspended for %.0f s: %s',
            printable(state.channel),
            pause(state.openings).total_seconds(),
            printable(state.last_error),
        )


def set_paused(using: str, alias: str, *, is_paused: bool) -> bool:
    """Have nothing sent by a channel until it is resumed, or resume it; return whether that is new."""
    states = ChannelState.objects.using(using)
    if is_paused:
        states.bulk_create([ChannelState(channel=alias)], ignore_conflicts=True)
    changed = states.filter(pk=alias, paused_at__isnull=is_paused)
    return bool(changed.update(paused_at=utc_now() if is_paused else None))


def _is_open(state: ChannelState) -> bool:
    # One that is suspended for longer than anybody would is so by a clock that was wrong.
    now, longest = utc_now(), dt.timedelta(seconds=LONGEST_SECONDS + _longest_try(state.channel))
    return state.until is not None and now < state.until <= now + longest


def _longest_try(alias: str) -> float:
    """Return how long it may take to try a message."""
    try:
        return get_channel(alias).send_timeout + _MARGIN_SECONDS
    except Exception:  # noqa: BLE001  # a channel that cannot be made sends nothing, which is seen there
        return _MARGIN_SECONDS
