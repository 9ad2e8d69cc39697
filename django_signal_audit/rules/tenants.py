"""Where a row names its tenant: the mapping in the setting TENANT, by model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from django.core.exceptions import FieldDoesNotExist
from django.db import models

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.events.secret_fields import is_masked
from django_signal_audit.problems import did_you_mean

from .patterns import Field, Model, concrete, find_model, is_wildcard


@dataclass(frozen=True, slots=True)
class TenantPath:
    """The way from a row to the text that names its tenant.

    Attributes:
        fields: The column of the row itself, then those of the rows that its foreign keys lead to.

    """

    fields: tuple[Field, ...]

    @property
    def column(self) -> Field:
        """Return the column of the row itself."""
        return self.fields[0]

    @property
    def rest(self) -> str:
        """Return the way on from there as a lookup, ``""`` if the column names the tenant."""
        return "__".join(field.attname if field is self.fields[-1] else field.name for field in self.fields[1:])

    @property
    def lookup(self) -> str:
        """Return the whole way as a lookup."""
        return "__".join(filter(None, (self.column.name if self.rest else self.column.attname, self.rest)))

    def __str__(self) -> str:
        return "__".join(field.name for field in self.fields)


class Wrong(NamedTuple):
    """What is wrong with a path: the code of the check, what it says, and how to mend it."""

    code: str
    message: str
    hint: str


def mapping() -> Mapping[str, str]:
    """Return the mapping of model patterns to paths; an empty one if TENANT is none."""
    found = get_settings().tenant
    return found if isinstance(found, Mapping) else {}


@cache
def tenant_path(model: Model) -> TenantPath | None:
    """Return the way from a row of a model to its tenant, None if its rows belong to none."""
    pattern = pattern_for(model)
    found = parse_path(model, mapping()[pattern]) if pattern and mapping()[pattern] else None
    return found if isinstance(found, TenantPath) else None


on_settings_changed(tenant_path.cache_clear)


def pattern_for(model: Model) -> str:
    """Return the pattern that counts for a model: the one that means the fewest models, a parent's label included."""
    patterns = {pattern.lower(): pattern for pattern in mapping()}
    own = concrete(model)
    for one in (own, *own._meta.get_parent_list()):
        label = one._meta.label_lower
        named = [key for key in patterns if not is_wildcard(key) and _label_of(key) == label]
        if named:
            return patterns[named[0]]
    app = f"{own._meta.app_label.lower()}.*"
    return patterns.get(app) or patterns.get("*", "")


def is_left_out(model: Model) -> bool:
    """Return whether the mapping says that rows of a model belong to no tenant: by ``""`` in place of a path."""
    pattern = pattern_for(model)
    return bool(pattern) and mapping()[pattern] == ""


def _label_of(pattern: str) -> str:
    found = find_model(pattern)
    return concrete(found)._meta.label_lower if found else pattern


def parse_path(model: Model, text: str) -> TenantPath | Wrong:
    """Return the way that ``company``, ``company_id`` or ``order__company`` describes, or what is wrong with it."""
    found: list[Field] = []
    at: Model | None = concrete(model)
    for name in text.split("__"):
        if at is None:
            what = f"{found[-1].name!r} of {found[-1].model._meta.label} leads to no other model"
            return Wrong("E088", f"names {text!r}, but {what}.", f'End the path with "{found[-1].name}".')
        field = _field(at, name)
        if field is None:
            names = [one.name for one in at._meta.concrete_fields]
            hint = did_you_mean(name, names, "Name a column, or foreign keys and a column: order__company.")
            return Wrong("E088", f"names {text!r}, but {at._meta.label} has no column {name!r}.", hint)
        if is_masked(field):
            message = (
                f"names {text!r}, but {field.name!r} of {at._meta.label} is masked: events must not show its value."
            )
            return Wrong("E089", message, "Name a column that is no secret, such as the key of the tenant's row.")
        found.append(field)
        at = field.related_model if isinstance(field, models.ForeignKey) else None
    return TenantPath(tuple(found))


def _field(model: Model, name: str) -> Field | None:
    if name == "pk":
        keys = model._meta.pk_fields
        return keys[0] if len(keys) == 1 else None
    try:
        found = model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return found if isinstance(found, models.Field) and found.concrete and not found.many_to_many else None
