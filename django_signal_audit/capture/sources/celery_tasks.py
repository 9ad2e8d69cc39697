"""Tasks of Celery take the audit context along, in a header, and name themselves in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from celery import signals

from django_signal_audit.context.propagation import pack, task_scope
from django_signal_audit.context.scopes import context_scope
from django_signal_audit.rules.registry import Registry

from .base import CaptureSource

logger = logging.getLogger("django_signal_audit")

HEADER = "django_signal_audit"
# It delivers what anybody's changes made, whatever woke it.
DELIVERY = "django_signal_audit.deliver"


class CeleryTaskSource(CaptureSource):
    """Listens to Celery's own signals, of all tasks."""

    def connect(self, registry: Registry) -> None:
        """Listen if there is anything to record."""
        if registry.rules:
            signals.before_task_publish.connect(_send_along)
            signals.task_prerun.connect(_enter)
            signals.task_postrun.connect(_leave)

    def disconnect(self) -> None:
        """Listen no more."""
        signals.before_task_publish.disconnect(_send_along)
        signals.task_prerun.disconnect(_enter)
        signals.task_postrun.disconnect(_leave)


def _send_along(sender: str, headers: dict[str, object], **_: object) -> None:
    packed = {} if sender == DELIVERY else pack()
    if packed:
        # As text, for AMQP knows no numbers longer than 64 bits.
        headers[HEADER] = json.dumps(packed)
    else:
        headers.pop(HEADER, None)


def _enter(task: Any, **_: object) -> None:
    request = task.request
    scope: AbstractContextManager[Any] = (
        context_scope(task=task.name) if request.is_eager else task_scope(task.name, _packed(request))
    )
    scope.__enter__()
    # The request object is the run's own, also where the broker delivers a task twice.
    request.audit_scope = scope


def _leave(task: Any, **_: object) -> None:
    scope = getattr(task.request, "audit_scope", None)
    if scope is not None:
        task.request.audit_scope = None
        scope.__exit__(None, None, None)


def _packed(request: Any) -> Mapping[str, object]:
    text = getattr(request, HEADER, None)
    try:
        found = json.loads(text or "{}")
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, dict):
        logger.warning("Task %s came with an audit context that cannot be read; its events name no actor.", request.id)
        return {}
    return found
