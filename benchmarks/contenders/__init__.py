"""Who takes part, in the order of the tables."""

from __future__ import annotations

from .auditlog import AuditLog
from .base import Contender
from .easy_audit import EasyAudit
from .field_audit import FieldAudit
from .floor import Floor
from .ours import Ours
from .pghistory import PgHistory, PgHistoryStatements
from .plain import Plain
from .reversion import Reversion
from .simple_history import SimpleHistory

CONTENDERS: tuple[Contender, ...] = (
    Plain(),
    Floor(),
    Ours(),
    AuditLog(),
    FieldAudit(),
    SimpleHistory(),
    Reversion(),
    EasyAudit(),
    PgHistory(),
    PgHistoryStatements(),
)


def contender(name: str) -> Contender:
    """Return the contender of that name."""
    return next(one for one in CONTENDERS if one.name == name)
