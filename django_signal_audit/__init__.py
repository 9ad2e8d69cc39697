"""An audit log and notifications for Django models, configured by rules in your settings.

``Rule`` and the others named here can be imported in ``settings.py``, before Django is configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .rules.schema import Rule

if TYPE_CHECKING:
    from .api import ahistory_of, arecord, history_of, record, record_view, suspend_auditing
    from .context.propagation import audited_task
    from .context.scopes import audit_context
    from .events.changes import Change, FieldChange, M2MChange

__version__ = "0.2.0"

__all__ = [
    "Change",
    "FieldChange",
    "M2MChange",
    "Rule",
    "__version__",
    "ahistory_of",
    "arecord",
    "audit_context",
    "audited_task",
    "history_of",
    "record",
    "record_view",
    "suspend_auditing",
]

# Imported at first use, for they need Django to be configured.
_LAZY = {
    "ahistory_of": "api",
    "arecord": "api",
    "history_of": "api",
    "record": "api",
    "record_view": "api",
    "suspend_auditing": "api",
    "Change": "events.changes",
    "FieldChange": "events.changes",
    "M2MChange": "events.changes",
    "audit_context": "context.scopes",
    "audited_task": "context.propagation",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
