"""Rows that become a multi-table child's part, and those that cease to be one: their story changes its label."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models

from django_signal_audit.capture.scope import Identity
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange, M2MChange
from django_signal_audit.rules.matching import match_baseline
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry

from .images import Image, ImageReader
from .inheritance import Owner, owner_of
from .memberships import Membership, members_of, sorted_keys


def inherited_members(plan: ModelPlan, pk: Any, names: Iterable[str], using: str) -> dict[str, M2MChange]:
    """Return the members that a parent's row brings along into the child's row that has just extended it."""
    inherited = {name: field for name, field in plan.all_members.items() if field.model is not plan.model}
    found = {name: members_of(field, plan, pk, using) for name, field in inherited.items() if name in names}
    return {name: M2MChange(added=keys) for name, keys in found.items() if keys}


def members_left(reader: ImageReader, image: Image, names: Iterable[str]) -> dict[str, M2MChange]:
    """Return the members of a child's row that is gone which stay with its parent's row."""
    found = {}
    for name, field in reader.plan.all_members.items():
        if field.model is not reader.plan.model and name in names:
            membership = Membership(field, (reader.plan,))
            owner = reader.value(image, membership.owner_link.target_field.attname)
            pairs = membership.pairs(reader.using, membership.of_owner(owner))
            found[name] = M2MChange(removed=sorted_keys(member for _, member in pairs))
    return {name: change for name, change in found.items() if change.removed}


def survivors(parents: Iterable[Identity], using: str) -> list[Change]:
    """Return the starting points of the rows that outlive the child's row that extended them, under their own label.

    Nobody is notified of them: nothing happened to these rows.
    """
    registry = get_registry()
    owners: dict[Identity, Owner] = {}
    for model, pk in sorted(parents, key=lambda parent: parent[0]._meta.label):
        plan = registry.plans.get(model)
        if plan is not None:
            owner = owner_of(plan, pk, using)
            owners[owner.plan.model, owner.pk] = owner
    changes = [_starting_point(owner, using) for owner in owners.values()]
    return [change for change in changes if change is not None]


def _starting_point(owner: Owner, using: str) -> Change | None:
    plan, pk = owner
    match = match_baseline(plan)
    reader = ImageReader(plan, using)
    image = reader.by_key([pk]).get(pk)
    if match is None or image is None:
        return None
    members = {
        name: M2MChange(added=keys)
        for name, field in plan.all_members.items()
        if name in match.names and (keys := members_of(field, plan, pk, using))
    }
    return Change(
        event_type=EventType.BASELINE,
        source=Source.BASELINE,
        using=using,
        model=plan.model,
        pk=pk,
        instance=reader.instance(image),
        fields={name: FieldChange(old=None, new=value) for name, value in reader.row(image, match.names).items()},
        members=members,
    )


def may_extend(instance: models.Model, model: type[models.Model]) -> bool:
    """Return whether an instance that is about to be inserted names a parent's row, which may exist already."""
    keys = [field for parent in model._meta.get_parent_list() for field in parent._meta.pk_fields]
    links = [link for link in model._meta.parents.values() if link is not None]
    return any(getattr(instance, field.attname) is not None for field in (*keys, *links))
