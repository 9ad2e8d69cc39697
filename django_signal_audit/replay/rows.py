"""The rows of a plan's model with their members, a chunk at a time, in the order of their keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import models

from django_signal_audit.capture.images import CHUNK, Image, ImageReader
from django_signal_audit.capture.memberships import Membership
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.events.keys import beginning, object_id, parse_id, row_name
from django_signal_audit.events.payloads import member_names
from django_signal_audit.events.secret_fields import has_secret_key
from django_signal_audit.rules.plans import ModelPlan


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row as its table has it."""

    pk: Any
    # The text by which the trail names it.
    name: str
    image: Image
    # The keys of its members by m2m field, as JSON and sorted.
    members: dict[str, list[Any]]

    def shown_pk(self, model: type[models.Model]) -> Any:
        """Return the primary key as others may see it: the row's name where the key is a secret."""
        return self.name if has_secret_key(model) else self.pk


class RowReader:
    """Reads the rows that are the plan's own: those that ruled multi-table children extend are told of as theirs.

    Args:
        plan: The plan of the model.
        using: The database.
        members: The names of the m2m fields to read.

    """

    def __init__(self, plan: ModelPlan, using: str, members: Iterable[str]) -> None:
        self.plan = plan
        self.using = using
        self.images = ImageReader(plan, using)
        self._memberships = [Membership(plan.all_members[name], (plan,)) for name in sorted(members)]

    def count(self) -> int:
        """Return the number of rows in the table, children's among them."""
        return rows_of(self.plan.model, self.using).count()

    def key_chunks(self, size: int = CHUNK) -> Iterator[list[Any]]:
        """Return the keys of all rows in chunks; between two of them nothing is held open."""
        rows = rows_of(self.plan.model, self.using).order_by("pk").values_list("pk", flat=True)
        keys = list(rows[:size])
        while keys:
            yield keys
            keys = list(rows.filter(pk__gt=keys[-1])[:size]) if len(keys) == size else []

    def read(self, keys: Sequence[Any], *, lock: bool = False) -> list[StoredRow]:
        """Return the rows with these keys that are there and the plan's own, in the order of the keys.

        Args:
            keys: The keys.
            lock: Whether nobody else may write the rows or their members until the transaction ends.

        """
        images: list[Image] = []
        extended: set[Any] = set()
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            images += self.images.rows(deleting=True, lock=lock).filter(pk__in=chunk).order_by("pk")
            extended |= self._extended(chunk)
        own = [image for image in images if self.images.key(image) not in extended]
        members = self._members(own, lock=lock)
        rows = []
        for position, image in enumerate(own):
            pk = self.images.key(image)
            rows.append(
                StoredRow(
                    pk, row_name(self.plan.model, pk), image, {name: of[position] for name, of in members.items()}
                )
            )
        return rows

    def _extended(self, keys: Sequence[Any]) -> set[Any]:
        found: set[Any] = set()
        for child in self.plan.descendants:
            link = self.plan.model._meta.pk_fields[0]
            rows = rows_of(child.model, self.using).filter(**{f"{link.name}__in": keys})
            found |= set(rows.order_by().values_list(link.attname, flat=True))
        return found

    def _members(self, images: Sequence[Image], *, lock: bool) -> dict[str, list[list[Any]]]:
        """Return the members' keys by field, for each image in turn."""
        found = {}
        for membership in self._memberships:
            attname = membership.owner_link.target_field.attname
            owners = [self.images.value(image, attname) for image in images]
            by_owner: dict[Any, list[Any]] = {}
            for start in range(0, len(owners), CHUNK):
                for owner, member in self._pairs(membership, owners[start : start + CHUNK], lock=lock):
                    by_owner.setdefault(owner, []).append(member)
            found[membership.field.name] = [sorted(by_owner.get(owner, ())) for owner in owners]
        fields = self.plan.all_members
        return {name: [member_names(fields[name], keys) for keys in lists] for name, lists in found.items()}

    def _pairs(self, membership: Membership, owners: Sequence[Any], *, lock: bool) -> Iterable[Any]:
        condition = membership.of_owner(*owners)
        if lock:
            return membership.pairs(self.using, condition)
        links = (membership.owner_link.attname, membership.member_link.attname)
        return rows_of(membership.through, self.using).filter(condition).order_by().values_list(*links)


def first_row_name(model: type[models.Model], using: str) -> str | None:
    """Return the name in the trail of the first row by primary key, None if there is no row."""
    keys = rows_of(model, using).order_by("pk").values_list("pk", flat=True)[:1]
    return next(iter(map(object_id, keys)), None)


def rows_named(model: type[models.Model], names: Sequence[str], using: str) -> set[str]:
    """Return the names in the trail of the rows of a model that are there, out of these names."""
    every = rows_of(model, using).order_by()
    if has_secret_key(model):
        # A tag does not lead back to its key, so the tags of all rows are made.
        wanted, known = set(names), every.values_list("pk", flat=True)
        return {name for pk in known.iterator(chunk_size=CHUNK) if (name := row_name(model, pk)) in wanted}
    keys = [key for name in names if (key := parse_id(model, name)) is not None]
    found = set(map(object_id, every.filter(pk__in=keys).values_list("pk", flat=True)))
    for start in filter(None, map(beginning, names)):
        found |= set(map(object_id, every.filter(pk__startswith=start).values_list("pk", flat=True)))
    return found
