"""The audit context on its way along with a task: packed where that is enqueued, in force where it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from django.utils.module_loading import import_string

from django_signal_audit.context.actors import resolve_impersonator
from django_signal_audit.events.values import JSONValue, clean_text
from django_signal_audit.problems import shown

from .actors import resolve_actor
from .extra import context_payload
from .scopes import AuditContext, context_scope, current_context, new_correlation_id, replaced_context

T = TypeVar("T")

# The keyword argument by which the context goes along with a task of django.tasks, which has nothing like headers.
KEYWORD = "audit_context"


@dataclass(frozen=True, slots=True)
class CarriedActor:
    """Who acted where the task was enqueued, as events name an actor."""

    pk: str
    name: str

    def __str__(self) -> str:
        return self.name


def pack() -> dict[str, JSONValue]:
    """Return the context in force as JSON: correlation id, actor, impersonator, reason and extra, if not empty.

    The request stays behind: what a task changes is not changed in the request, which the correlation id leads to.
    """
    context = current_context()
    actor_id, actor_repr = resolve_actor()
    parts: dict[str, JSONValue] = {
        "correlation_id": context.correlation_id,
        "actor": [actor_id, actor_repr] if actor_id else None,
        "impersonator": resolve_impersonator(),
        "reason": context.reason,
        "extra": context_payload().get("extra"),
    }
    return {key: part for key, part in parts.items() if part}


@contextmanager
def task_scope(task: str, packed: Mapping[str, Any]) -> Iterator[None]:
    """Run a block in the context of a task, with what was packed when it was enqueued."""
    around = current_context()
    # What comes from a broker may be anything; the column takes 64 characters.
    correlation_id = clean_text(str(packed.get("correlation_id") or new_correlation_id()))[:64]
    if correlation_id == around.correlation_id:
        # It runs where it was enqueued, and the request is still there.
        with context_scope(task=task):
            yield
        return
    actor = packed.get("actor")
    context = AuditContext(
        command=around.command,
        task=task,
        actor=CarriedActor(*map(str, actor)) if actor else None,
        reason=str(packed.get("reason", "")),
        carried=packed.get("extra") or {},
        impersonator=packed.get("impersonator") or {},
        correlation_id=correlation_id,
    )
    with replaced_context(context):
        yield


def audited_task(task: T) -> T:
    """Return a task of ``django.tasks`` that takes the audit context along; to be used as a decorator above ``@task``.

    Events that the task writes name the actor, reason and correlation id of where it was enqueued, and the task. They
    travel as the keyword argument ``audit_context``, which the function does not see.

    Raises:
        TypeError: It isn't a task: the decorator stands below ``@task``, or above one of another queue.

    """
    if not (is_dataclass(task) and hasattr(task, "enqueue") and not isinstance(task, type)):
        msg = (
            f"audited_task() takes a task of django.tasks, not {shown(task)}. Put @audited_task above @task. "
            "Celery's tasks don't need it."
        )
        raise TypeError(msg)
    given: dict[str, Any] = {field.name: getattr(task, field.name) for field in fields(task)}
    given["func"] = _in_scope(given["func"])
    kind: Any = type(task)
    return _kind(kind)(**given)  # type: ignore[no-any-return]


@cache
def _kind(kind: Any) -> Any:
    """Return the class of tasks, of whichever backend, that pack the context as they are enqueued."""

    class AuditedTask(kind):  # type: ignore[misc]
        def enqueue(self, *args: object, **kwargs: object) -> Any:
            return super().enqueue(*args, **{KEYWORD: pack(), **kwargs})

        async def aenqueue(self, *args: object, **kwargs: object) -> Any:
            return await super().aenqueue(*args, **{KEYWORD: pack(), **kwargs})

        def __reduce__(self) -> Any:
            given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "func"}
            return _find, (self.module_path, given)

    return AuditedTask


def _find(path: str, given: Mapping[str, object]) -> object:
    return replace(import_string(path), **given)


def _in_scope(function: Callable[..., Any]) -> Callable[..., Any]:
    name = f"{function.__module__}.{function.__qualname__}"

    @contextmanager
    def scope(kwargs: dict[str, Any]) -> Iterator[None]:
        # Without it the function was called by hand, and acts for its caller.
        packed = kwargs.pop(KEYWORD, None)
        with context_scope(task=name) if packed is None else task_scope(name, packed):
            yield

    if iscoroutinefunction(function):

        @wraps(function)
        async def run_async(*args: object, **kwargs: object) -> object:
            with scope(kwargs):
                return await function(*args, **kwargs)

        return run_async

    @wraps(function)
    def run(*args: object, **kwargs: object) -> Any:
        with scope(kwargs):
            return function(*args, **kwargs)

    return run
