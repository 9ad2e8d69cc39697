"""Rolling deploys: what the settings of a worker don't know is left to workers whose settings do, and named.

A row's rule, its channel or its channel's template may be newer than the worker, or be gone from the settings since.
Nothing is sent then, as the text would be another than the rule's, and no attempt is spent.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from dataclasses import dataclass

from django.db.models import Count, Min

from django_signal_audit.conf import get_settings
from django_signal_audit.delivery import outbox
from django_signal_audit.delivery.order import DEPLOY
from django_signal_audit.events.documents import printable
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import NotifyEntry

logger = logging.getLogger("django_signal_audit")

# After that it is no deploy any more.
ALARM = DEPLOY
# How often is looked for it, and how often it is logged.
_LOOK_SECONDS = 60.0
_LOG_SECONDS = 3600.0
_STATUS = Notification.STATUS


@dataclass(frozen=True, slots=True)
class Left:
    """Notifications of one rule by one channel that wait for a worker whose settings know them, and since when."""

    rule: str
    channel: str
    count: int
    since: dt.datetime

    @property
    def is_alarming(self) -> bool:
        """Return whether they have been waiting for longer than a deploy takes."""
        return utc_now() - self.since > ALARM

    def __str__(self) -> str:
        wait = "waits" if self.count == 1 else "wait"
        return (
            f'{self.count} of rule "{printable(self.rule)}" by channel "{printable(self.channel)}" {wait} since '
            f"{self.since:%Y-%m-%d %H:%M:%S} UTC for a worker whose settings know both"
        )


def left_to_others(using: str) -> list[Left]:
    """Return what a worker has left because its settings don't know it, or will leave by the settings in force."""
    rows = Notification.objects.using(using).filter(status__in=outbox.UNFINISHED).order_by()
    noted = rows.filter(unknown_since__isnull=False).values_list("rule", "channel")
    found = list(noted.annotate(count=Count("pk"), since=Min("unknown_since")))
    unserved = rows.filter(unknown_since=None, available_at__lte=utc_now()).exclude(channel__in=get_settings().channels)
    found += unserved.values_list("rule", "channel").annotate(count=Count("pk"), since=Min("available_at"))
    return [Left(*row) for row in sorted(found)]


class Unknown:
    """What the settings of this process don't know, as far as it has come across it."""

    def __init__(self) -> None:
        # Why a channel isn't served, and the rules that are left, by channel.
        self._channels: dict[str, str] = {}
        self._rules: dict[str, set[str]] = {}
        self._next_look = self._next_log = 0.0

    def rules_of(self, alias: str | None) -> frozenset[str]:
        """Return the rules whose messages are not to be claimed, of a channel."""
        return frozenset(self._rules.get(alias or "", ()))

    def serves(self, alias: str) -> bool:
        """Return whether the messages of a channel can be sent here."""
        if alias not in self._channels and alias not in get_settings().channels:
            self.note_channel(alias, f'the channel "{printable(alias)}"')
        return alias not in self._channels

    def leaves(self, alias: str) -> bool:
        """Return whether something is known to be missing for the messages of a channel."""
        return alias in self._channels

    def note_channel(self, alias: str, what: str) -> str:
        """Note that something is missing for the messages of a channel, and return what is to be said of it."""
        self._channels[alias] = what
        return self._say(what)

    def reason(self, row: Notification) -> str:
        """Return why a row is left to others, ``""`` if it can be sent here."""
        if row.channel in self._channels:
            return self._say(self._channels[row.channel], is_new=False)
        rule = get_registry().rule(row.rule)
        if rule is None:
            what = f'the rule "{printable(row.rule)}"'
        elif row.channel not in {NotifyEntry.of(entry).channel for entry in rule.notify}:
            what = f'that the rule "{printable(row.rule)}" notifies by channel "{printable(row.channel)}"'
        else:
            return ""
        known = self._rules.setdefault(row.channel, set())
        is_new = row.rule not in known
        known.add(row.rule)
        return self._say(what, is_new=is_new)

    @staticmethod
    def _say(what: str, *, is_new: bool = True) -> str:
        text = f"Left to other workers: the settings of this one don't know {what}."
        if is_new:
            logger.warning("%s", text)
        return text

    def raise_alarm(self, using: str) -> None:
        """Note what is left unclaimed, and log once an hour what has been left for longer than a deploy takes."""
        now = time.monotonic()
        if not (self._rules or self._channels) or now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        self._note_rest(using)
        if now < self._next_log:
            return
        late = [left for left in left_to_others(using) if left.is_alarming]
        if late:
            self._next_log = now + _LOG_SECONDS
            logger.error(
                "Notifications wait for settings that no worker has: %s. Bring the rules or channels back, or run "
                "audit_deliver --discard-pending.",
                "; ".join(map(str, late)),
            )

    def _note_rest(self, using: str) -> None:
        """Note since when the others of these rules and channels wait, which are not claimed any more."""
        due = Notification.objects.using(using).filter(
            status__in=(_STATUS.pending, _STATUS.failed), unknown_since=None, available_at__lte=utc_now()
        )
        known = get_settings().channels
        left = [due.filter(channel=alias, rule__in=rules) for alias, rules in self._rules.items()]
        left += [due.filter(channel=alias) for alias in self._channels if alias in known]
        for rows in left:
            rows.update(unknown_since=utc_now())
