"""What ``check`` says of the recipients in the settings, without a query."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from django.contrib.auth import get_user_model
from django.db.models import Model

from django_signal_audit.channels.base import Channel
from django_signal_audit.channels.registry import get_channel
from django_signal_audit.conf import get_settings
from django_signal_audit.enums import AUTH_EVENTS, EventType
from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.problems import Problem, nearest
from django_signal_audit.rules.parsing import ParsedRule
from django_signal_audit.rules.patterns import resolve_all
from django_signal_audit.rules.registry import get_registry

from .recipients import spec_problem
from .specs import ACTOR, SUPERUSERS, USER, attribute_names, find_function, is_field_path, leads_to_users

KEYWORDS = (ACTOR, SUPERUSERS)
# What people write for them.
_SYNONYMS = {
    **dict.fromkeys(("superuser", "admin", "admins", "administrators", "managers", "staff", "everybody"), SUPERUSERS),
    **dict.fromkeys(("user", "me", "self", "current_user", "request.user", "request_user", "who"), ACTOR),
}
# Mailboxes that every mail server has.
_MAILBOXES = ("abuse", "hostmaster", "nobody", "postmaster", "root", "webmaster")
_PREFIXED = re.compile(r"\s*(user|group)s?\s*[:=]\s*(.*?)\s*", re.IGNORECASE | re.DOTALL)
NEAR = 0.75


def recipient_problems() -> Iterator[Problem]:
    """Report rules that send to nobody by a channel that has to know whom to send to."""
    for parsed in get_registry().parsed:
        for entry, path, unread in parsed.notify:
            if entry.to is None and unread.isdisjoint(("channel", "to")) and _needs_recipient(entry.channel):
                yield Problem(
                    "E026",
                    path,
                    f"has no recipient, and neither has the channel {entry.channel!r}.",
                    f'Add "to": here, or to SIGNAL_AUDIT["CHANNELS"]["{entry.channel}"]["OPTIONS"].',
                )


def spec_problems() -> Iterator[Problem]:
    """Report recipients that lead to nobody, or most likely to somebody else than was meant."""
    found: dict[tuple[str, str], Problem | None] = {}
    for where, spec, channel, models in _recipients():
        if (where, spec) not in found or found[where, spec] is None:
            found[where, spec] = _problem(where, spec, channel, models)
    yield from (problem for problem in found.values() if problem is not None)


def permission_problems() -> Iterator[Problem]:
    """Report users that a path leads to, and who are skipped without the permission to view the object."""
    found: dict[str, Problem] = {}
    for where, spec, channel, models in _recipients():
        if "check_permission" in channel.options or not channel.checks_permission:
            continue
        for model in models:
            if "view" in model._meta.default_permissions and leads_to_users(spec, model):
                permission = f"{model._meta.app_label}.view_{model._meta.model_name}"
                message = f'names "{spec}": users without the permission {permission} are skipped.'
                hint = (
                    f'Set "check_permission" in the OPTIONS of the channel "{channel.alias}": False notifies them '
                    "anyway, True skips them without this warning. audit_rules --explain lists who is skipped."
                )
                found.setdefault(where, Problem("W034", where, message, hint))
    yield from found.values()


def _recipients() -> Iterator[tuple[str, str, Channel, Sequence[type[Model]]]]:
    """Yield where each recipient stands, the recipient, its channel, and the models of the objects it is told of."""
    used: set[str] = set()
    for parsed in get_registry().parsed:
        for entry, path, unread in parsed.notify:
            channel = _channel(entry.channel)
            if channel is None or "to" in unread:
                continue
            if entry.to is None:
                used.add(entry.channel)
            where = _option(entry.channel) if entry.to is None else f'{path}["to"]'
            for spec in named_by(channel) if entry.to is None else entry.to:
                yield where, spec, channel, _models(parsed)
    for alias in get_settings().channels:
        unused = None if alias in used else _channel(alias)
        for spec in named_by(unused) if unused else ():
            yield _option(alias), spec, unused, ()  # type: ignore[misc]


def _option(alias: str) -> str:
    return f'SIGNAL_AUDIT["CHANNELS"]["{alias}"]["OPTIONS"]["to"]'


def _models(parsed: ParsedRule) -> Sequence[type[Model]]:
    rule = parsed.rule
    if not rule.models and rule.events and set(rule.events) <= {*AUTH_EVENTS, EventType.REQUEST.value}:
        return [get_user_model()]  # what logs in or out, if anything
    return resolve_all(rule.models)


def _problem(where: str, spec: str, channel: Channel, models: Sequence[type[Model]]) -> Problem | None:
    problem = spec_problem(spec, channel, models)
    hint = recipient_hint(spec, channel, models)
    if problem:
        meant = None if "." in spec else hint
        return Problem("E027", where, f"names {spec!r}, which {problem[0]}.", meant or problem[1] or "Correct it.")
    if hint is None:
        return None
    return Problem("W033", where, f"names {spec!r}, which isn't an address, user, group, keyword or field.", hint)


def recipient_hint(spec: str, channel: Channel, models: Sequence[type[Model]]) -> str | None:
    """Return what was most likely meant by a recipient that is read as another one, None if it is right."""
    prefixed = _PREFIXED.fullmatch(spec)
    if prefixed:
        right = f"{prefixed[1].lower()}:{prefixed[2]}"
        name = "username" if right.startswith(USER) else "group's name"
        return None if spec == right and prefixed[2] else f'Write "{right}".' if prefixed[2] else f"Add the {name}."
    if spec in ("", *KEYWORDS) or find_function(spec) or any(is_field_path(spec, model) for model in models):
        return None
    return _word_hint(spec, channel, models)


def _word_hint(spec: str, channel: Channel, models: Sequence[type[Model]]) -> str | None:
    word = spec.strip()
    keyword = word.lower() if word.lower() in KEYWORDS else None
    if not channel.needs_recipient:
        # Any text may be right there, but for one that is nearly a keyword.
        near = keyword or nearest(word, KEYWORDS, NEAR + 0.1)
        return f"Did you mean {near!r}?" if near else None
    near = keyword or _SYNONYMS.get(word.lower()) or _nearest_name(word, models)
    if near and "@" not in spec:
        return f"Did you mean {near!r}?"
    if word != spec:
        return f"Remove the spaces around it: {word!r}."
    return channel.mailbox_hint(spec) if models and word not in _MAILBOXES else None


def _nearest_name(word: str, models: Sequence[type[Model]]) -> str | None:
    """Return the keyword, or the field of one of the models, that a single name most likely means."""
    names = {name for model in models for name in attribute_names(model)} if word.isidentifier() else set()
    return nearest(word, [*KEYWORDS, *names], NEAR) if word not in _MAILBOXES else None


def named_by(channel: Channel) -> tuple[str, ...]:
    """Return the recipients of a channel, none if it cannot tell: that is reported as such."""
    try:
        return tuple(spec for spec in channel.recipients() if isinstance(spec, str) and spec)
    except Exception:  # noqa: BLE001  # what is wrong with the channel itself is reported as such
        return ()


def _channel(alias: str) -> Channel | None:
    try:
        return get_channel(alias)
    except InvalidSettings:
        return None  # reported as such


def _needs_recipient(alias: str) -> bool:
    channel = _channel(alias)
    try:
        return channel is not None and channel.needs_recipient and not any(channel.recipients())
    except Exception:  # noqa: BLE001  # what is wrong with the channel itself is reported as such
        return False
