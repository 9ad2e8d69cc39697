"""What ``check`` says of the recipients in the settings, and who ``audit_rules --explain`` says would not be notified.

``check`` asks no database without ``--database``. ``--explain`` does: accounts may be inactive, without an address or
without permission.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from django.contrib.auth import get_backends, get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.db.models import Model, QuerySet
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from django_signal_audit.channels import get_channel
from django_signal_audit.channels.base import Channel
from django_signal_audit.conf import get_settings
from django_signal_audit.delivery.preferences import choices_of
from django_signal_audit.delivery.recipients import (
    ACTOR,
    GROUP,
    SUPERUSERS,
    USER,
    Target,
    all_users,
    attribute_names,
    find_function,
    is_field_path,
    is_key,
    is_path,
    leads_to_users,
    members_of,
    path_problem,
    permitted,
    single_user,
    user_by_key,
    user_target,
    username,
)
from django_signal_audit.enums import AUTH_EVENTS, EventType
from django_signal_audit.events.keys import object_id
from django_signal_audit.exceptions import DeliveryError, InvalidSettings
from django_signal_audit.models import AuditEvent
from django_signal_audit.plugins import call_mistake
from django_signal_audit.problems import Problem, did_you_mean, nearest
from django_signal_audit.rules.parsing import ParsedRule
from django_signal_audit.rules.patterns import resolve_all
from django_signal_audit.rules.plans import CompiledRule
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import NotifyEntry, Rule
from django_signal_audit.rules.visibility import is_left_to_project, knows_permissions

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


# Events without a model that are about nobody: who failed to log in isn't known, and a request has no object.
_WITHOUT_ACTOR = {EventType.LOGIN_FAILED.value}
_WITHOUT_OBJECT = {EventType.LOGIN_FAILED.value, EventType.REQUEST.value}


def absence_problems() -> Iterator[Problem]:
    """Report an actor, or a path from the object, as recipient of events that have none."""
    for parsed in get_registry().parsed:
        for where, spec, _channel in _recipients_of(parsed) if not parsed.rule.models else ():
            lacking = _WITHOUT_ACTOR if spec == ACTOR else _WITHOUT_OBJECT
            events = [name for name in parsed.rule.events if name in lacking]
            if events and (spec == ACTOR or spec.partition(".")[0] in _user_fields()):
                what = "actor" if spec == ACTOR else "object"
                message = f'names "{spec}" for {events[0]} events, which have no {what}: nobody is notified of them.'
                hint = f'Name somebody else, in a rule of its own for "{events[0]}".'
                yield Problem("W041", where, message, hint)


_UNSUBSCRIBE = "signal_audit:unsubscribe"


def link_problems() -> Iterator[Problem]:
    """Warn of a SITE_URL that no link can be made of: neither the admin nor what unsubscribes has a page."""
    if not get_settings().site_url:
        return
    include = 'path("audit/", include("django_signal_audit.urls"))'
    hint = f"Add {include} to the URLs of the project; a message can't fill in a prefix that captures arguments."
    pages = "admin:django_signal_audit_auditevent_changelist"
    has_pages, unsubscribes = not _is_missing(pages), not _is_missing(_UNSUBSCRIBE)
    if not has_pages and not unsubscribes:
        message = "has no effect: the project has the URLs of neither the admin nor this package."
        yield Problem("W093", 'SIGNAL_AUDIT["SITE_URL"]', message, hint)
    elif not unsubscribes and any(map(_goes_to_users, get_registry().parsed)):
        message = "is set, and messages to users have no link to unsubscribe: the project hasn't included our URLs."
        yield Problem("W093", 'SIGNAL_AUDIT["SITE_URL"]', message, hint)


def _is_missing(name: str) -> bool:
    """Return whether the project's URLs have no page of that name; False if they can't be read."""
    try:
        reverse(name, args=["x"] if name == _UNSUBSCRIBE else None)
    except NoReverseMatch:
        return True
    except Exception:  # noqa: BLE001  # URLs that don't import, or none at all, are for Django to report
        return False
    return False


def _goes_to_users(parsed: ParsedRule) -> bool:
    """Return whether messages of a rule go to users who may switch them off, by a channel outside the project."""
    if parsed.rule.locked or not parsed.rule.enabled:
        return False
    return any(
        spec in KEYWORDS
        or spec.startswith((USER, GROUP))
        or any(leads_to_users(spec, item) for item in _models(parsed))
        for _where, spec, channel in _recipients_of(parsed)
        if not channel.recipients_are_users
    )


def unreachable_problems(databases: Sequence[str]) -> Iterator[Problem]:
    """Report users and groups in the settings who are nobody that would be notified, by the users there are now.

    Nothing is said of a database without users: it is a new one, or that of a test.
    """
    try:
        using = router.db_for_read(get_user_model())
        if using not in databases:
            return
        with transaction.atomic(using=using):
            found = list(_unreachable(using)) if all_users().exists() else []
    except Exception:  # noqa: BLE001  # there may be no users, no tables yet, and backends of anybody's code
        return
    yield from found


def _unreachable(using: str) -> Iterator[Problem]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for parsed in get_registry().parsed:
        models = () if _WITHOUT_OBJECT.issuperset(parsed.rule.events) and not parsed.rule.models else _models(parsed)
        for where, spec, channel in _recipients_of(parsed):
            is_user = channel.recipients_are_users and spec != ACTOR and not is_path(spec) and is_key(spec)
            is_meant = is_user or spec == SUPERUSERS or spec.startswith((USER, GROUP))
            if is_meant and spec_problem(spec, channel, models) is None:
                reasons.setdefault((where, spec), []).append(_why_nobody(spec, channel, models, using))
    for (where, spec), found in reasons.items():
        if all(found):
            message = f'names "{spec}", and nobody would be notified: {found[0]}'
            hint = "Correct the recipient or the account. audit_rules --explain lists who is skipped."
            yield Problem("W044", where, message, hint)


def _why_nobody(spec: str, channel: Channel, models: Sequence[type[Model]], using: str) -> str:
    """Return why a recipient would get no message about any of the models, ``""`` if somebody would."""
    if spec.startswith(GROUP) and (unknown := _unknown_group(spec)):
        return unknown
    obstacles = []
    try:
        for label in [model._meta.label_lower for model in models] or [""]:
            event = AuditEvent(model=label, object_id="")
            # What a project's own backends and VISIBILITY say, they say of objects and events that exist.
            is_known = all(map(_is_djangos_backend, get_backends())) and not is_left_to_project(label)
            for target in _users_meant(spec, channel, event):
                found = permitted(target, channel, using) if is_known else target
                if not found.obstacle:
                    return ""
                obstacles.append(found.obstacle)
    except DeliveryError as error:
        return str(error)
    return next(iter(obstacles), "")


def _is_djangos_backend(backend: object) -> bool:
    return type(backend).__module__.startswith("django.")


def _asks_permission(channel: Channel) -> bool:
    """Return whether users without a permission are skipped: not where the user model knows no permissions."""
    return channel.checks_permission and knows_permissions(get_user_model())


def permission_problems() -> Iterator[Problem]:
    """Report users that a path leads to, and who are skipped without the permission to view the object."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for where, spec, channel, models in _recipients():
        if "check_permission" in channel.options or not _asks_permission(channel):
            continue
        for model in models:
            if "view" in model._meta.default_permissions and leads_to_users(spec, model):
                permission = f"{model._meta.app_label}.view_{model._meta.model_name}"
                found.setdefault((where, channel.alias, permission), []).append(f'"{spec}"')
    places = set()
    for (where, alias, permission), specs in found.items():
        message = f"names {' and '.join(specs)}: users without the permission {permission} are skipped."
        hint = (
            f'Set "check_permission" in the OPTIONS of the channel "{alias}": False notifies them '
            "anyway, True skips them without this warning. audit_rules --explain lists who is skipped."
        )
        # Of a rule on several models, the first is enough.
        if where not in places:
            yield Problem("W034", where, message, hint)
        places.add(where)


