"""What a dispatcher is: it wakes the delivery, and nothing more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from django.core.checks import CheckMessage


class Dispatcher(ABC):
    """Base class of dispatchers: subclass it, write ``wake``, and name the subclass as ``SIGNAL_AUDIT["DISPATCHER"]``.

    Retries and state stay in the outbox. A wake that is lost costs the time until a worker polls, never a message.
    """

    # Do workers deliver what this one leaves? On PostgreSQL those that listen are told when the rows commit.
    workers_listen: ClassVar[bool] = False

    @abstractmethod
    def wake(self, using: str, ids: Sequence[int]) -> None:
        """Have notifications delivered once the transaction that wrote them has committed.

        Called inside that transaction, so it must neither send nor query.

        Args:
            using: The database they are on.
            ids: Their primary keys.

        """

    def check(self) -> list[CheckMessage]:
        """Return what is wrong with the project for this dispatcher; nothing unless overridden."""
        return []
