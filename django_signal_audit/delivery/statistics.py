"""How the outbox is doing: how many rows are in which state, how late the oldest is, and what takes long."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from django.db.models import Min
from django.utils import timezone

from django_signal_audit.conf import get_settings
from django_signal_audit.delivery.recipients import PREFERRED, THROTTLED
from django_signal_audit.events.documents import printable
from django_signal_audit.models import ChannelState, Notification
from django_signal_audit.models.events import utc_now

from . import outbox
from .unknown import left_to_others

STATUS = Notification.STATUS

# What has been sending for longer is named.
LONG = dt.timedelta(seconds=10)
# So many are named.
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Statistics:
    """The state of an outbox.

    Attributes:
        by_status: How many rows are in each status, all of them named.
        oldest: For how long the oldest pending row has been due, None if none is.
        lapsed: How many claims have lapsed: their workers died, or take longer than their lease.
        collecting: How many pending rows wait for the end of a digest's window.
        throttled: How many of the skipped ones were too much for a throttle.
        unwanted: How many of the skipped ones their users did not want.

    """

    by_status: dict[str, int]
    oldest: dt.timedelta | None
    lapsed: int
    collecting: int
    throttled: int
    unwanted: int


def collect_statistics(using: str) -> Statistics:
    """Return the state of the outbox of a database."""
    rows = Notification.objects.using(using).order_by()
    return Statistics(
        by_status=outbox.count_by_status(using),
        oldest=outbox.oldest_pending_age(using),
        lapsed=outbox.due(using, STATUS.claimed).count(),
        collecting=rows.filter(status=STATUS.pending).exclude(digest_key="").count(),
        throttled=rows.filter(status=STATUS.skipped, last_error__startswith=THROTTLED).count(),
        unwanted=rows.filter(status=STATUS.skipped, last_error__startswith=PREFERRED).count(),
    )


@dataclass(frozen=True, slots=True)
class Send:
    """A message that is being sent, by which channel, and for how long."""

    pk: int
    channel: str
    age: dt.timedelta

    def __str__(self) -> str:
        seconds = f"{self.age.total_seconds():.0f} s (since {_moment(utc_now() - self.age)})"
        return f'notification {self.pk} has been sending by channel "{printable(self.channel)}" for {seconds}'


def long_sends(using: str) -> list[Send]:
    """Return the messages that have been sending for long, the longest first."""
    rows = Notification.objects.using(using).filter(status=STATUS.claimed, available_at__gt=utc_now())
    found = rows.order_by("status_changed").values_list("pk", "channel", "status_changed")
    sends = [Send(pk, channel, timezone.now() - since) for pk, channel, since in found[:MOST_NAMED]]
    return [send for send in sends if send.age > LONG]


def troubled_channels(using: str) -> list[str]:
    """Return what is to be said of the channels that are suspended or paused, a line for each."""
    lines = []
    for state in ChannelState.objects.using(using).order_by("channel"):
        name = printable(state.channel)
        if state.paused_at is not None:
            lines.append(f'channel "{name}" is paused since {_moment(state.paused_at)}')
        if state.until is not None and state.since is not None:
            lines.append(
                f'channel "{name}" fails since {_moment(state.since)} and is suspended until {_moment(state.until)}: '
                f"{printable(state.last_error)}"
            )
    return lines


def _moment(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def lateness(using: str, is_served: Callable[[str], bool] = lambda alias: True) -> dt.timedelta:
    """Return for how long the oldest row that is due, in whatever status, has been waiting; zero if none is.

    A message that is being sent counts too, once that takes long. One that is left to workers whose settings know it
    has longer, see ``unknown.py``.

    Args:
        using: The database.
        is_served: Whether a channel is one of those that are looked at.

    """
    known = {"channel__in": list(filter(is_served, get_settings().channels)), "unknown_since": None}
    due = [outbox.due(using, status).filter(**known) for status in outbox.UNFINISHED]
    moments = [rows.aggregate(oldest=Min("available_at"))["oldest"] for rows in due]
    now = utc_now()
    ages = [now - moment for moment in moments if moment]
    return max([*ages, *(send.age for send in long_sends(using) if is_served(send.channel))], default=dt.timedelta())


def prometheus(using: str) -> str:
    """Return the state of the outbox in the text format of Prometheus."""
    return "".join(f"{line}\n" for line in _lines(using))


def _lines(using: str) -> Iterator[str]:
    found, sends = collect_statistics(using), long_sends(using)
    left = sum(item.count for item in left_to_others(using))
    by_status = [({"status": status}, count) for status, count in found.by_status.items()]
    yield from _metric(using, "notifications", "Notifications by status.", by_status)
    plain = {
        "oldest_due_seconds": ("For how long the oldest notification has been due.", lateness(using).total_seconds()),
        "expired_leases": ("Claims whose workers died.", found.lapsed),
        "in_digest": ("Pending notifications that wait for the end of a digest.", found.collecting),
        "left_to_others": ("Notifications that wait for a worker whose settings know their rule.", left),
        "throttled": ("Notifications that a throttle has suppressed.", found.throttled),
        "unwanted": ("Notifications that their users did not want.", found.unwanted),
    }
    for name, (text, value) in plain.items():
        yield from _metric(using, name, text, [({}, value)])
    states = list(ChannelState.objects.using(using).order_by("channel"))
    failing = [({"channel": state.channel}, int(state.until is not None)) for state in states]
    yield from _metric(using, "channel_failing", "Whether a channel is suspended because it fails.", failing)
    paused = [({"channel": state.channel}, int(state.paused_at is not None)) for state in states]
    yield from _metric(using, "channel_paused", "Whether somebody has paused a channel.", paused)
    long = [({"channel": send.channel, "notification": str(send.pk)}, send.age.total_seconds()) for send in sends]
    yield from _metric(using, "long_send_seconds", "For how long messages have been sending that take long.", long)


def _metric(using: str, name: str, text: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    yield f"# HELP signal_audit_{name} {text}"
    yield f"# TYPE signal_audit_{name} gauge"
    for labels, value in samples:
        # Several databases make several files. A collector would take one sample of each name from all of them.
        listed = ",".join(f'{key}="{_escaped(label)}"' for key, label in {"database": using, **labels}.items())
        yield f"signal_audit_{name}{{{listed}}} {_number(value)}"


def _number(value: float) -> str:
    """Return all digits of a count, and the milliseconds of a time."""
    return str(value) if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
