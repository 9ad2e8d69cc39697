"""What a batch of notifications needs from the database, read in as few queries as that takes."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django_signal_audit.exceptions import GiveUp
from django_signal_audit.models import AuditEvent, Notification

from .targets import load_users

# SQLite limits the parameters of a statement, and a digest may have any number of events.
CHUNK = 500


class Loaded:
    """The events and users of the rows of one batch."""

    def __init__(self, rows: Sequence[Notification], using: str) -> None:
        self.users = load_users(rows)
        self._using = using
        events = self._fetch([row.event for row in rows if row.event is not None])
        self._single = {event.uid: event for event in events}

    def events(self, row: Notification) -> list[AuditEvent]:
        """Return what the row tells of, oldest first.

        Raises:
            GiveUp: The events are gone from the trail, so there is nothing to tell.

        """
        if row.event is None:
            # Only when its turn comes: the events of a whole batch of digests might not fit into memory.
            found = self._fetch(row.event_uids)
        else:
            found = [self._single[row.event]] if row.event in self._single else []
        if not found:
            msg = "Its events are no longer in the audit log."
            raise GiveUp(msg)
        return found

    def _fetch(self, uids: Sequence[UUID | str]) -> list[AuditEvent]:
        found: list[AuditEvent] = []
        for start in range(0, len(uids), CHUNK):
            found += AuditEvent.objects.using(self._using).filter(uid__in=uids[start : start + CHUNK])
        return sorted(found, key=lambda event: event.pk)
