"""How a change is reverted, by the type of its event."""

from __future__ import annotations

from django_signal_audit.enums import EventType
from django_signal_audit.models import AuditEvent

from .base import Present, RefusedError, Revert
from .creations import CreationRevert
from .deletions import DeletionRevert
from .execution import refusal_of, run
from .updates import UpdateRevert

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
