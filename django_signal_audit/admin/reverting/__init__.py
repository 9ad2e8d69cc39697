"""How a change is put back, by the type of its event."""

from __future__ import annotations

from django_signal_audit.enums import EventType
from django_signal_audit.models import AuditEvent

from .base import Present, RefusedError, Reversal
from .deletions import DeletionReversal
from .members import MembersReversal
from .updates import UpdateReversal

__all__ = ["Present", "RefusedError", "Reversal", "reversal_of"]

_REVERSALS: dict[str, type[Reversal]] = {
    EventType.UPDATE: UpdateReversal,
    EventType.M2M: MembersReversal,
    EventType.DELETE: DeletionReversal,
}


def reversal_of(event: AuditEvent) -> Reversal | None:
    """Return how the change of the event is put back, None if there is no way or no model."""
    kind, model = _REVERSALS.get(event.event_type), event.model_class
    return kind(event, model) if kind and model else None
