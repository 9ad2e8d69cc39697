"""Registering something for after the commit."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import transaction
from django.db.transaction import TransactionManagementError

logger = logging.getLogger("django_signal_audit")


def after_commit(callback: Callable[[], None], using: str) -> None:
    """Have the callback run once the transaction has committed; if it or its savepoint rolls back, never."""
    try:
        transaction.on_commit(callback, using=using, robust=True)
    except TransactionManagementError:
        # Autocommit is off and no atomic block is open: Django cannot know of the commit, so a worker has to.
        logger.debug("No commit hook without autocommit: the notifications are left to a worker.")
