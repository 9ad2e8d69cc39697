"""Multi-table inheritance: which ruled model a row belongs to, when children's rows may extend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.db import models

from django_signal_audit.capture.images import Image, ImageReader
from django_signal_audit.capture.phantom_rows import recorded_keys
from django_signal_audit.capture.rows import current, differences, reads_the_present, rows_of
from django_signal_audit.capture.scope import Identity
from django_signal_audit.capture.through_rows import M2MRelation, members_of, sorted_keys
from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, FieldChange, M2MChange
from django_signal_audit.events.keys import row_name
from django_signal_audit.models.inheritance import shares_key
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


# So many children are asked for by one query, with so many parameters.
_ASKED = 50
_PARAMETERS = 900


def plans_with_rows(
    plans: Sequence[ModelPlan],
    rows: Callable[[ModelPlan], models.QuerySet[Any]],
    base: type[models.Model],
    using: str,
    *,
    width: int = 1,
) -> list[ModelPlan]:
    """Return those plans of multi-table children that have certain rows; one query asks for many of them.

    Args:
        plans: The plans.
        rows: Returns the rows to look for of a plan's model.
        base: A parent that all these models have.
        using: The database.
        width: How many parameters the condition of such rows has.

    """
    step = min(_ASKED, _PARAMETERS // max(width, 1))
    if len(plans) < 2 or step < 2 or not reads_the_present(using):
        return list(plans)
    found: list[ModelPlan] = []
    for at in range(0, len(plans), step):
        some = plans[at : at + step]
        questions = {f"audit_{number}": models.Exists(rows(plan)) for number, plan in enumerate(some)}
        answers = rows_of(base, using).order_by().annotate(**questions).values_list(*questions)[:1]
        found += [plan for answer in answers for plan, is_there in zip(some, answer, strict=True) if is_there]
    return found


def is_most_derived(plan: ModelPlan, pk: object, using: str) -> bool:
    """Return whether no ruled child extends the row."""
    names = [field.name for field in plan.model._meta.pk_fields]
    values = pk if isinstance(pk, tuple) else (pk,)
    identity = dict(zip(names, values, strict=True))

    def extending(child: ModelPlan) -> models.QuerySet[Any]:
        return rows_of(child.model, using).filter(**identity)

    children = plans_with_rows(with_tables(plan.descendants, using), extending, plan.model, using)
    return not any(extending(child).exists() for child in children)


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
    asked = set(remaining)

    def of_keys(plan: ModelPlan) -> models.QuerySet[Any]:
        return rows_of(plan.model, using).filter(**{f"{target.name}__in": asked})

    ordered = sorted(with_tables(plans, using), key=lambda item: -len(item.model._meta.get_parent_list()))
    children = [plan for plan in ordered if plan.model is not target.model]
    empty = {plan.model for plan in children}
    empty -= {plan.model for plan in plans_with_rows(children, of_keys, target.model, using, width=len(asked))}
    for plan in ordered:
        if plan.model in empty:
            continue
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
            relation = M2MRelation(field, (reader.plan,))
            owner = reader.value(image, relation.owner_link.target_field.attname)
            pairs = relation.pairs(reader.using, relation.of_owner(owner))
            found[name] = M2MChange(removed=sorted_keys(member for _, member in pairs))
    return {name: change for name, change in found.items() if change.removed}


def taken_over(plan: ModelPlan, pk: object, using: str) -> list[Change]:
    """Return the ends of the histories that parents' rows had before a child's row with another key extended them.

    From here on the child's events tell of them, and no key leads there. Nobody is notified: nothing happened to these
    rows.

    Args:
        plan: The plan of the child.
        pk: The key of its row, which was just inserted.
        using: The database.

    """
    registry = get_registry()
    parents = [parent for parent in plan.model._meta.get_parent_list() if not shares_key(plan.model, parent)]
    plans = [found for parent in parents if (found := registry.plans.get(parent)) is not None]
    names = [found.model._meta.pk_fields[0].attname for found in plans]
    keys = rows_of(plan.model, using).filter(pk=pk).values_list(*names).first() if plans else None
    changes: list[Change] = []
    for parent, key in zip(plans, keys or (), strict=False):
        # A parent in between ends the history of its own parents too.
        is_told = any(issubclass(change.model, parent.model) for change in changes if change.model is not None)
        if not is_told and recorded_keys(parent, [key], using):
            changes.append(
                Change(
                    event_type=EventType.EXTENDED,
                    source=Source.BASELINE,
                    using=using,
                    model=parent.model,
                    pk=key,
                    instance=rows_of(parent.model, using).filter(pk=key).first(),
                    data={"child": {"model": plan.label, "object_id": row_name(plan.model, pk)}},
                )
            )
    return changes


def own_links(model: type[models.Model]) -> list[models.Field[Any, Any]]:
    """Return the links to parents of a child with a key of its own: these may come to name other rows."""
    return [link for link in model._meta.parents.values() if link is not None and not link.primary_key]


def relinked(
    reader: ImageReader, old: Image, new: Image, source: Source, instance: models.Model | None = None
) -> list[Change]:
    """Return what happened to a child's row and to its parents' rows if the former was given to others of these.

    Args:
        reader: The reader of the images.
        old: The row before the write.
        new: The row after it.
        source: How the change came.
        instance: The object that the event is about; that of the new image if there is none.

    Returns:
        Nothing if the row has the parents that it had.

    """
    plan, using = reader.plan, reader.using
    left = reader.parents(old) - reader.parents(new)
    if not left:
        return []
    names = plan.names_for(EventType.UPDATE)
    fields = {name: field for name, field in plan.all_fields.items() if name in names}
    change = Change(
        event_type=EventType.UPDATE,
        source=source,
        using=using,
        model=plan.model,
        pk=reader.key(new),
        instance=reader.instance(new) if instance is None else instance,
        fields=differences(fields, reader.row(old, names), reader.row(new, names)),
        members=_exchanged(members_left(reader, old, names), members_left(reader, new, names)),
    )
    told = [change] if change.touched else []
    return [*told, *survivors(left, using), *taken_over(plan, change.pk, using)]


def _exchanged(lost: Mapping[str, M2MChange], gained: Mapping[str, M2MChange]) -> dict[str, M2MChange]:
    """Return what a row lost and gained of the members that its former and its new parents' rows have."""
    found = {}
    for name in {**lost, **gained}:
        before, after = (set(side[name].removed) if name in side else set() for side in (lost, gained))
        found[name] = M2MChange(added=sorted_keys(after - before), removed=sorted_keys(before - after))
    return {name: change for name, change in found.items() if change}


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
