"""What the benchmark of the delivery sends to: nothing, as a channel and as a task, and a clock."""

from __future__ import annotations

import sys
import time

from django.tasks import task

from django_signal_audit.channels.base import Channel, Message


class Nothing(Channel):
    """Takes every message, and does nothing with it."""

    def send(self, message: Message) -> None:
        """Do nothing."""


class Repeatable(Nothing):
    """As little harm as there is in sending nothing, there is in sending it twice."""

    is_repeatable = True


class Reading(Channel):
    """Reads the text of a message, as most channels do, and does nothing with it."""

    def send(self, message: Message) -> None:
        """Have the text made."""
        str(message.body)


class Clock(Channel):
    """Says when each message arrives."""

    def send(self, message: Message) -> None:
        """Print the time."""
        sys.stdout.write(f"{time.time()}\n")
        sys.stdout.flush()


# When messages arrived, by ``time.perf_counter()``.
arrived: list[float] = []


def arrive_now() -> None:
    """Note that a message arrives."""
    arrived.append(time.perf_counter())


class Arrivals(Channel):
    """Notes when each message arrives."""

    def send(self, message: Message) -> None:
        """Note it."""
        arrive_now()


class RepeatableArrivals(Arrivals):
    """The same, for messages that do no harm when they are sent twice."""

    is_repeatable = True


class Waiting(Channel):
    """Takes as long for a message as a server nearby."""

    def send(self, message: Message) -> None:
        """Wait."""
        time.sleep(0.005)


@task
def arrive_as_task() -> None:
    """Arrive, as a task."""
    arrive_now()


@task
def nothing() -> None:
    """Do nothing, as a task."""
