"""Multi-table inheritance: which ruled model a row belongs to, when children's rows may extend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db import models

from django_signal_audit.capture.images import Image, ImageReader
from django_signal_audit.capture.rows import current, rows_of
from django_signal_audit.capture.scope import Identity
from django_signal_audit.capture.through_rows import WatchedM2M, members_of, sorted_keys
from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange, M2MChange
from django_signal_audit.models.tables import has_table
from django_signal_audit.rules.matching import match_baseline
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry


class Owner(NamedTuple):
    """The row an event is about: its plan and its key in the plan's model."""

    plan: ModelPlan
    pk: Any


def with_tables(plans: Iterable[ModelPlan], using: str) -> list[ModelPlan]:
    """Leave out children whose tables are not there, unmanaged or still to be migrated ones: they extend no row."""
    return [plan for plan in plans if not plan.model._meta.parents or has_table(plan.model, using)]


def is_most_derived(plan: ModelPlan, pk: object, using: str) -> bool:
    """Return whether no ruled child extends the row."""
    names = [field.name for field in plan.model._meta.pk_fields]
    values = pk if isinstance(pk, tuple) else (pk,)
    identity = dict(zip(names, values, strict=True))
    children = with_tables(plan.descendants, using)
    return not any(rows_of(child.model, using).filter(**identity).exists() for child in children)


def owner_of(plan: ModelPlan, pk: object, using: str) -> Owner:
    """Return the row of the most derived ruled model that the row of the plan's model is part of; itself for most."""
    key = plan.model._meta.pk
    if not plan.descendants or key is None:
        return Owner(plan, pk)
    lock_database(using)
    return owners_of((plan, *plan.descendants), key, [pk], using)[pk]


def owners_of(
    plans: Sequence[ModelPlan], target: models.Field[object, object], keys: Iterable[object], using: str
) -> dict[Any, Owner]:
    """Return the ruled row behind each key, the most derived one; keys behind which there is none are left out.

    Args:
        plans: The plans the rows may belong to, all of models that have the target field.
        target: The field the keys are values of, on the model that declares it.
        keys: The keys.
        using: The database.

    """
    found: dict[Any, Owner] = {}
    remaining = set(keys)
    for plan in sorted(with_tables(plans, using), key=lambda item: -len(item.model._meta.get_parent_list())):
        if plan.model is target.model and target.primary_key:
            found |= {key: Owner(plan, key) for key in remaining}
            break
        rows = current(rows_of(plan.model, using).filter(**{f"{target.name}__in": remaining}), using)
        extended = {key: Owner(plan, pk) for key, pk in rows.order_by().values_list(target.attname, "pk")}
        found |= extended
        remaining -= set(extended)
    return found


def inherited_members(plan: ModelPlan, pk: object, names: Iterable[str], using: str) -> dict[str, M2MChange]:
    """Return the members that a parent's row brings along into the child's row that has just extended it."""
    inherited = {name: field for name, field in plan.all_members.items() if field.model is not plan.model}
    found = {name: members_of(field, plan, pk, using) for name, field in inherited.items() if name in names}
    return {name: M2MChange(added=keys) for name, keys in found.items() if keys}


def members_left(reader: ImageReader, image: Image, names: Iterable[str]) -> dict[str, M2MChange]:
    """Return the members of a child's row that is gone which stay with its parent's row."""
    found = {}
    for name, field in reader.plan.all_members.items():
        if field.model is not reader.plan.model and name in names:
            watched = WatchedM2M(field, (reader.plan,))
            owner = reader.value(image, watched.owner_link.target_field.attname)
            pairs = watched.pairs(reader.using, watched.of_owner(owner))
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
