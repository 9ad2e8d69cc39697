"""Who is acting, why, and in which request or command; what is suspended; and how deep deliveries and receivers are.

One context variable carries all of it, and it is read when an event is written.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from itertools import count
from types import TracebackType
from typing import Any, NamedTuple, ParamSpec, Self, TypeAlias, TypeVar

from django.db import models
from django.http import HttpRequest

from django_signal_audit.context.clients import MAX_PATH, clean_path, client_ip
from django_signal_audit.events.documents import ESCAPE_KEY, RESERVED, JSONValue, clean_text, safe_str, unescaped
from django_signal_audit.events.keys import new_uid
from django_signal_audit.events.masking import without_secret_values
from django_signal_audit.events.payloads import cut, limited, masked_payload

P = ParamSpec("P")
T = TypeVar("T")


Actors = dict[int, tuple[object, tuple[str, str]]]


@dataclass(frozen=True, kw_only=True)
class AuditContext:
    """What surrounds a change. Immutable: nesting makes a new one and leaving restores the old."""

    request: HttpRequest | None = None
    actor: Any = None
    reason: str = ""
    command: str = ""
    task: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)
    # The extra of where a task was enqueued: JSON already, its secrets masked.
    carried: Mapping[str, JSONValue] = field(default_factory=dict)
    # Who really acted where a task was enqueued, if its actor was impersonated.
    impersonator: Mapping[str, JSONValue] = field(default_factory=dict)
    correlation_id: str = ""
    # What the function of the setting CONTEXT answered in this request or task.
    answers: dict[object, Any] = field(default_factory=dict, compare=False)
    # How actors are named, by their identity, with the actors themselves.
    actors: Actors = field(default_factory=dict, compare=False)

    @cached_property
    def payload(self) -> dict[str, JSONValue]:
        """Return what the event's ``context`` column holds: the parts that are there, secrets masked."""
        parts: dict[str, JSONValue] = {
            "request": _describe(self.request) if self.request is not None else {},
            "command": _text(self.command),
            "task": _text(self.task),
            "reason": without_secret_values(_text(self.reason)),
            "extra": self.extra_with({}),
        }
        return {key: part for key, part in parts.items() if part}

    def extra_with(self, asked: Mapping[str, JSONValue]) -> dict[str, JSONValue]:
        """Return the extra of here, of what was asked for, and of where a task was enqueued; the nearest first counts.

        Its tags can be compared within one scope.
        """
        own = masked_payload(self.extra, ("context", self.correlation_id))
        if not self.carried and not asked:
            return own
        together = {**unescaped(dict(self.carried)), **unescaped(dict(asked)), **unescaped(own)}
        return limited(together if RESERVED.isdisjoint(together) else {ESCAPE_KEY: together})


def _text(value: object) -> str:
    return cut(clean_text(safe_str(value))) if value else ""


def _describe(request: HttpRequest) -> dict[str, JSONValue]:
    """Return the request as JSON. The query string stays out: it may carry secrets."""
    described = {
        "method": request.method or "",
        "path": cut(clean_path(request), MAX_PATH),
        "ip": client_ip(request),
        "user_agent": request.headers.get("User-Agent", "")[:500],
        "request_id": request.headers.get("X-Request-ID", "")[:100],
    }
    return {key: clean_text(value) for key, value in described.items() if value}


NO_CONTEXT = AuditContext()
Model: TypeAlias = type[models.Model]


class _Layer(NamedTuple):
    """What one scope makes of the context around it."""

    scope: object
    outer: AuditContext
    apply: Callable[[AuditContext], AuditContext]


