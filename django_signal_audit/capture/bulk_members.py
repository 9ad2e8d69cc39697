"""Statements on automatic through models: whoever makes them, pairs come and go."""

from __future__ import annotations

from typing import Any

from django_signal_audit.enums import Source

from .compilers import DeleteStatement, InsertStatement, UpdateStatement
from .deletions import current_deletion
from .inheritance import owners_of
from .members import ThroughRowsChange, report
from .memberships import Membership, Pair
from .phantom_rows import restrict_to_locked_rows
from .rows import locked, rows_of
from .transactions import lock_database, rollback_on_error, write_transaction


def insert_pairs(statement: InsertStatement, membership: Membership) -> Any:
    """Run an INSERT of pairs and report those that were really inserted."""
    with write_transaction(statement.using):
        links = [membership.owner_link, membership.member_link]
        if not statement.can_return:
            result = statement.execute()
            pairs = {tuple(getattr(obj, link.attname) for link in links) for obj in statement.objs}
        else:
            fields = [*links, *statement.returning]
            rows = statement.execute_returning(fields)
            result = [row[2:] for row in rows] if statement.returning else []
            pairs = {row[:2] for row in rows}
        with rollback_on_error(statement.using):
            report(ThroughRowsChange(membership, statement.using, added=frozenset(pairs)))
        return result


def delete_pairs(statement: DeleteStatement, membership: Membership) -> Any:
    """Run a DELETE of pairs and report them, or keep them for the delete event of their owner."""
    with write_transaction(statement.using):
        if statement.can_return():
            rows = statement.execute_returning([membership.owner_link, membership.member_link])
            result, pairs = len(rows), set(rows)
        else:
            lock_database(statement.using)
            looked = _touched_pairs(statement, membership)
            result = restrict_to_locked_rows(statement, len(looked), lambda: looked)
            pairs = set(looked.values())
        scope = current_deletion()
        source = Source.ORM if scope is None or scope.asked_for(membership.through) else Source.CASCADE
        with rollback_on_error(statement.using):
            left = pairs if source == Source.ORM else pairs - _of_doomed_owners(membership, pairs, statement.using)
            report(ThroughRowsChange(membership, statement.using, removed=frozenset(left), source=source))
        return result


def _touched_pairs(statement: DeleteStatement | UpdateStatement, membership: Membership) -> dict[Any, Pair]:
    """Return the pairs that a statement concerns, by their own keys, under lock."""
    if not statement.is_simple():
        return _pairs_by_key(membership, statement.using, statement.matching())
    rows = statement.read(("pk", *_links(membership)), deleting=True)
    return {pk: (owner, member) for pk, owner, member in rows}


def _pairs_by_key(membership: Membership, using: str, keys: Any) -> dict[Any, Pair]:
    rows = locked(rows_of(membership.through, using), using, deleting=True).filter(pk__in=keys).order_by("pk")
    return {pk: (owner, member) for pk, owner, member in rows.values_list("pk", *_links(membership))}


def _links(membership: Membership) -> tuple[str, str]:
    return membership.owner_link.attname, membership.member_link.attname


def _of_doomed_owners(membership: Membership, pairs: set[Pair], using: str) -> set[Pair]:
    """Return the pairs whose owner is about to be deleted too, after noting them for its event."""
    scope = current_deletion()
    if scope is None or not pairs:
        return set()
    owners = owners_of(membership.plans, membership.owner_link.target_field, {owner for owner, _ in pairs}, using)
    found = set()
    for pair in pairs:
        owner = owners.get(pair[0])
        noted = scope.doomed.get((owner.plan.model, owner.pk)) if owner else None
        if noted is not None:
            noted.members.setdefault(membership.field.name, set()).add(pair)
            found.add(pair)
    return found


def update_pairs(statement: UpdateStatement, membership: Membership) -> Any:
    """Run an UPDATE of pairs: the old ones go and the new ones come."""
    with write_transaction(statement.using):
        lock_database(statement.using)
        before = _touched_pairs(statement, membership)
        result = restrict_to_locked_rows(statement, len(before), lambda: before)
        with rollback_on_error(statement.using):
            after = _pairs_by_key(membership, statement.using, list(before))
            old, new = set(before.values()), set(after.values())
            report(
                ThroughRowsChange(membership, statement.using, added=frozenset(new - old), removed=frozenset(old - new))
            )
        return result
