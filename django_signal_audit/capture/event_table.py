"""The table of the events themselves: whatever would change or delete rows of it is refused."""

from __future__ import annotations

from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import is_pruning, refuse

from .compilers import DeleteStatement, InsertStatement, Statement, UpdateStatement, guard


def refuse_changes(statement: Statement) -> None:
    """Raise ImmutableEvent for a statement that would change or delete events, unless ``prune()`` runs it."""
    if isinstance(statement, InsertStatement):
        if statement.updates_conflicts:
            refuse("updated")
    elif isinstance(statement, DeleteStatement):
        if not is_pruning():
            refuse("deleted")
    elif _changes_rows(statement):
        refuse("changed")


def _changes_rows(statement: UpdateStatement) -> bool:
    """Return whether an UPDATE concerns any event.

    A raw save, which fixtures use, begins with an UPDATE of its primary key and inserts if there is no such row.
    """
    return bool(statement.matching().get_compiler(statement.using).has_results())


guard(AuditEvent, refuse_changes)