def _recipients() -> Iterator[tuple[str, str, Channel, Sequence[type[Model]]]]:
    """Yield where each recipient stands, the recipient, its channel, and the models of the objects they concern."""
    used: set[str] = set()
    for parsed in get_registry().parsed:
        used |= {entry.channel for entry, _path, unread in parsed.notify if entry.to is None and "to" not in unread}
        for where, spec, channel in _recipients_of(parsed):
            yield where, spec, channel, _models(parsed)
    for alias in get_settings().channels:
        unused = None if alias in used else _channel(alias)
        for spec in named_by(unused) if unused else ():
            yield _option(alias), spec, unused, ()  # type: ignore[misc]


def _recipients_of(parsed: ParsedRule) -> Iterator[tuple[str, str, Channel]]:
    for entry, path, unread in parsed.notify:
        channel = _channel(entry.channel)
        if channel is None or "to" in unread:
            continue
        where = _option(entry.channel) if entry.to is None else f'{path}["to"]'
        for spec in named_by(channel) if entry.to is None else entry.to:
            yield where, spec, channel


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
    path = word.replace("__", ".")
    if path != word and any(is_field_path(path, model) for model in models):
        return f"Did you mean {path!r}?"
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


# So many users are looked at for each recipient, and so many are named.
LOOKED_AT = 200
NAMED = 10


