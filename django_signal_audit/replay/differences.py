"""What a replay finds: differences between the trail and the tables, and what it could not compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Model, TextChoices
from django.utils.translation import gettext_lazy as _

from django_signal_audit.events.values import JSONValue


class Kind(TextChoices):
    """The ways in which trail and table can differ."""

    VALUE = "value", _("the row's value differs from the recorded value")
    MEMBERS = "members", _("the row's members differ from the recorded members")
    UNRECORDED = "unrecorded", _("no recorded history; run audit_baseline")
    UNSTARTED = "unstarted", _("no recorded creation, only changes; run audit_baseline")
    DELETED = "deleted", _("the row exists, but its last recorded event is a deletion")
    GONE = "gone", _("the row is gone, but no deletion is recorded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference.

    ``recorded`` and ``actual`` are JSON as events have it: a secret is its tag, what is over-long a digest. Both are
    None, and ``field`` is empty, where the difference concerns the row as a whole.
    """

    model: type[Model]
    pk: Any
    kind: Kind
    field: str = ""
    recorded: JSONValue = None
    actual: JSONValue = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A field, or with an empty name a whole model, that was not compared, in some rows or in all."""

    model: type[Model]
    field: str
    reason: str
    # In how many rows; None for all there are.
    rows: int | None = None
