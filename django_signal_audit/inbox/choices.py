"""What a user may choose: the rules that concern them by channel, quiet hours, and the objects they have muted."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.exceptions import BadRequest
from django.db.models import Model
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from django_signal_audit.channels import get_channel
from django_signal_audit.channels.base import Channel
from django_signal_audit.delivery.preferences import choices_of
from django_signal_audit.delivery.recipients import ACTOR, GROUP, SUPERUSERS, USER, username
from django_signal_audit.enums import Choice
from django_signal_audit.events.keys import object_id
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.models import AuditEvent, Mute, Notification, Preference, QuietHours
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import NotifyEntry, Rule

# So many of a channel's newest messages to a user are looked at for the rules that they are of.
LOOKED_AT = 200
MOST_MUTED = 1000


@dataclass(frozen=True, slots=True)
class Offer:
    """A rule and a channel that a user may choose for, and what holds now."""

    rule: Rule
    entry: NotifyEntry
    choice: str

    @property
    def channel(self) -> str:
        """Return the alias of the channel."""
        return self.entry.channel

    @property
    def is_locked(self) -> bool:
        """Return whether the settings leave no choice."""
        return self.rule.locked

    @property
    def is_opt_in(self) -> bool:
        """Return whether it is off unless the user wants it."""
        return self.entry.opt_in


def offers_to(user: Model) -> list[Offer]:
    """Return what a user may choose: rules whose settings name them, and those that have notified them."""
    chosen = choices_of([object_id(user.pk)])[object_id(user.pk)]
    names = _names_of(user)
    found: dict[tuple[str, str], Offer] = {}
    received: dict[str, set[str]] = {}
    for rule, entry, channel in _entries():
        if entry.channel not in received:
            received[entry.channel] = _received(user, channel)
        specs = entry.to if entry.to is not None else channel.recipients()
        if not names.isdisjoint(specs) or rule.name in received[entry.channel]:
            offer = Offer(rule, entry, chosen.choice(rule, entry))
            found.setdefault((rule.name, entry.channel), offer)
    return list(found.values())


def _entries() -> Iterator[tuple[Rule, NotifyEntry, Channel]]:
    for rule in get_registry().rules:
        for entry in map(NotifyEntry.of, rule.notify):
            try:
                yield rule, entry, get_channel(entry.channel)
            except InvalidSettings:
                continue  # the system checks say why


def _names_of(user: Any) -> set[str]:
    """Return the recipients of the settings that a user is one of. Where paths and functions lead, nobody knows."""
    names = {ACTOR, f"{USER}{username(user)}"}
    if getattr(user, "is_superuser", False):
        names.add(SUPERUSERS)
    if hasattr(user, "groups"):
        names |= {f"{GROUP}{name}" for name in user.groups.values_list("name", flat=True)}
    return names


def _received(user: Model, channel: Channel) -> set[str]:
    address = channel.address(user)
    if not address:
        return set()
    rows = Notification.objects.filter(recipient=address, channel=channel.alias).order_by("-pk")
    return set(rows.values_list("rule", flat=True)[:LOOKED_AT])


def choose(user: Model, chosen: Mapping[tuple[str, str], str]) -> None:
    """Note what a user has chosen, all of it or nothing.

    Args:
        user: The user.
        chosen: The choices, by the name of the rule and the alias of the channel.

    Raises:
        BadRequest: There is nothing to choose, or no such choice.

    """
    offers = {(offer.rule.name, offer.channel): offer for offer in offers_to(user)}
    for (rule, channel), choice in chosen.items():
        _check(offers.get((rule, channel)), rule, choice)
    for (rule, channel), choice in chosen.items():
        if choice != offers[rule, channel].choice:
            Preference.objects.choose(user, rule=rule, channel=channel, choice=choice)


def _check(offer: Offer | None, rule: str, choice: str) -> None:
    if offer is None:
        msg = _("There is no such rule and channel for you to choose.")
        raise BadRequest(msg)
    if offer.is_locked:
        msg = _("Messages of the rule “%(rule)s” can’t be switched off.") % {"rule": rule}  # noqa: RUF001  # a quote
        raise BadRequest(msg)
    if choice not in Choice.values:
        msg = f"choice must be one of {', '.join(Choice.values)}."
        raise BadRequest(msg)


def keep_quiet(user: Model, said: Mapping[str, object] | None) -> None:
    """Note the quiet hours of a user, or that there are none.

    Args:
        user: The user.
        said: ``begin`` and ``end`` such as ``"22:00"``, and ``time_zone``; None for none.

    Raises:
        BadRequest: They are no times, or the time zone is none.

    """
    key = object_id(user.pk)
    if said is None:
        QuietHours.objects.filter(pk=key).delete()
        return
    begin, end, zone = _time(said, "begin"), _time(said, "end"), said.get("time_zone")
    if begin == end:
        msg = _("Quiet hours must end at another time than they begin.")
        raise BadRequest(msg)
    if not isinstance(zone, str) or zone not in zoneinfo.available_timezones():
        msg = _("The time zone must have a name such as “Europe/Vienna”.")
        raise BadRequest(msg)
    QuietHours.objects.update_or_create(user=key, defaults={"begin": begin, "end": end, "time_zone": zone})


def _time(said: Mapping[str, object], name: str) -> dt.time:
    text = said.get(name)
    try:
        found = dt.time.fromisoformat(text if isinstance(text, str) else "").replace(microsecond=0)
        if found.tzinfo is not None:
            raise ValueError(text)  # the zone is said beside it
        return found
    except ValueError as error:
        msg = _("Quiet hours must begin and end at a time such as “22:00”.")
        raise BadRequest(msg) from error


def mute(user: Model, message: Notification) -> None:
    """Mute the object that a message of the user is about.

    Raises:
        BadRequest: It is about several or none, or the user has muted too many.

    """
    event = objects_to_mute([message], events_of([message])).get(message.pk)
    if event is None:
        msg = _("The message is about no object that could be muted.")
        raise BadRequest(msg)
    if Mute.objects.of(user).count() >= MOST_MUTED:
        msg = _("You have muted %(count)s objects. Unmute some first.") % {"count": number_format(MOST_MUTED)}
        raise BadRequest(msg)
    Mute.objects.mute(user, event.model, event.object_id, event.object_repr)


def events_of(messages: Sequence[Notification]) -> dict[UUID, AuditEvent]:
    """Return the events of messages about one event each, by uid."""
    uids = [message.event for message in messages if message.event is not None]
    return {event.uid: event for event in AuditEvent.of_all_tenants.filter(uid__in=uids)}


def objects_to_mute(messages: Sequence[Notification], events: Mapping[UUID, AuditEvent]) -> dict[int, AuditEvent]:
    """Return the event of each message about one event of one object, by the message's key; not of locked rules."""
    found = {row.pk: events[row.event] for row in messages if row.event and row.event in events}
    locked = {row.pk for row in messages if _is_locked(row.rule)}
    return {pk: event for pk, event in found.items() if event.model and event.object_id and pk not in locked}


def _is_locked(name: str) -> bool:
    rule = get_registry().rule(name)
    return rule is not None and rule.locked
