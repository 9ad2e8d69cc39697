"""The base class of dispatchers, which only trigger delivery."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from django.core.checks import CheckMessage
from django.db import transaction
from django.db.transaction import TransactionManagementError


class Dispatcher(ABC):
    """Base class of dispatchers: subclass it, write ``wake``, and name the subclass as ``SIGNAL_AUDIT["DISPATCHER"]``.

    Retries and state stay in the outbox. A wake that is lost costs the time until a worker polls, never a message.
    """

    # Whether workers deliver what this dispatcher leaves. On PostgreSQL, a commit then notifies those that listen.
    workers_listen: ClassVar[bool] = False

    @abstractmethod
    def wake(self, using: str, ids: Sequence[int]) -> None:
        """Have notifications delivered once the transaction that wrote them has committed.

        It is called inside that transaction, so it must neither send nor query.

        Args:
            using: The database they are on.
            ids: Their primary keys.

        """

    def check(self) -> list[CheckMessage]:
        """Return what is wrong with the project for this dispatcher; nothing unless overridden."""
        return []


logger = logging.getLogger("django_signal_audit")


def after_commit(callback: Callable[[], None], using: str) -> None:
    """Have the callback run once the transaction has committed; if it or its savepoint rolls back, never."""
    try:
        transaction.on_commit(callback, using=using, robust=True)
    except TransactionManagementError:
        # Autocommit is off and no atomic block is open: Django cannot know of the commit, so a worker has to.
        logger.debug("No commit hook without autocommit: the notifications are left to a worker.")
