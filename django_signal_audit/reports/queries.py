"""Which events are meant, by what the caller names."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db.models import Exists, F, Q

from django_signal_audit.events.values import clean_text
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.renames import former_labels

from .functions import HasItem


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """What events have to match; whatever is empty matches all.

    ``actor`` is the actor's key, or the name if nobody has it as key. ``since`` is included, ``until`` is not. Texts
    are compared as the audit log keeps them, so that a NUL in one is no error of the database.
    """

    model: str = ""
    object_id: str = ""
    event_type: str = ""
    actor: str = ""
    rule: str = ""
    level: str = ""
    tenant: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None

    def conditions(self) -> list[Q]:
        """Return one condition per thing that was named."""
        plain = {"object_id": self.object_id, "event_type": self.event_type, "level": self.level, "tenant": self.tenant}
        found = [Q(**{column: clean_text(value)}) for column, value in plain.items() if value]
        if self.model:
            label = clean_text(self.model)
            found.append(Q(model__in=(label, *former_labels(label))) if former_labels(label) else Q(model=label))
        if self.actor:
            actor = clean_text(self.actor)
            is_key = Q(Exists(AuditEvent.objects.filter(actor_id=actor)))
            found.append(Q(actor_id=actor) | (Q(actor_repr=actor) & ~is_key))
        if self.rule:
            found.append(Q(HasItem(F("rules"), clean_text(self.rule))))
        if self.since is not None:
            found.append(Q(recorded_at__gte=self.since))
        if self.until is not None:
            found.append(Q(recorded_at__lt=self.until))
        return found

    def find(self, using: str) -> AuditEventQuerySet:
        """Return the events of a database that match."""
        return AuditEvent.objects.using(using).filter(*self.conditions())
