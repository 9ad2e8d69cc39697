"""The packages that are compared, in the order of the table's columns."""

from __future__ import annotations

from .base import Package
from .diffs import AuditLog, EasyAudit, FieldAudit
from .ours import Ours
from .snapshots import PgHistory, Reversion, SimpleHistory

PACKAGES: tuple[Package, ...] = (
    Ours(),
    AuditLog(),
    SimpleHistory(),
    Reversion(),
    EasyAudit(),
    FieldAudit(),
    PgHistory(),
)


def package(name: str) -> Package:
    """Return the package of that name."""
    return next(one for one in PACKAGES if one.name == name)
