"""What a replay finds: differences between the trail and the tables, and what it could not compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Model, TextChoices
from django.utils.translation import gettext_lazy as _

from django_signal_audit.events.values import JSONValue


class Kind(TextChoices):
    """The ways in which trail and table can differ."""

    VALUE = "value", _("the row holds another value than is recorded")
    MEMBERS = "members", _("the row has other members than are recorded")
    UNRECORDED = "unrecorded", _("no event tells of the row; audit_baseline gives it a starting point")
    UNSTARTED = "unstarted", _("only changes of the row are recorded; audit_baseline gives it a starting point")
    DELETED = "deleted", _("the row is there, and its deletion is the last that is recorded")
    GONE = "gone", _("the row is gone, and no deletion is recorded")


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
