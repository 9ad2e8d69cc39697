"""Many-to-many changes: m2m_changed from either side becomes one event per owner and call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from weakref import WeakSet

from django.apps import apps
from django.db import models, router
from django.db.models.fields.related_descriptors import ManyToManyDescriptor
from django.db.models.signals import m2m_changed, post_delete, pre_delete

from django_signal_audit.capture.compilers import DeleteStatement, InsertStatement, UpdateStatement
from django_signal_audit.capture.deletes import NOT_TOLD
from django_signal_audit.capture.engines import LEFT, one_row_engine
from django_signal_audit.capture.hooks import connect_first, patch_once
from django_signal_audit.capture.inheritance import Owner, owners_of
from django_signal_audit.capture.phantom_rows import restrict_to_locked_rows
from django_signal_audit.capture.rows import locked, rows_of
from django_signal_audit.capture.scope import ManagerCall, Notes, ThroughRow, ThroughRowsChange, scope_of
from django_signal_audit.capture.sources.base import CaptureSource, register_source
from django_signal_audit.capture.through_rows import M2MRelation, audited_m2m_fields, sorted_keys
from django_signal_audit.capture.transactions import lock_database, rollback_on_error, write_transaction
from django_signal_audit.conf import get_settings
from django_signal_audit.context.scopes import is_suspended
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change, M2MChange
from django_signal_audit.models.tables import is_ready
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.patterns import concrete
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import Registry

UID = "django_signal_audit.members"

# The through models of audited fields, and these fields where no query hook sees the through rows.
_through_models: set[type[models.Model]] = set()
_by_signal: dict[type[models.Model], M2MRelation] = {}
# The classes of managers whose methods are ours.
_wrapped: WeakSet[type] = WeakSet()


_expected: Notes[tuple[type[models.Model], frozenset[ThroughRow]]] = Notes()
_lost: Notes[list[ThroughRowsChange]] = Notes()


@contextmanager
def manager_call(manager: Any) -> Iterator[None]:
    """Gather what is reported inside and record it as one call, in one transaction."""
    using = router.db_for_write(manager.through, instance=manager.instance)
    scope = scope_of(using)
    if scope.manager_call is not None and scope.manager_call.through is manager.through:
        yield
        return
    # The caller may handle what fails before anything is written, such as members that are none; of what fails later,
    # the method's own transaction takes care.
    with write_transaction(using):
        call = ManagerCall(manager.through, manager.instance)
        with scope.within(manager_call=call):
            yield
        with rollback_on_error(using):
            _record(call.gathered, call.instance)


# Every one of them runs in a transaction of its own already.
MANAGER_METHODS = ("add", "remove", "set", "clear")


def wrap_manager_method(original: Callable[..., None]) -> Callable[..., None]:
    """Return a method of a many-to-many manager as one call, though it may send several signals or statements."""

    @wraps(original)
    def method(self: Any, *args: object, **kwargs: object) -> None:
        if self.through not in _through_models:
            original(self, *args, **kwargs)
            return
        with manager_call(self):
            original(self, *args, **kwargs)

    return method


def wrap_get(original: Callable[..., object]) -> Callable[..., Any]:
    """Return ``__get__`` of the many-to-many descriptors such that managers of audited fields have our methods.

    Their class is made when it is first asked for: not before the project's apps have had their say on the models.
    """

    @wraps(original)
    def get(self: Any, instance: object, owner: object = None) -> Any:
        manager = original(self, instance, owner)
        if instance is not None and self.through in _through_models and (kind := type(manager)) not in _wrapped:
            for name in MANAGER_METHODS:
                patch_once(kind, name, wrap_manager_method)
            _wrapped.add(kind)
        return manager

    return get


def follow_members(
    sender: type[models.Model],
    instance: models.Model,
    action: str,
    reverse: bool,
    pk_set: object,
    using: str,
    **__: Any,
) -> None:
    """Read the pairs before they change and record them after (receiver of m2m_changed)."""
    relation = _by_signal.get(sender)
    if relation is None or not is_ready(using):
        return
    when, _, what = action.partition("_")
    if when == "pre":
        pairs = _expected_pairs(relation, instance, what, pk_set, using, reverse=reverse)
        _expected.put(instance, (sender, pairs))
        return
    nothing: frozenset[ThroughRow] = frozenset()
    noted, pairs = _expected.take(instance) or (None, nothing)
    if noted is sender and pairs:
        added, removed = (pairs, nothing) if what == "add" else (nothing, pairs)
        report(ThroughRowsChange(relation, using, instance, added=added, removed=removed))


def _expected_pairs(
    relation: M2MRelation, instance: models.Model, what: str, pk_set: Any, using: str, *, reverse: bool
) -> frozenset[ThroughRow]:
    """Return the pairs that are about to be added or removed, mirror images included."""
    link = relation.member_link if reverse else relation.owner_link
    own_key = getattr(instance, link.target_field.attname)
    others = None if pk_set is None else set(pk_set)
    forward, backward = relation.of_owner(own_key), relation.of_member(own_key)
    if others is not None:
        forward, backward = forward & relation.of_member(*others), backward & relation.of_owner(*others)
    if what == "add":
        pairs = {(other, own_key) if reverse else (own_key, other) for other in others or ()}
        if relation.is_symmetrical and pairs:
            mirrored = {(member, owner) for owner, member in pairs}
            pairs |= mirrored - relation.pairs(using, backward)
        return frozenset(pairs)
    if relation.is_symmetrical:
        return frozenset(relation.pairs(using, forward, backward))
    return frozenset(relation.pairs(using, backward if reverse else forward))


def read_before_member_delete(
    sender: type[models.Model], instance: models.Model, using: str = "", origin: Any = NOT_TOLD, **_: Any
) -> None:
    """Note who is about to lose this object as a member (receiver of pre_delete on the members' model)."""
    if origin is NOT_TOLD:
        return
    lost = []
    for relation in _by_signal.values():
        member = relation.member_link.target_field
        if isinstance(instance, member.model) and is_ready(using):
            key = getattr(instance, member.attname)
            pairs = relation.pairs(using, relation.of_member(key))
            lost.append(ThroughRowsChange(relation, using, instance, removed=frozenset(pairs), source=Source.CASCADE))
    _lost.put(instance, lost)


def record_after_member_delete(sender: type[models.Model], instance: models.Model, **_: object) -> None:
    """Record the loss for the owners that are still there (receiver of post_delete on the members' model)."""
    for change in _lost.take(instance) or ():
        _record([change], instance)


def report(change: ThroughRowsChange) -> None:
    """Record pairs that came or went, at once or at the end of the manager's call that made them."""
    call = scope_of(change.using).manager_call
    if call is None or call.through is not change.relation.through:
        _record([change], change.instance)
    else:
        call.gathered.append(change)


def _record(gathered: list[ThroughRowsChange], instance: models.Model | None) -> None:
    """Record the net effect of what was gathered: one event per owner."""
    for relation, using, source in dict.fromkeys((item.relation, item.using, item.source) for item in gathered):
        own = [item for item in gathered if (item.relation, item.using, item.source) == (relation, using, source)]
        added, removed = _net(own)
        if added or removed:
            record_changes(_changes(relation, added, removed, using, source, instance), using)


def _net(gathered: Iterable[ThroughRowsChange]) -> tuple[set[ThroughRow], set[ThroughRow]]:
    added: set[ThroughRow] = set()
    removed: set[ThroughRow] = set()
    for item in gathered:
        for gone in item.removed:
            (added.discard if gone in added else removed.add)(gone)
        for come in item.added:
            (removed.discard if come in removed else added.add)(come)
    return added, removed


def _changes(
    relation: M2MRelation,
    added: set[ThroughRow],
    removed: set[ThroughRow],
    using: str,
    source: Source,
    instance: models.Model | None,
) -> list[Change]:
    target = relation.owner_link.target_field
    keys = sorted_keys({owner for owner, _ in added | removed})
    found = owners_of(relation.plans, target, keys, using)
    owners = {key: found[key] for key in keys if key in found and not is_suspended(found[key].plan.model)}
    instances = _instances(owners.values(), instance, using)
    return [
        Change(
            event_type=EventType.M2M,
            source=source,
            using=using,
            model=owner.plan.model,
            pk=owner.pk,
            # None if it is deleted meanwhile. PostgreSQL looks for it at the commit, when it may be there again.
            instance=instances.get(owner),
            members={
                relation.field.name: M2MChange(
                    added=sorted_keys(member for other, member in added if other == key),
                    removed=sorted_keys(member for other, member in removed if other == key),
                )
            },
        )
        for key, owner in owners.items()
    ]


def _instances(owners: Iterable[Owner], instance: models.Model | None, using: str) -> dict[Owner, models.Model]:
    """Return the owners that are there as objects, for their text: the one at hand, the others loaded at once."""
    found: dict[Owner, models.Model] = {}
    missing: dict[ModelPlan, list[Any]] = {}
    for owner in owners:
        if isinstance(instance, owner.plan.model) and instance.pk == owner.pk:
            found[owner] = instance
        else:
            missing.setdefault(owner.plan, []).append(owner.pk)
    for plan, pks in missing.items():
        for loaded in rows_of(plan.model, using).filter(pk__in=pks):
            found[Owner(plan, loaded.pk)] = loaded
    return found


@register_source
class MemberSource(CaptureSource):
    """Makes one call of what a manager's method does, and reads m2m_changed where queries are not captured.

    The query hook sees the pairs that were really written, which m2m_changed does not tell under concurrency; a
    receiver would also cost Django's own short cut for adding.
    """

    def __init__(self) -> None:
        self._member_models: list[type[models.Model]] = []

    def connect(self, registry: Registry) -> None:
        """Connect the audited m2m fields, each once however many models inherit it."""
        for relation in audited_m2m_fields(registry):
            patch_once(ManyToManyDescriptor, "__get__", wrap_get)
            _through_models.add(relation.through)
            if not get_settings().capture_queries:
                _by_signal[relation.through] = relation
                connect_first(m2m_changed, follow_members, relation.through, UID)
                self._connect_members(relation.member_link.target_field.model)

    def admit(self, registry: Registry, model: type[models.Model]) -> None:
        """Connect the fields that the model has brought along."""
        self.connect(registry)

    def _connect_members(self, model: type[models.Model]) -> None:
        for sender in apps.get_models():
            if concrete(sender) is concrete(model) and sender not in self._member_models:
                pre_delete.connect(read_before_member_delete, sender=sender, weak=False, dispatch_uid=UID)
                connect_first(post_delete, record_after_member_delete, sender, UID)
                self._member_models.append(sender)

    def disconnect(self) -> None:
        """Leave no receiver behind."""
        for through in _by_signal:
            m2m_changed.disconnect(sender=through, dispatch_uid=UID)
        for sender in self._member_models:
            pre_delete.disconnect(sender=sender, dispatch_uid=UID)
            post_delete.disconnect(sender=sender, dispatch_uid=UID)
        for kept in (_by_signal, self._member_models, _through_models):
            kept.clear()


def insert_through_rows(statement: InsertStatement, relation: M2MRelation) -> Any:
    """Run an INSERT of pairs and report those that were really inserted."""
    with write_transaction(statement.using):
        result = _insert_with_event(statement, relation)
        if result is not LEFT:
            return result
        links = [relation.owner_link, relation.member_link]
        if not statement.can_return:
            result = statement.execute()
            pairs = {tuple(getattr(obj, link.attname) for link in links) for obj in statement.objs}
        else:
            fields = [*links, *statement.returning]
            rows = statement.execute_returning(fields)
            result = [row[2:] for row in rows] if statement.returning else []
            pairs = {row[:2] for row in rows}
        with rollback_on_error(statement.using):
            report(ThroughRowsChange(relation, statement.using, added=frozenset(pairs)))
        return result


def _insert_with_event(statement: InsertStatement, relation: M2MRelation) -> object:
    """Have an engine run the INSERT of a manager's call that has written nothing else, and its event; or return LEFT.

    Of all that a manager does, adding comes last.
    """
    call = scope_of(statement.using).manager_call
    if call is None or call.gathered or call.through is not relation.through or len(relation.plans) != 1:
        return LEFT
    engine = one_row_engine(relation.plans[0], type(call.instance), statement.using)
    return LEFT if engine is None else engine.add_members(statement, relation, call.instance)


def delete_through_rows(statement: DeleteStatement, relation: M2MRelation) -> Any:
    """Run a DELETE of pairs and report them, or keep them for the delete event of their owner."""
    with write_transaction(statement.using):
        if statement.can_return():
            rows = statement.execute_returning([relation.owner_link, relation.member_link])
            result, pairs = len(rows), set(rows)
        else:
            lock_database(statement.using)
            looked = _touched_pairs(statement, relation)
            result = restrict_to_locked_rows(statement, len(looked), lambda: looked)
            pairs = set(looked.values())
        if not pairs:
            return result
        deletion = scope_of(statement.using).deletion
        source = Source.ORM if deletion is None or deletion.asked_for(relation.through) else Source.CASCADE
        with rollback_on_error(statement.using):
            left = pairs if source == Source.ORM else pairs - _of_doomed_owners(relation, pairs, statement.using)
            report(ThroughRowsChange(relation, statement.using, removed=frozenset(left), source=source))
        return result


def _touched_pairs(statement: DeleteStatement | UpdateStatement, relation: M2MRelation) -> dict[object, ThroughRow]:
    """Return the pairs that a statement concerns, by their own keys, under lock."""
    if not statement.is_simple():
        return _pairs_by_key(relation, statement.using, statement.matching())
    rows = statement.read(("pk", *_links(relation)), deleting=True)
    return {pk: (owner, member) for pk, owner, member in rows}


def _pairs_by_key(relation: M2MRelation, using: str, keys: object) -> dict[object, ThroughRow]:
    rows = locked(rows_of(relation.through, using), using, deleting=True).filter(pk__in=keys).order_by("pk")
    return {pk: (owner, member) for pk, owner, member in rows.values_list("pk", *_links(relation))}


def _links(relation: M2MRelation) -> tuple[str, str]:
    return relation.owner_link.attname, relation.member_link.attname


def _of_doomed_owners(relation: M2MRelation, pairs: set[ThroughRow], using: str) -> set[ThroughRow]:
    """Return the pairs whose owner is about to be deleted too, after noting them for its event."""
    deletion = scope_of(using).deletion
    if deletion is None or not pairs:
        return set()
    owners = owners_of(relation.plans, relation.owner_link.target_field, {owner for owner, _ in pairs}, using)
    found = set()
    for pair in pairs:
        owner = owners.get(pair[0])
        noted = deletion.doomed.get((owner.plan.model, owner.pk)) if owner else None
        if noted is not None:
            noted.members.setdefault(relation.field.name, set()).add(pair)
            found.add(pair)
    return found


def update_through_rows(statement: UpdateStatement, relation: M2MRelation) -> object:
    """Run an UPDATE of pairs: the old ones go and the new ones come."""
    with write_transaction(statement.using):
        lock_database(statement.using)
        before = _touched_pairs(statement, relation)
        result = restrict_to_locked_rows(statement, len(before), lambda: before)
        with rollback_on_error(statement.using):
            after = _pairs_by_key(relation, statement.using, list(before))
            old, new = set(before.values()), set(after.values())
            report(
                ThroughRowsChange(relation, statement.using, added=frozenset(new - old), removed=frozenset(old - new))
            )
        return result
