"""Who would not be notified of a change, and why: asked before it happens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _

from django_signal_audit.channels.base import Channel
from django_signal_audit.channels.registry import get_channel
from django_signal_audit.exceptions import DeliveryError, InvalidSettings
from django_signal_audit.models import AuditEvent
from django_signal_audit.problems import did_you_mean
from django_signal_audit.rules.plans import CompiledRule
from django_signal_audit.rules.schema import Rule

from .recipient_checks import named_by
from .recipients import members_of, single_user
from .specs import ACTOR, GROUP, SUPERUSERS, USER, is_field_path, leads_to_users
from .targets import Target, all_users, is_key, permitted, user_by_key, user_target

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
            try:
                channel = get_channel(entry.channel)
            except InvalidSettings as error:
                yield Unreached(item.rule.name, entry.channel, "", error.message)
                continue
            for spec in named_by(channel) if entry.to is None else entry.to:
                yield from _of(item.rule, channel, spec, model, using)


def _of(rule: Rule, channel: Channel, spec: str, model: type[Model], using: str) -> Iterator[Unreached]:
    try:
        reasons = list(_reasons(spec, channel, model, using))
    except DeliveryError as error:
        reasons = [str(error)]
    except Exception as error:  # noqa: BLE001  # no table is needed to explain rules, and there may be none yet
        reasons = [_("The database cannot be queried: %(error)s") % {"error": " ".join(str(error).split())[:80]}]
    shown = [
        *reasons[:NAMED],
        *([_("… and %(count)d more") % {"count": len(reasons) - NAMED}] * (len(reasons) > NAMED)),
    ]
    yield from (Unreached(rule.name, channel.alias, spec, reason) for reason in shown)


def _reasons(spec: str, channel: Channel, model: type[Model], using: str) -> Iterator[str]:
    event = AuditEvent(model=model._meta.label_lower, object_id="")
    if spec == ACTOR:
        if channel.checks_permission and "view" in model._meta.default_permissions:
            permission = f"{model._meta.app_label}.view_{model._meta.model_name}"
            yield _("An actor without the permission %(permission)s is skipped.") % {"permission": permission}
        return
    problem = _unknown_group(spec) if spec.startswith(GROUP) else ""
    if problem:
        yield problem
        return
    for target in _targets(spec, channel, model, event, using):
        yield from filter(None, [permitted(target, channel, using).obstacle])


def _targets(spec: str, channel: Channel, model: type[Model], event: AuditEvent, using: str) -> Iterable[Target]:
    """Return the users that a recipient stands for, none if it stands for no users or they are not known yet."""
    if spec.startswith(USER):
        return [user_target(single_user(spec, [event]), channel, [event], f'"{spec}"')]
    if spec == SUPERUSERS or spec.startswith(GROUP):
        users: Iterable[Model] = members_of(spec)
    elif is_field_path(spec, model):
        users = _users_on_path(spec, model, using) if leads_to_users(spec, model) else ()
    elif channel.recipients_are_users and is_key(spec):
        return [user_target(user_by_key(spec), channel, [event], f'"{spec}"')]
    else:
        return []
    return (user_target(user, channel, [event]) for user in islice(users, LOOKED_AT))


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
    """Return that there is no such group, ``""`` if there is one."""
    groups: Any = get_user_model()._meta.get_field("groups").related_model
    name = spec.removeprefix(GROUP)
    if groups._default_manager.filter(name=name).exists():
        return ""
    known = groups._default_manager.order_by("name").values_list("name", flat=True)[:LOOKED_AT]
    return f'There is no group "{name}". {did_you_mean(name, known)}'
