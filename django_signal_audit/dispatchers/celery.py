"""Delivering by Celery."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, ClassVar

from celery import shared_task
from kombu.pools import producers

from django_signal_audit.dispatchers import get_dispatcher

from .queue import LIMIT, QueueDispatcher

TASK_NAME = "django_signal_audit.deliver"

# Seconds that a request waits for the broker at most, for each step of connecting and publishing.
PATIENCE = 2.0
# Seconds for which a broker that could not be reached is not asked again: the outbox does not need it.
PAUSE = 5.0


class CeleryDispatcher(QueueDispatcher):
    """Has Celery deliver; let its beat run the task ``django_signal_audit.deliver`` too, for retries and lost wakes.

    A broker that is away costs a request no more than a few seconds, and then none for a while: nothing is lost
    without it.
    """

    # What apply_async() gets besides: {"queue": "notifications"}.
    options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._paused_until = 0.0

    def enqueue(self, using: str) -> None:
        """Publish the task, unless the broker was out of reach a moment ago."""
        if monotonic() < self._paused_until:
            return
        try:
            self._publish(using)
        except Exception:
            self._paused_until = monotonic() + PAUSE
            raise

    def _publish(self, using: str) -> None:
        connection = deliver_notifications.app.connection_for_write(
            connect_timeout=PATIENCE,
            # Celery's own connections try to reach a broker again and again, and so would this one.
            transport_options={**_ONCE_MORE, "socket_connect_timeout": PATIENCE, "socket_timeout": PATIENCE},
        )
        with producers[connection].acquire(block=True, timeout=PATIENCE) as producer:
            deliver_notifications.apply_async(
                args=(using, self.limit),
                **{
                    **self.options,
                    "producer": producer,
                    "retry": True,
                    "retry_policy": _ONCE_MORE,
                    "timeout": PATIENCE,
                },
            )


# Brokers close connections that were idle, which shows at the next publish only: so there is a second try, at once.
_ONCE_MORE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


@shared_task(name=TASK_NAME, ignore_result=True)  # type: ignore[untyped-decorator]  # Celery has no types
def deliver_notifications(using: str = "default", limit: int = LIMIT) -> dict[str, int]:
    """Deliver what is due on a database, at most ``limit`` messages."""
    return _dispatcher().drain(using, limit)


def _dispatcher() -> CeleryDispatcher:
    found = get_dispatcher()
    return found if isinstance(found, CeleryDispatcher) else CeleryDispatcher()
