"""What of a ModelAdmin or an inline a project has overridden."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

VIEW_METHODS = ("has_view_permission", "has_change_permission", "has_view_or_change_permission")
FIELD_METHODS = (
    "get_fieldsets",
    "get_fields",
    "get_exclude",
    "get_form",
    "get_readonly_fields",
    "formfield_for_dbfield",
)


def overrides(found: Any, base: type, *names: str) -> bool:
    """Return whether an object has other methods of these names than its base class."""
    kind = type(found)
    return any(getattr(kind, name, None) is not getattr(base, name, None) or name in vars(found) for name in names)


def overrides_by_itself(found: Any, base: type, *names: str) -> bool:
    """Return whether other code than Django's own overrides one of the methods."""
    return any(
        overrides(found, base, name) and not str(getattr(found, name).__module__).startswith("django.contrib.")
        for name in names
    )


def narrows(rows: QuerySet[Any]) -> bool:
    """Return whether a queryset may leave rows of its model out."""
    query = rows.query
    return bool(query.where or query.is_sliced or query.combinator or query.distinct_fields or query.extra_tables)
