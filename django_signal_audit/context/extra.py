"""What the function of the setting CONTEXT says, asked once per request, task or transaction."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, MutableMapping
from functools import cache
from typing import NamedTuple, TypeAlias

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.context.scopes import AuditContext, asking, current_context
from django_signal_audit.events.documents import JSONValue
from django_signal_audit.events.payloads import masked_payload
from django_signal_audit.events.project_code import own_queries_anywhere
from django_signal_audit.plugins import PluginError, is_sync, load

logger = logging.getLogger("django_signal_audit")

PATH = 'SIGNAL_AUDIT["CONTEXT"]'


class Answer(NamedTuple):
    """What the function said as JSON, and what is wrong with it."""

    extra: Mapping[str, JSONValue]
    error: str = ""


_NOTHING = Answer({})
Answers: TypeAlias = MutableMapping[object, Answer]


def context_payload(using: str = "") -> dict[str, JSONValue]:
    """Return what the ``context`` column of an event holds.

    Args:
        using: The database of the event; ``""`` for no event, such as when a task is enqueued.

    """
    context = current_context()
    answer = _answer(context, using) if get_settings().context else _NOTHING
    payload = context.payload
    if answer.extra:
        payload = {**payload, "extra": context.extra_with(answer.extra)}
    return {**payload, "extra_error": answer.error} if answer.error else payload


def _answer(context: AuditContext, using: str) -> Answer:
    """Return the answer that is known, or ask."""
    answers = _known(context, using)
    function = get_settings().context
    answer = answers.get(function)
    if answer is None:
        with asking("CONTEXT") as may_ask:
            # What the function itself writes has no answer.
            answer = _ask(context) if may_ask else None
        if answer is None:
            return _NOTHING
        answers[function] = answer
    return answer


def _known(context: AuditContext, using: str) -> Answers:
    """Return the answers that hold here: those of the request or task, or of the transaction outside of both."""
    if context.request is not None or context.task:
        return context.answers
    if not using or not connections[using].in_atomic_block:
        return {}
    connection = connections[using]
    kept = vars(connection)
    # Django begins a new list whenever a transaction ends.
    hooks: object = connection.run_on_commit
    transaction, answers = kept.get("audit_answers", (None, {}))
    if transaction is not hooks:
        answers = {}
        kept["audit_answers"] = (hooks, answers)
    found: Answers = answers
    return found


def _ask(context: AuditContext) -> Answer:
    dotted = get_settings().context
    try:
        with own_queries_anywhere():
            said = _function()()
        if not isinstance(said, Mapping):
            return _failed(f"{dotted} returned {type(said).__name__}, not a dict")
    except PluginError as error:
        return _failed(f"{dotted} can't be called", error)
    except Exception as error:  # noqa: BLE001  # the project's code may raise anything, and the write must not fail
        return _failed(f"{dotted} raised {type(error).__name__}", error)
    try:
        json.dumps(dict(said), cls=DjangoJSONEncoder)
        return Answer(masked_payload(said, ("context", context.correlation_id)))
    except Exception as error:  # noqa: BLE001  # its values may be objects of any class
        return _failed(f"{dotted} returned what has no JSON", error)


def _failed(what: str, error: Exception | None = None) -> Answer:
    # The text of the error may hold secrets: the log has it, the event does not.
    logger.error("%s: events are recorded without it, and say so. %s", PATH, what, exc_info=error)
    return Answer({}, what)


@cache
def _function() -> Callable[[], object]:
    function: Callable[[], object] = load(
        get_settings().context, PATH, "a function that can be called without await", is_sync
    )
    return function


on_settings_changed(_function.cache_clear)