class _State(NamedTuple):
    """All that depends on where the code runs: one context variable holds it."""

    context: AuditContext = NO_CONTEXT
    # The scopes that are open, the outermost first.
    layers: tuple[_Layer, ...] = ()
    # The models whose changes go unrecorded, of all scopes and by scope.
    suspended: frozenset[Model] = frozenset()
    suspensions: tuple[tuple[object, frozenset[Model]], ...] = ()
    # How many deliveries, one after another, led to what is written now.
    generation: int = 0
    # Counts the changes that the delivery in progress has set off notifications with.
    set_off: Iterator[int] = iter(())
    # How deep receivers of event_recorded are in what such receivers wrote.
    receivers: int = 0
    # The settings whose functions are being asked.
    asked: frozenset[str] = frozenset()
    # The tenant that a command was asked for; None for the one that the function of TENANT names.
    tenant: str | None = None


_state: ContextVar[_State] = ContextVar("django_signal_audit", default=_State())  # noqa: B039  # it is immutable


def _put(**values: Any) -> None:
    # Each scope restores its own value alone, as scopes may end in another order than that in which they began.
    _state.set(_state.get()._replace(**values))


def current_context() -> AuditContext:
    """Return the context in force, NO_CONTEXT outside any."""
    return _state.get().context


def new_correlation_id() -> str:
    """Return a fresh id that ties together all events of one request, command or ``audit_context``."""
    return str(new_uid())


def _enter(apply: Callable[[AuditContext], AuditContext]) -> object:
    """Open a scope, and return what closes it."""
    scope, (outer, layers, *_) = object(), _state.get()
    _put(context=apply(outer), layers=(*layers, _Layer(scope, outer, apply)))
    return scope


def _leave(scope: object) -> None:
    """Close a scope. Scopes may end in another order than that in which they began: what the others say stays."""
    layers = _state.get().layers
    if layers and layers[-1].scope is scope:
        _put(context=layers[-1].outer, layers=layers[:-1])
    elif any(layer.scope is scope for layer in layers):
        context, left = layers[0].outer, []
        for layer in layers:
            if layer.scope is not scope:
                left.append(layer._replace(outer=context))
                context = layer.apply(context)
        _put(context=context, layers=tuple(left))


def _replacing(**changes: Any) -> Callable[[AuditContext], AuditContext]:
    """Return what replaces attributes of a context, and gives it a correlation id if it has none."""
    new_id = new_correlation_id()
    if changes.keys() & {"request", "task"}:
        changes |= {"answers": {}, "actors": {}}
    return lambda outer: replace(outer, **{"correlation_id": outer.correlation_id or new_id, **changes})


@contextmanager
def replaced_context(context: AuditContext) -> Iterator[None]:
    """Run a block in a context that takes nothing over from the one around it."""
    scope = _enter(lambda _outer: context)
    try:
        yield
    finally:
        _leave(scope)


@contextmanager
def context_scope(**changes: object) -> Iterator[AuditContext]:
    """Run a block with some attributes of the context replaced; the middleware and the command hook use it."""
    scope = _enter(_replacing(**changes))
    try:
        yield current_context()
    finally:
        _leave(scope)


