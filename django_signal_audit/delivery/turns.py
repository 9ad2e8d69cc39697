"""Whose turn it is: how the threads of a worker are shared between channels, and how much each claims at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from django_signal_audit.channels import get_channel
from django_signal_audit.delivery import outbox
from django_signal_audit.delivery.breakers import Breakers
from django_signal_audit.delivery.order import is_ordered
from django_signal_audit.delivery.unknown import Unknown
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.models import Notification
from django_signal_audit.models.notifications import LEAST_PRIORITIES

STATUS = Notification.STATUS

# As many rows are claimed together as can be expected to be sent in this time, and no more than that.
HORIZON_SECONDS = 0.25
BATCH_SIZE = 100
# A channel is slow if a message takes longer than that.
SLOW_SECONDS = 0.5
# Every so many claims of a channel begin with what is less urgent.
FAVOURED_EVERY = 4


@dataclass(slots=True)
class Lane:
    """What is known of a channel.

    Attributes:
        alias: The channel.
        statuses: In which statuses something waits, as far as is known; none if there is nothing to claim.
        busy: How many threads have it.
        seconds: How long a message takes, None before the first.
        first: The priority and the time of what comes first.
        turns: How many turns it has had.
        last: The number of its latest turn, of those of all channels.

    """

    alias: str
    statuses: Collection[str] = ()
    first: tuple[Any, ...] = ()
    busy: int = 0
    seconds: float | None = None
    turns: int = 0
    last: int = 0

    @property
    def is_quick(self) -> bool:
        """Return whether its messages take little time. Of one that sent nothing yet, nobody knows."""
        return self.seconds is not None and self.seconds < SLOW_SECONDS


@dataclass(frozen=True, slots=True)
class Turn:
    """What a thread is to claim: so many rows of a channel, beginning with those of a priority if it says one."""

    alias: str
    size: int
    statuses: Collection[str]
    # The number of the look that found them: what a later one found is not gone because this turn found nothing.
    look: int
    number: int
    favoured: int | None = None


class Turns:
    """Shares threads between channels. Those with the fewest threads come first, and then who has waited longest.

    Of those that had no turn yet, the one with the most urgent message comes first.

    A slow channel never gets the last thread, nor do all slow ones together: what is quick is not held up by them.
    Of one that has sent nothing yet nobody knows, so it gets one thread. Where slow ones have all that they may, each
    other channel that has none waits for a further thread, see ``missing``.

    Args:
        using: The database of the outbox.
        threads: How many threads there are.
        first: How many rows are claimed of a channel that nothing is known about yet.
        limit: How many rows are claimed at most in all.
        breakers: Those of the channels.
        unknown: What the settings of this process don't know.
        is_served: Whether a channel is one of those to send by.

    """

    def __init__(
        self,
        using: str,
        *,
        threads: int = 1,
        first: int = 1,
        limit: int | None = None,
        breakers: Breakers | None = None,
        unknown: Unknown | None = None,
        is_served: Callable[[str], bool] = lambda alias: True,
    ) -> None:
        self.using, self.threads, self.first = using, threads, first
        # How many threads there are now: some more than there should be while others do not come back.
        self._present = threads
        self.left = limit
        self.breakers = breakers or Breakers(using)
        self.unknown = unknown or Unknown()
        self._is_served = is_served
        self._lanes: dict[str, Lane] = {}
        self._count = self._looks = 0
        self._changed = threading.Condition()
        # Has something been claimed since the latest look?
        self._is_stale = True
        # The numbers of the turns that have not ended.
        self._open: set[int] = set()

    def refresh(self) -> None:
        """Look which channels have something waiting."""
        with self._changed:
            self._is_stale = False
        found = outbox.waiting_channels(self.using)
        self.breakers.refresh()
        served = [alias for alias in filter(self._is_served, found) if self.unknown.serves(alias)]
        self.unknown.raise_alarm(self.using)
        with self._changed:
            self._looks += 1
            for lane in self._lanes.values():
                lane.statuses = ()
            for alias in served:
                lane = self._lanes.setdefault(alias, Lane(alias))
                lane.statuses, lane.first = found[alias].statuses, found[alias].first
            self._changed.notify_all()

    def take(self, wait: float = 0.0) -> Turn | None:
        """Return the next turn, None if there is nothing to claim that this thread may.

        Args:
            wait: Wait so many seconds for one.

        """
        with self._changed:
            must_look = self._next() is None and self._is_stale
        if must_look:
            self.refresh()
        with self._changed:
            if self._next() is None and wait:
                self._changed.wait(wait)
            lane = self._next()
            return None if lane is None else self._begin(lane)

    def give_back(self, turn: Turn, *, claimed: int, tried: int, seconds: float | None) -> None:
        """End a turn; one that has ended already stays as it is.

        Args:
            turn: The turn.
            claimed: How many rows it claimed.
            tried: How many of them were tried, and not given back.
            seconds: How long a message took, None if none was sent.

        """
        with self._changed:
            if turn.number not in self._open:
                return
            self._open.remove(turn.number)
            lane = self._lanes[turn.alias]
            lane.busy -= 1
            # Of claims that have lapsed, each turn takes over one.
            may_be_more = claimed == turn.size or (claimed and STATUS.claimed in turn.statuses)
            if not may_be_more and turn.look == self._looks:
                lane.statuses = ()
            # What was sent may have made more.
            self._is_stale = self._is_stale or claimed > 0
            lane.seconds = lane.seconds if seconds is None else seconds
            if self.left is not None:
                self.left += turn.size - tried
            self._changed.notify_all()

    def note_slow(self, alias: str, seconds: float) -> None:
        """Note that a message of a channel has been under way for so long."""
        with self._changed:
            lane = self._lanes.get(alias)
            if lane is not None and seconds > (lane.seconds or 0):
                lane.seconds = seconds

    def note_threads(self, count: int) -> None:
        """Note how many threads there are now."""
        with self._changed:
            self._present = count
            self._changed.notify_all()

    def wake_all(self) -> None:
        """Have those who wait for a turn look around."""
        with self._changed:
            self._changed.notify_all()

    def missing(self, slow: int) -> int:
        """Return how many further threads would send something that waits for messages of other channels.

        Where all are at messages that take long, it is one for each channel that may be quick: if these hang as well,
        none of them waits for another to be found out.

        Args:
            slow: How many threads are at messages that take long.

        """
        with self._changed:
            lanes = self._ready()
            urgent = [lane for lane in lanes if (lane.seconds is None or lane.is_quick) and self._may_begin(lane)]
            if slow >= self._present and urgent:
                return len(urgent)
            # One of the threads is kept for what is quick.
            is_waiting = any(lane.busy == 0 and not self._may_begin(lane) for lane in lanes)
            return int(slow >= self._present - 1 and is_waiting)

    @property
    def is_idle(self) -> bool:
        """Return whether nobody has a turn, and nobody could get one."""
        with self._changed:
            return self._rests()

    def wait_until_idle(self, seconds: float) -> bool:
        """Return whether nobody has a turn, and nobody could get one, after so many seconds at most."""
        with self._changed:
            return self._changed.wait_for(self._rests, seconds)

    def _rests(self) -> bool:
        is_spent = self.left is not None and self.left <= 0
        return not self._open and self._next() is None and (is_spent or not self._is_stale)

    def _next(self) -> Lane | None:
        if self.left is not None and self.left <= 0:
            return None
        free = [lane for lane in self._ready() if self._may_begin(lane)]
        return min(free, key=lambda lane: (lane.busy, lane.last, lane.first), default=None)

    def _ready(self) -> list[Lane]:
        lanes = (lane for lane in self._lanes.values() if lane.statuses and not self.breakers.is_shut(lane.alias))
        # What is left to others is due at once: to claim it again would never end.
        return [lane for lane in lanes if not self.unknown.leaves(lane.alias)]

    def _may_begin(self, lane: Lane) -> bool:
        # Nothing is to be kept free for others where there are none.
        if len(self._lanes) == 1:
            return True
        if lane.seconds is None:
            return lane.busy == 0
        most = max(1, self.threads - 1)
        if lane.busy >= most:
            return False
        slow = sum(other.busy for other in self._lanes.values() if not other.is_quick)
        # What others are at must not keep a channel waiting that has no thread, if there is one more.
        return lane.is_quick or slow < (most if lane.busy else max(most, self._present - 1))

    def _begin(self, lane: Lane) -> Turn:
        self._count += 1
        lane.busy += 1
        lane.turns += 1
        lane.last = self._count
        size, statuses = self._size(lane), lane.statuses
        if self.breakers.is_half_open(lane.alias):
            lane.statuses = ()  # until one has been tried
        if self.left is not None:
            size = min(size, self.left)
            self.left -= size
        rounds, is_favour = divmod(lane.turns, FAVOURED_EVERY)
        favoured = None if is_favour else LEAST_PRIORITIES[rounds % len(LEAST_PRIORITIES)]
        self._open.add(self._count)
        return Turn(lane.alias, size, statuses, self._looks, self._count, favoured)

    def _size(self, lane: Lane) -> int:
        if self.breakers.is_half_open(lane.alias):
            return 1
        if is_ordered(lane.alias):
            return 1  # of an object's messages, there is never more than one to send
        if _is_repeatable(lane.alias):
            return BATCH_SIZE
        if lane.seconds is None:
            return self.first
        return max(1, min(BATCH_SIZE, int(HORIZON_SECONDS / max(lane.seconds, 1e-6))))


def _is_repeatable(alias: str) -> bool:
    try:
        return get_channel(alias).is_repeatable
    except InvalidSettings:
        return False


def serving(only: Collection[str], without: Collection[str]) -> Callable[[str], bool]:
    """Return the test whether a channel is served: one of these, or any but those."""
    return lambda alias: (not only or alias in only) and alias not in without