class Unreached(NamedTuple):
    """One recipient of a rule, or some of those it stands for, who would not be notified."""

    rule: str
    channel: str
    recipient: str
    why: str


def unreached(rules: Iterable[CompiledRule], model: type[Model], using: str) -> Iterator[Unreached]:
    """Yield who would not be notified of a change of the model by the rules, as far as that is known beforehand."""
    for item in rules:
        for entry in item.notify:
            if not get_settings().enabled:
                why = _('SIGNAL_AUDIT["ENABLED"] is False: nothing is recorded, and nobody is notified.')
                yield Unreached(item.rule.name, entry.channel, "", why)
                continue
            try:
                channel = get_channel(entry.channel)
            except InvalidSettings as error:
                yield Unreached(item.rule.name, entry.channel, "", error.message)
                continue
            for spec in named_by(channel) if entry.to is None else entry.to:
                yield from _of(item.rule, entry, channel, spec, model, using)


def _of(
    rule: Rule, entry: NotifyEntry, channel: Channel, spec: str, model: type[Model], using: str
) -> Iterator[Unreached]:
    try:
        reasons = list(_reasons(rule, entry, channel, spec, model, using))
    except DeliveryError as error:
        reasons = [str(error)]
    except Exception as error:  # noqa: BLE001  # no table is needed to explain rules, and there may be none yet
        reasons = [_("The database cannot be queried: %(error)s") % {"error": " ".join(str(error).split())[:80]}]
    shown = [
        *reasons[:NAMED],
        *([_("… and %(count)d more") % {"count": len(reasons) - NAMED}] * (len(reasons) > NAMED)),
    ]
    yield from (Unreached(rule.name, channel.alias, spec, reason) for reason in shown)


def _reasons(
    rule: Rule, entry: NotifyEntry, channel: Channel, spec: str, model: type[Model], using: str
) -> Iterator[str]:
    event = AuditEvent(model=model._meta.label_lower, object_id="")
    if spec == ACTOR:
        yield from _reasons_of_actor(rule, entry, channel, model)
        return
    if mistake := spec_problem(spec, channel, [model]):
        yield f"It {mistake[0]}. {mistake[1] or ''}".rstrip()
        return
    problem = _unknown_group(spec) if spec.startswith(GROUP) else ""
    if problem:
        yield problem
        return
    for target in _targets(spec, channel, model, event, using):
        obstacle = permitted(target, channel, using).obstacle
        if not obstacle and target.user is not None:
            [chosen] = choices_of([object_id(target.user.pk)]).values()
            obstacle = chosen.refusal(username(target.user), rule, entry)
        if obstacle:
            yield obstacle