class ScopeDecorator(ABC):
    """Makes a scope usable as ``with``, ``async with`` and decorator of sync and async functions."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._arguments = args, kwargs

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _again(self) -> Self:
        # A decorated function may run in many threads and tasks at once: each call has a scope of its own.
        args, kwargs = self._arguments
        return type(self)(*args, **kwargs)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return the function wrapped so that each call runs in a scope of its own."""
        if inspect.iscoroutinefunction(function):
            return self._decorate_async(function)  # type: ignore[return-value]

        @wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            with self._again():
                return function(*args, **kwargs)

        return wrapper

    def _decorate_async(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @wraps(function)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            async with self._again():
                return await function(*args, **kwargs)

        return wrapper


class audit_context(ScopeDecorator):  # noqa: N801  # reads as the statement it is: with audit_context(...)
    """Says who acts and why, for all changes inside; context manager and decorator, sync and async.

    Args:
        actor: The user (or a text) to name as actor; None keeps the outer scope's.
        reason: Why; ``""`` keeps the outer scope's.
        **extra: Anything else worth keeping, added to the outer scope's.

    """

    def __init__(self, actor: object = None, reason: str = "", **extra: object) -> None:
        super().__init__(actor, reason, **extra)
        self._actor, self._reason, self._extra = actor, reason, extra
        self._scopes: list[object] = []

    def __enter__(self) -> Self:
        new_id, actors = new_correlation_id(), Actors()

        def apply(outer: AuditContext) -> AuditContext:
            return replace(
                outer,
                actor=outer.actor if self._actor is None else self._actor,
                actors=outer.actors if self._actor is None else actors,
                reason=self._reason or outer.reason,
                extra={**outer.extra, **self._extra},
                correlation_id=outer.correlation_id or new_id,
            )

        self._scopes.append(_enter(apply))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _leave(self._scopes.pop())


ALL_MODELS: frozenset[Model] = frozenset({models.Model})


def suspend(suspended: Iterable[Model]) -> object:
    """Leave changes of these models unrecorded in this context, and return what ``resume`` takes."""
    concrete = frozenset(model if model is models.Model else model._meta.concrete_model or model for model in suspended)
    scope = object()
    _put_suspensions((*_state.get().suspensions, (scope, concrete)))
    return scope


def resume(scope: object) -> None:
    """Record the changes of what a scope has suspended, but for what others suspend too."""
    _put_suspensions(tuple(one for one in _state.get().suspensions if one[0] is not scope))


def _put_suspensions(suspensions: tuple[tuple[object, frozenset[Model]], ...]) -> None:
    _put(suspensions=suspensions, suspended=frozenset().union(*(suspended for _scope, suspended in suspensions)))


@contextmanager
def suspended() -> Iterator[None]:
    """Leave what a block changes unrecorded, and that too: for what this package sets off itself."""
    scope = suspend(ALL_MODELS)
    try:
        yield
    finally:
        resume(scope)


def is_suspended(model: Model) -> bool:
    """Return whether changes of a concrete model go unrecorded right now."""
    suspended = _state.get().suspended
    return bool(suspended) and (models.Model in suspended or model in suspended)


# How many deliveries in a row may each have been set off by what the one before wrote.
MAX_GENERATION = 10
# How many of them may each set off any number of such rows of deliveries.
BRANCHING_GENERATIONS = 2
# How deep receivers of event_recorded may be called for what such a receiver wrote.
MAX_DEPTH = 3


def next_generation() -> int:
    """Return how many deliveries led to the change that is notified of now.

    Deliveries that write two rows would double the messages in each generation. So, late in a chain, only the first
    change of each delivery goes on with it: the others count as the end of their chain. They are sent all the same.
    """
    generation = _state.get().generation
    if generation <= BRANCHING_GENERATIONS or next(_state.get().set_off) == 0:
        return generation
    return max(generation, MAX_GENERATION)


@contextmanager
def delivering(generation: int) -> Iterator[None]:
    """Note that what a block writes is written by the delivery of a notification of this generation."""
    before = _state.get()
    _put(generation=generation + 1, set_off=count())
    try:
        yield
    finally:
        _put(generation=before.generation, set_off=before.set_off)


@contextmanager
def telling_receivers() -> Iterator[bool]:
    """Run a block that calls receivers; the value is whether to call them, or it has gone too deep."""
    depth = _state.get().receivers
    _put(receivers=depth + 1)
    try:
        yield depth < MAX_DEPTH
    finally:
        _put(receivers=depth)


@contextmanager
def asking(setting: str) -> Iterator[bool]:
    """Run a block that asks the function of a setting; the value is whether to, or it is being asked already."""
    before = _state.get().asked
    _put(asked=before | {setting})
    try:
        yield setting not in before
    finally:
        _put(asked=before)


def chosen_tenant() -> str | None:
    """Return the tenant that was chosen, None if none was."""
    return _state.get().tenant


@contextmanager
def choosing_tenant(tenant: str | None) -> Iterator[None]:
    """Read and write the events of a tenant in the block, whatever its function says; None for what that says."""
    before = _state.get().tenant
    _put(tenant=tenant)
    try:
        yield
    finally:
        _put(tenant=before)
