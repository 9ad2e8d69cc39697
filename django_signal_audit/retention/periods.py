"""Which events have been kept long enough: what the rules promise, and what the caller asks for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.durations import parse_duration
from django_signal_audit.rules.schema import Rule

# Tells of a batch that was pruned, in the transaction that took it away.
EVENTS_PRUNED = "events_pruned"


def periods_of(rules: Iterable[Rule]) -> dict[str, dt.timedelta]:
    """Return the ``retention`` of each rule that has one, by name."""
    found = {rule.name: parse_duration(rule.retention) for rule in rules if rule.retention}
    return {name: period for name, period in found.items() if period is not None}


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long events are to be kept, as of one moment.

    An event is kept as long as the longest ``retention`` of its rules says. ``older_than`` asks for no more than
    that: it stands in for the rules that say nothing, whose events are otherwise kept for ever.

    Attributes:
        now: The moment that ages are counted to.
        periods: The retention of the rules that have one.
        older_than: How old events of the others must be; None keeps them.
        rule: Only events that this rule matched; ``""`` for all.

    """

    now: dt.datetime
    periods: Mapping[str, dt.timedelta]
    older_than: dt.timedelta | None = None
    rule: str = ""

    @property
    def shortest(self) -> dt.timedelta | None:
        """Return the age that no event can be due before; None if none ever is."""
        if self.older_than is not None:
            return max(self.older_than, self.periods.get(self.rule, self.older_than))
        if self.rule:
            return self.periods.get(self.rule)
        return min(self.periods.values(), default=None)

    @property
    def cutoff(self) -> dt.datetime | None:
        """Return the moment before which events may be due; None if none ever is."""
        try:
            return None if self.shortest is None else self.now - self.shortest
        except OverflowError:
            return None

    def is_due(self, event: AuditEvent) -> bool:
        """Tell whether an event has been kept long enough."""
        if event.event_type == EVENTS_PRUNED and not self.periods.keys() & set(event.rules):
            # What is left to say where the others went stays, unless a rule of its own lets it go.
            return False
        promised = [self.periods.get(name, self.older_than) for name in event.rules]
        if self.older_than is not None or not promised:
            promised.append(self.older_than)
        known = [period for period in promised if period is not None]
        return len(known) == len(promised) and self.now - event.recorded_at > max(known)
