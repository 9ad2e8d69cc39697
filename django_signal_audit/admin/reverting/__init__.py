"""How changes are reverted: each by the type of its event, and all in one transaction, which is itself recorded."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from django.db import (
    Error,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    transaction,
)
from django.db.models import Max
from django.utils.translation import gettext as _

from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.context.scopes import audit_context
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.enums import EventType
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.transient import is_transient

from .base import Present, RefusedError, Revert
from .creations import CreationRevert
from .deletions import DeletionRevert
from .updates import UpdateRevert

logger = logging.getLogger(__name__)

__all__ = ["Present", "RefusedError", "Revert", "refusal_of", "revert_of", "run"]

_REVERTS: dict[str, type[Revert]] = {
    EventType.UPDATE: UpdateRevert,
    EventType.M2M: UpdateRevert,
    EventType.DELETE: DeletionRevert,
}


def revert_of(event: AuditEvent, *, with_creations: bool = False) -> Revert | None:
    """Return how the change of the event is reverted, None if there is no way or no model.

    Args:
        event: The event.
        with_creations: Whether a creation has a way: by itself, the object is better deleted on its own page.

    """
    kind, model = _REVERTS.get(event.event_type), event.model_class
    if event.event_type == EventType.CREATE and with_creations:
        kind = CreationRevert
    return kind(event, model) if kind and model else None


def refusal_of(revert: Revert) -> str:
    """Return why the change can't be reverted now, ``""`` if it can."""
    try:
        revert.check()
    except RefusedError as refused:
        return str(refused)
    return ""


def run(
    reverts: Iterable[Revert], user: object, reason: str, *, using: str, extra: Mapping[str, object] | None = None
) -> None:
    """Undo changes, one after the other, in one transaction that is itself recorded.

    Args:
        reverts: Each is asked for when the one before it is done.
        user: Who does it.
        reason: Why, as the new events have it.
        using: The database of all of them.
        extra: What the context of the new events has besides.

    Raises:
        RefusedError: A value is not known, has changed since, or cannot be stored; nothing was changed. Its
            ``event`` is the one whose change can't be reverted.

    """
    done: list[Revert] = []
    try:
        with transaction.atomic(using=using), audit_context(actor=user, reason=reason, **(extra or {})):
            lock_database(using)
            for revert in reverts:
                done.append(revert)
                _undo(revert, using)
    except Error as error:
        # What is checked at the commit comes here, too.
        raise _refused_by_database(done, error) from error
    except RefusedError as refused:
        refused.event = refused.event or (done[-1].event if done else None)
        raise
    except Exception as error:
        # The model's save and the receivers are the project's code, and may raise anything.
        event = done[-1].event if done else None
        logger.warning("Event %s could not be reverted.", event.uid if event else "", exc_info=True)
        raise RefusedError(_("It can't be saved: %(error)s") % {"error": describe(error)}, event) from error


def _undo(revert: Revert, using: str) -> None:
    if revert.using != using:
        raise RefusedError(_("Its object is in another database."))
    before = _newest_traces(revert)
    revert.undo()
    if not revert.is_seen():
        raise RefusedError(_("You couldn't view the restored object."))
    after = _newest_traces(revert)
    if any(after.get(trace) == before.get(trace) for trace in revert.traces):
        raise RefusedError(_("No rule records changes of this object any more, so the revert wouldn't be recorded."))


def _newest_traces(revert: Revert) -> dict[str, int]:
    """Return the newest event of the object of each of the types that a revert writes."""
    labels = {revert.event.model, *labels_including_children(revert.model)}
    same = AuditEvent.objects.using(revert.using).filter(model__in=labels, object_id=revert.event.object_id)
    found = same.filter(event_type__in=revert.traces).order_by().values_list("event_type").annotate(newest=Max("pk"))
    return dict(found)


def _refused_by_database(done: Sequence[Revert], error: Error) -> Exception:
    """Return the refusal that an error of the database amounts to, or the error if it is none."""
    if is_transient(error):
        return RefusedError(_("Someone else is changing the object right now. Reload the page and try again."))
    if isinstance(error, (OperationalError, ProgrammingError, InternalError, InterfaceError, NotSupportedError)):
        return error
    # Somebody else may have been faster, and now it can be seen. PostgreSQL's further lines show the whole row.
    [text, *_rest] = str(error).splitlines() or [""]
    reason = refusal_of(done[0]) if len(done) == 1 else ""
    event = done[-1].event if done else None
    return RefusedError(reason or _("The database rejects it: %(error)s") % {"error": text}, event)
