"""What the log says of notifications that are skipped: the first of its kind is a warning."""

from __future__ import annotations

import logging

from django_signal_audit.conf import on_settings_changed
from django_signal_audit.models import Notification

from .targets import THROTTLED

logger = logging.getLogger("django_signal_audit")

# The rules and channels of which this process has warned.
_warned: set[tuple[str, str]] = set()
on_settings_changed(_warned.clear)


def log_skip(row: Notification) -> None:
    """Log that a notification was skipped: a rule whose recipients are never reached must not go unnoticed.

    A warning comes once per rule and channel; what a throttle suppresses was asked for.
    """
    kind = (row.rule, row.channel)
    if kind in _warned or row.last_error.startswith(THROTTLED):
        logger.info("Notification %s (%s) was skipped: %s", row.pk, row, row.last_error)
        return
    _warned.add(kind)
    logger.warning(
        'Notification %s (%s) was skipped: %s Later ones of rule "%s" and channel "%s" are logged as info; '
        "audit_rules --explain says who is not notified.",
        row.pk,
        row,
        row.last_error,
        row.rule,
        row.channel,
    )
