"""How a change is reverted, by the type of its event."""

from __future__ import annotations

from django_signal_audit.enums import EventType
from django_signal_audit.models import AuditEvent

from .base import Present, RefusedError, Revert
from .deletions import DeletionRevert
from .m2m import M2MRevert
from .updates import UpdateRevert

__all__ = ["Present", "RefusedError", "Revert", "revert_of"]

_REVERTS: dict[str, type[Revert]] = {
    EventType.UPDATE: UpdateRevert,
    EventType.M2M: M2MRevert,
    EventType.DELETE: DeletionRevert,
}


def revert_of(event: AuditEvent) -> Revert | None:
    """Return how the change of the event is reverted, None if there is no way or no model."""
    kind, model = _REVERTS.get(event.event_type), event.model_class
    return kind(event, model) if kind and model else None
