"""Comparing the tables with the trail, and the trail with itself and with the outbox."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import connections, models

from django_signal_audit.events.keys import object_id
from django_signal_audit.events.values import decode
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry

Key = tuple[str, str]


@dataclass
class Proof:
    """What was compared, and what was found wrong: nothing, it is hoped."""

    rows: int = 0
    events: int = 0
    notifications: int = 0
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def prove(using: str = "default", *, notified: bool = True) -> Proof:
    """Compare everything there is on a database.

    Args:
        using: The database.
        notified: Whether every event is to be told exactly once.

    """
    proof = Proof()
    alive = _follow_chains(proof, using)
    existing: set[Key] = set()
    for plan in get_registry().plans.values():
        existing |= _compare_rows(proof, plan, using)
    proof.problems += [f"{key} is gone, and nothing says so" for key in alive - existing]
    _compare_outbox(proof, using, notified=notified)
    return proof


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _follow_chains(proof: Proof, using: str) -> set[Key]:
    """Check that each event's old values are the previous one's new values; return who is alive at the end."""
    chains: dict[Key, Chain] = {}
    vendor = connections[using].vendor
    for event in AuditEvent.objects.using(using).exclude(model="").order_by("id").iterator():
        proof.events += 1
        key = (event.model, event.object_id)
        chain = chains.setdefault(key, Chain(vendor))
        proof.problems += [f"event {event.pk} {event.event_type} {key}: {problem}" for problem in chain.add(event)]
    proof.problems += [f"{key} left {chain.orphans} behind" for key, chain in chains.items() if chain.orphans]
    return {key for key, chain in chains.items() if chain.is_alive}


class Chain:
    """What the events of one object say so far."""

    def __init__(self, vendor: str) -> None:
        self.vendor = vendor
        self.is_alive = False
        self.state: dict[str, Any] = {}
        # Members that are there without their owner. PostgreSQL checks foreign keys at the commit: pairs may come
        # before their owner's statement, or stay behind its deletion's, as long as the transaction is open.
        self.orphans: dict[str, Any] = {}

    def add(self, event: AuditEvent) -> list[str]:
        """Add an event and return what does not fit."""
        if event.event_type == "m2m" and not self.is_alive and self.vendor == "postgresql":
            problems = self._steps(self.orphans, event)
            self.orphans = {name: keys for name, keys in self.orphans.items() if keys}
            return problems
        problems = self._presence(event)
        if event.event_type == "create":
            self.state, self.orphans = ({} if self.is_alive else self.orphans), {}
        problems += self._steps(self.state, event)
        self.is_alive = event.event_type != "delete"
        if not self.is_alive:
            self.orphans = {name: value for name, value in self.state.items() if value}
            self.state = {}
            if self.orphans and self.vendor != "postgresql":
                problems.append(f"it still had {self.orphans}")
        return problems

    def _presence(self, event: AuditEvent) -> list[str]:
        is_create = event.event_type == "create"
        # The contract allows it: without RETURNING of what was there, two racing upserts may both read as create.
        if is_create is not self.is_alive or (is_create and self.vendor == "mysql" and event.source == "bulk"):
            return []
        return [f"of what is {'there' if self.is_alive else 'not there'}"]

    def _steps(self, state: dict[str, Any], event: AuditEvent) -> list[str]:
        return [problem for name, change in event.changes.items() for problem in self._step(state, name, change)]

    def _step(self, state: dict[str, Any], name: str, change: Any) -> list[str]:
        if isinstance(change, dict):
            before, added, removed = set(state.get(name, ())), set(change["added"]), set(change["removed"])
            state[name] = sorted(before - removed | added)
            fits = not added & before and removed <= before and not added & removed and (added or removed)
            return [] if fits else [f"{name} {change} after {sorted(before)}"]
        old, new = change
        expected = state.pop(name, None)
        if new is not None:
            state[name] = new
        return [] if _same(old, expected) else [f"{name} {change} after {expected!r}"]


def _compare_rows(proof: Proof, plan: ModelPlan, using: str) -> set[Key]:
    existing = set()
    trail = AuditEvent.objects.using(using)
    names = {name: item.attname for name, item in plan.fields.items()}
    for row in _own_rows(plan, using).values("pk", *names.values()):
        proof.rows += 1
        existing.add((plan.label, object_id(row["pk"])))
        wanted = {
            name: decode(plan.fields[name], plan.serializers[name](row[attname], row["pk"]))
            for name, attname in names.items()
        }
        members = {name: _members(plan, name, row["pk"], using) for name in plan.members}
        found = trail.state_of(plan.model, row["pk"])
        if found is None:
            proof.problems.append(f"{plan.label} {row['pk']} is there, and unknown to the trail")
            continue
        found = {**{key: [] for key in members}, **found}
        wanted |= members
        different = {name: (found.get(name), value) for name, value in wanted.items() if found.get(name) != value}
        if different:
            proof.problems.append(f"{plan.label} {row['pk']} (trail, table): {different}")
    return existing


def _own_rows(plan: ModelPlan, using: str) -> models.QuerySet[Any]:
    """Return the rows that no ruled child extends: the others' events are their children's."""
    rows = models.QuerySet(plan.model, using=using)
    for child in plan.descendants:
        target = plan.model._meta.pk.name
        rows = rows.exclude(pk__in=models.QuerySet(child.model, using=using).values(target))
    return rows


def _members(plan: ModelPlan, name: str, pk: Any, using: str) -> list[Any]:
    item = plan.members[name]
    through = models.QuerySet(item.remote_field.through, using=using)
    owner, member = item.m2m_field_name(), item.m2m_reverse_field_name()
    link = through.model._meta.get_field(owner)
    key = models.QuerySet(plan.model, using=using).values_list(link.target_field.attname, flat=True).get(pk=pk)
    return sorted(through.filter(**{owner: key}).values_list(f"{member}_id", flat=True))


def _compare_outbox(proof: Proof, using: str, *, notified: bool) -> None:
    events = {str(uid) for uid in AuditEvent.objects.using(using).values_list("uid", flat=True)}
    told: Counter[str] = Counter()
    for row in Notification.objects.using(using):
        proof.notifications += 1
        told.update(map(str, row.event_uids))
    proof.problems += [f"event {uid}, told of, does not exist" for uid in told.keys() - events]
    if notified:
        proof.problems += [f"event {uid} was told {told[uid]} times" for uid in events if told[uid] != 1]
