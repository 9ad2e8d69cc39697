"""Whether this version of Django works inside as the hook at its query compilers relies on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import models
from django.db.models.deletion import Collector
from django.db.models.sql import UpdateQuery
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler

from django_signal_audit.problems import Problem

from .internals import is_changed

_PARAMETERS: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "SQLInsertCompiler.execute_sql": (SQLInsertCompiler.execute_sql, ["self", "returning_fields"]),
    "SQLUpdateCompiler.execute_sql": (SQLUpdateCompiler.execute_sql, ["self", "result_type"]),
    "Collector.delete": (Collector.delete, ["self"]),
}
_METHODS: tuple[tuple[type, str], ...] = (
    (models.QuerySet, "bulk_create"),
    (models.QuerySet, "bulk_update"),
    (SQLDeleteCompiler, "execute_sql"),
    (SQLInsertCompiler, "as_sql"),
    (SQLInsertCompiler, "get_converters"),
    (SQLInsertCompiler, "apply_converters"),
    (UpdateQuery, "add_related_update"),
)


def self_check() -> list[Problem]:
    """Return what this version of Django does differently from what the hook relies on."""
    broken = [
        f"the parameters of {name}"
        for name, (function, expected) in _PARAMETERS.items()
        if is_changed(function, expected)
    ]
    broken += [f"{owner.__name__}.{name}" for owner, name in _METHODS if not callable(getattr(owner, name, None))]
    hint = 'Use a Django version this package supports, or set SIGNAL_AUDIT["CAPTURE_QUERIES"] = False.'
    return [Problem("E024", f"Django: {what}", "is not as capture of queries relies on.", hint) for what in broken]