def _reasons_of_actor(rule: Rule, entry: NotifyEntry, channel: Channel, model: type[Model]) -> Iterator[str]:
    if entry.opt_in and not rule.locked:
        yield _("An actor who has not opted in is skipped.")
    if _asks_permission(channel) and "view" in model._meta.default_permissions:
        permission = f"{model._meta.app_label}.view_{model._meta.model_name}"
        yield _("An actor without the permission %(permission)s is skipped.") % {"permission": permission}


def _targets(spec: str, channel: Channel, model: type[Model], event: AuditEvent, using: str) -> Iterable[Target]:
    """Return the users that a recipient stands for, none if it stands for no users or they are not known yet."""
    if is_field_path(spec, model):
        users = _users_on_path(spec, model, using) if leads_to_users(spec, model) else ()
        return (user_target(user, channel, [event]) for user in users)
    return _users_meant(spec, channel, event)


def _users_meant(spec: str, channel: Channel, event: AuditEvent) -> Iterable[Target]:
    """Return the users that a recipient names by itself, none if it is something else."""
    if spec.startswith(USER):
        return [user_target(single_user(spec, [event]), channel, [event], f'"{spec}"')]
    if spec == SUPERUSERS or spec.startswith(GROUP):
        return (user_target(user, channel, [event]) for user in islice(members_of(spec), LOOKED_AT))
    if channel.recipients_are_users and is_key(spec):
        return [user_target(user_by_key(spec), channel, [event], f'"{spec}"')]
    return []


def _users_on_path(spec: str, model: type[Model], using: str) -> QuerySet[Model]:
    """Return the users that the path leads to from the rows there are now."""
    names: list[str] = []
    current: type[Model] = model
    for name in spec.split("."):
        names.append(name)
        target = current._meta.get_field(name).related_model
        current = target if isinstance(target, type) else current
        if issubclass(current, get_user_model()):
            break
    keys = model._base_manager.using(using).order_by().values("__".join(names)).distinct()
    return all_users().filter(pk__in=keys).order_by("pk")[:LOOKED_AT]


def _unknown_group(spec: str) -> str:
    """Return that there is no such group, ``""`` if there is one, or if users have no groups at all."""
    if "groups" not in _user_fields():
        return ""
    groups: Any = get_user_model()._meta.get_field("groups").related_model
    name = spec.removeprefix(GROUP)
    if groups._default_manager.filter(name=name).exists():
        return ""
    known = groups._default_manager.order_by("name").values_list("name", flat=True)[:LOOKED_AT]
    return f'There is no group "{name}". {did_you_mean(name, known)}'


def _user_fields() -> set[str]:
    """Return the names of the fields of users, none in a project without users."""
    try:
        return {field.name for field in get_user_model()._meta.get_fields()}
    except ImproperlyConfigured:
        return set()


def spec_problem(spec: str, channel: Channel, models: Sequence[type[Model]]) -> tuple[str, str | None] | None:
    """Return what is wrong with a recipient in the settings and the edit to make, None if it may be right.

    Args:
        spec: The recipient.
        channel: The channel it is for.
        models: The models whose objects the rule is about; none if that cannot be known.

    """
    if spec in (ACTOR, SUPERUSERS) or spec.startswith((USER, GROUP)):
        needed = "groups" if spec.startswith(GROUP) else "is_superuser" if spec == SUPERUSERS else ""
        if needed in ("", *_user_fields()):
            return None
        what = f'needs users with the field "{needed}", and {get_user_model()._meta.label} has none'
        return what, "Add PermissionsMixin to the user model, or name a function that finds the users."
    meant = [model for model in models if is_field_path(spec, model)]
    is_mailed = channel.needs_recipient and not channel.recipients_are_users
    if meant:
        return path_problem(spec, meant, may_be_number=not is_mailed)
    function = find_function(spec)
    if function is not None:
        mistake = call_mistake(function, ["event"], may_yield=True)
        return (mistake, "Name a function that takes the event and returns users or addresses.") if mistake else None
    dotted = "." in spec and is_path(spec)
    if dotted and channel.needs_recipient and models:
        return path_problem(spec, models)
    if channel.recipients_are_users and not dotted and not is_key(spec):
        return "isn't the primary key of a user", f'Write "{USER}{spec}" for the user of that name.'
    return channel.recipient_problem(spec)
