"""What users have chosen, asked for right before a message is sent: an opt-out since its event was written counts.

A locked rule asks nobody. A critical message can be switched off, and is not delayed.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from django.db.models import Model

from django_signal_audit.channels.base import Channel
from django_signal_audit.delivery import digests, outbox
from django_signal_audit.delivery.outbox import LeaseLost
from django_signal_audit.delivery.recipients import PREFERRED, Resolved, username
from django_signal_audit.enums import Choice, Level
from django_signal_audit.events.keys import object_id
from django_signal_audit.exceptions import Unreachable
from django_signal_audit.models import AuditEvent, Mute, Notification, Preference, QuietHours
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.preferences import key_of_tenant
from django_signal_audit.models.renames import current_label
from django_signal_audit.models.tenants import tenant_function
from django_signal_audit.rules.durations import parse_duration
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import NotifyEntry, Rule

_CHUNK = 500


@dataclass(slots=True)
class Chosen:
    """What one user has chosen."""

    choices: dict[tuple[str, str], str] = field(default_factory=dict)
    # By the key of the tenant, the model as it is called today, and the primary key.
    muted: set[tuple[str, str, str]] = field(default_factory=set)
    quiet: QuietHours | None = None

    def choice(self, rule: Rule, entry: NotifyEntry) -> str:
        """Return how the user wants to be notified by an entry of a rule."""
        if rule.locked:
            return Choice.ON
        default = Choice.OFF if entry.opt_in else Choice.ON
        return self.choices.get((rule.name, entry.channel), default)

    def refusal(self, name: str, rule: Rule, entry: NotifyEntry) -> str:
        """Return that the user wants no message of an entry, ``""`` if they want it."""
        if self.choice(rule, entry) != Choice.OFF:
            return ""
        why = "has not opted in to" if (rule.name, entry.channel) not in self.choices else "has switched off"
        return f'the user {name} {why} rule "{rule.name}" by channel "{entry.channel}".'

    def hears_of(self, events: Sequence[AuditEvent]) -> list[AuditEvent]:
        """Return the events about what the user has not muted."""
        tenants = [key_of_tenant(event.tenant if tenant_function() else "") for event in events]
        labels = [current_label(event.model) for event in events]
        named = [(tenant, label, event.object_id) for tenant, label, event in zip(tenants, labels, events, strict=True)]
        return [event for event, name in zip(events, named, strict=True) if name not in self.muted]


def choices_of(keys: Iterable[str]) -> dict[str, Chosen]:
    """Return what users have chosen, by the text of their primary keys, in three queries."""
    found = {key: Chosen() for key in keys}
    names = list(found)
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        for row in Preference.objects.filter(user__in=chunk):
            found[row.user].choices[row.rule, row.channel] = row.choice
        for mute in Mute.objects.filter(user__in=chunk):
            found[mute.user].muted.add((mute.tenant_key, current_label(mute.model), mute.object_id))
        for quiet in QuietHours.objects.filter(user__in=chunk):
            found[quiet.user].quiet = quiet
    return found


class Preferences:
    """What the users of a batch have chosen.

    Args:
        users: The text of their primary keys, as far as they are known; others are asked for one by one.

    """

    def __init__(self, users: Iterable[str]) -> None:
        self._known = choices_of(users)

    def of(self, user: Model) -> Chosen:
        """Return what a user has chosen."""
        key = object_id(user.pk)
        if key not in self._known:
            self._known |= choices_of([key])
        return self._known[key]

    def apply(self, row: Notification, resolved: Resolved, channel: Channel, entry: NotifyEntry) -> Resolved | None:
        """Return what a user gets of a message, None if it is not sent now, but later or with others.

        Raises:
            Unreachable: The user wants none of it, and why.
            LeaseLost: Another worker has the row by now.

        """
        rule = get_registry().rule(row.rule)
        if resolved.user is None or rule is None or rule.locked:
            return resolved
        chosen = self.of(resolved.user)
        events = self._wanted(chosen, rule, entry, resolved)
        if row.level != Level.CRITICAL and _postpone(row, chosen, chosen.choice(rule, entry), channel, resolved.user):
            return None
        return replace(resolved, events=events)

    @staticmethod
    def _wanted(chosen: Chosen, rule: Rule, entry: NotifyEntry, resolved: Resolved) -> Sequence[AuditEvent]:
        name = username(resolved.user) if resolved.user else ""
        if refusal := chosen.refusal(name, rule, entry):
            raise Unreachable(f"{PREFERRED}{refusal}")
        events = chosen.hears_of(resolved.events)
        if not events:
            msg = f"{PREFERRED}the user {name} has muted this object."
            raise Unreachable(msg)
        return events


def _postpone(row: Notification, chosen: Chosen, choice: str, channel: Channel, user: Model) -> bool:
    """Give a row back that its user wants later; return whether it is."""
    window = parse_duration(choice) if choice not in (Choice.ON, Choice.OFF) else None
    if window is not None and not row.is_collected:
        is_held = digests.park_for(row, user, utc_now() + window)
    else:
        end = None if channel.keeps_message or chosen.quiet is None else end_of_quiet(chosen.quiet, utc_now())
        if end is None:
            return False
        is_held = outbox.postpone(row, end)
    if not is_held:
        raise LeaseLost
    return True


def end_of_quiet(quiet: QuietHours, now: dt.datetime) -> dt.datetime | None:
    """Return when the quiet hours end that a moment is in, None if it is in none."""
    try:
        zone: dt.tzinfo = zoneinfo.ZoneInfo(quiet.time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        zone = dt.UTC
    local = now.astimezone(zone)
    clock = local.time()
    is_over_night = quiet.begin > quiet.end
    is_inside = quiet.begin <= clock or clock < quiet.end if is_over_night else quiet.begin <= clock < quiet.end
    if not is_inside:
        return None
    days = 1 if is_over_night and clock >= quiet.begin else 0
    end = dt.datetime.combine(local.date() + dt.timedelta(days=days), quiet.end, zone)
    if end.astimezone(dt.UTC) <= now:
        end = end.replace(fold=1)  # the hour that comes twice: its first end is over
    return end.astimezone(dt.UTC)
