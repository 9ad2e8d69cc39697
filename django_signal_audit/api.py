"""What application code calls: record an event of its own, or suspend the audit for a while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, overload

from asgiref.sync import sync_to_async
from django.db import connections, models, router

from django_signal_audit.conf import get_settings
from django_signal_audit.context.scopes import ALL_MODELS, Model, resume, suspend

from .context.scopes import ScopeDecorator
from .enums import EVENT_TYPE_LENGTH, ROW_EVENTS, EventType, Level, Source
from .events.changes import Change
from .events.keys import is_key
from .problems import did_you_mean, shown

if TYPE_CHECKING:
    from .history import History
    from .models import AuditEvent


def record(
    event_type: str,
    obj: models.Model | None = None,
    *,
    data: Mapping[str, object] | None = None,
    actor: object = None,
    level: str = Level.INFO.value,
) -> AuditEvent | None:
    """Record an event of your own; rules that name it in ``events`` add their level and notify.

    Args:
        event_type: The name of the event, ``"report_exported"``.
        obj: The object it is about, if any.
        data: What else is worth keeping; what has no JSON form is kept as text, secret keys are masked.
        actor: Who did it; None takes the context's actor, or the request's user.
        level: ``info``, ``warning`` or ``critical``.

    Returns:
        The event, None if ENABLED is False, if the database has no audit tables yet, or if ON_ERROR is "log" and it
        could not be written.

    Raises:
        EventNotWritten: It could not be written and ON_ERROR is "raise".
        TypeError: ``obj`` isn't an object of a model, or ``data`` isn't a mapping.
        ValueError: The event type is empty, too long or a model event's, or the level is unknown.

    """
    _require_valid(event_type, level, data)
    if not get_settings().enabled:
        return None
    change = _change(event_type, obj, data or {}, actor, level)
    # Models can be imported only once the apps are loaded, and this module is importable in settings.py.
    from .models import AuditEvent
    from .recorder import record_changes

    rows = record_changes([change], change.using)
    return AuditEvent.of_all_tenants.using(change.using).get(uid=rows[0].uid) if rows else None


async def arecord(
    event_type: str,
    obj: models.Model | None = None,
    *,
    data: Mapping[str, object] | None = None,
    actor: object = None,
    level: str = Level.INFO.value,
) -> AuditEvent | None:
    """Record an event of your own in async code, like ``record``."""
    return await sync_to_async(record)(event_type, obj, data=data, actor=actor, level=level)


def record_view(obj: models.Model) -> bool:
    """Record that the user of the request looked at an object, and return whether an event was written.

    There is none if no rule asks for it, or if the user has looked at the object within the window of the rules. What
    goes wrong is logged: nobody is kept from looking.
    """
    from .viewing import record_view

    return record_view(obj)


def _change(event_type: str, obj: object, data: Mapping[str, object], actor: object, level: str) -> Change:
    from .context.actors import unwrapped

    # request.user is lazy, and may be nobody.
    obj = unwrapped(obj)
    if not (obj is None or isinstance(obj, models.Model) or getattr(obj, "is_anonymous", None) is True):
        msg = f"record() takes an object of a model as obj, not {shown(obj)}."
        raise TypeError(msg)
    obj = obj if isinstance(obj, models.Model) else None
    return Change(
        event_type=event_type,
        source=Source.MANUAL,
        using=_alias(obj),
        model=None if obj is None else obj._meta.concrete_model,
        pk=None if obj is None else obj.pk,
        instance=obj,
        data=data,
        actor=actor,
        level=level,
    )


def _require_valid(event_type: str, level: str, data: object) -> None:
    if not (data is None or isinstance(data, Mapping)):
        msg = f"record() takes a dict as data, not {shown(data)}."
        raise TypeError(msg)
    if not event_type or len(event_type) > EVENT_TYPE_LENGTH:
        msg = f"record() needs an event type of 1 to {EVENT_TYPE_LENGTH} characters, not {event_type!r}."
        raise ValueError(msg)
    if event_type == EventType.VIEW:
        msg = "record() cannot say 'view': call record_view(obj) for that, or choose another name."
        raise ValueError(msg)
    if event_type in ROW_EVENTS:
        msg = f"record() cannot say {event_type!r}: that is what changes of rows are called. Choose another name."
        raise ValueError(msg)
    if level not in Level.values:
        msg = f"record() knows the levels {', '.join(Level.values)}, not {level!r}."
        raise ValueError(msg)


def _alias(obj: models.Model | None) -> str:
    if obj is not None and obj._state.db:
        return obj._state.db
    from .models import AuditEvent

    return router.db_for_write(AuditEvent)


@overload
def history_of(obj: models.Model, /, *, using: str | None = None) -> History: ...


@overload
def history_of(obj: type[models.Model], pk: object, /, *, using: str | None = None) -> History: ...


def history_of(obj: models.Model | type[models.Model], pk: object = None, /, *, using: str | None = None) -> History:
    """Return the recorded history of an object, which may be deleted.

    Args:
        obj: The object, or its model.
        pk: The primary key, if ``obj`` is a model.
        using: The database; by default that of the object.

    Returns:
        Its versions, the oldest first; none of an object that was never recorded.

    Raises:
        TypeError: It is neither an object nor a model with a table, or a primary key is given beside an object.
        ValueError: There is no primary key, no row of the model can have it, or there is no such database.
            ``delete()`` takes the key from the instance.

    """
    instance = None if isinstance(obj, type) else obj
    # A lazy object such as ``request.user`` has the class of what it stands for.
    model: type = obj if isinstance(obj, type) else obj.__class__
    if not issubclass(model, models.Model) or model._meta.abstract:
        msg = f"history_of() takes an object, or its model and primary key, not {obj!r}."
        raise TypeError(msg)
    if instance is not None and pk is not None:
        msg = f"history_of() takes the primary key from the object, and was given {shown(pk)} beside it."
        raise TypeError(msg)
    key = pk if instance is None else instance.pk
    if key is None and instance is None:
        msg = f"history_of() needs a primary key beside a model: history_of({model.__name__}, pk)."
        raise ValueError(msg)
    _require_key(model, key)
    if using is not None and using not in connections:
        msg = f"There is no database {using!r}. {did_you_mean(using, connections)}"
        raise ValueError(msg)
    # Models can be imported only once the apps are loaded, and this module is importable in settings.py.
    from .history import History
    from .models import AuditEvent

    return History(model, key, using or (instance and instance._state.db) or router.db_for_read(AuditEvent))


def _require_key(model: type[models.Model], key: object) -> None:
    if key is None:
        msg = (
            f"{model._meta.label} has no primary key here: delete() takes it from the instance. "
            f"Use history_of({model.__name__}, pk)."
        )
        raise ValueError(msg)
    if not is_key(model, key):
        names = ", ".join(f"{field.name} ({type(field).__name__})" for field in model._meta.pk_fields)
        msg = f"No {model._meta.label} can have the primary key {shown(key)}. It is of: {names}."
        raise ValueError(msg)


@overload
async def ahistory_of(obj: models.Model, /, *, using: str | None = None) -> History: ...


@overload
async def ahistory_of(obj: type[models.Model], pk: object, /, *, using: str | None = None) -> History: ...


async def ahistory_of(
    obj: models.Model | type[models.Model], pk: object = None, /, *, using: str | None = None
) -> History:
    """Return the history of an object like ``history_of``, with all versions in memory.

    Use ``async for version in history_of(obj)`` for a history that is too long for that.
    """
    history = history_of(obj, pk, using=using)  # type: ignore[arg-type]  # an object alone, or a model with a key
    return await sync_to_async(history.load)()


def record_suspension(reason: str, using: str, **data: object) -> None:
    """Record on a database that auditing of all models was suspended, and that it is resumed."""
    from .recorder import record_changes

    given = {"models": ["*"], "reason": reason}
    for event_type, more in (("auditing_suspended", data), ("auditing_resumed", {})):
        change = Change(
            event_type=event_type,
            source=Source.MANUAL,
            using=using,
            data={**given, **more},
            level=Level.WARNING.value,
        )
        record_changes([change], using)


def _require_models(given: Iterable[object]) -> None:
    # An object has the attributes of its model, and all of its model would go unrecorded.
    wrong = [one for one in given if not (isinstance(one, type) and issubclass(one, models.Model))]
    if wrong:
        msg = f"suspend_auditing() takes model classes, not {shown(wrong[0])}."
        raise TypeError(msg)


class suspend_auditing(ScopeDecorator):  # noqa: N801  # reads as the statement it is: with suspend_auditing(...)
    """Leaves changes of some models unrecorded; context manager and decorator, sync and async.

    Beginning and end are events themselves, with the reason.

    Args:
        *models: The models; none means all.
        reason: Why; it must not be empty.

    Raises:
        TypeError: One of them isn't the class of a model.
        ValueError: The reason is empty.

    """

    def __init__(self, *models: Model, reason: str) -> None:
        super().__init__(*models, reason=reason)
        _require_models(models)
        if not reason.strip():
            msg = "suspend_auditing() needs a reason: say why these changes may go unrecorded."
            raise ValueError(msg)
        self._models, self._reason = models, reason
        self._scopes: list[object] = []

    def _record(self, event_type: str) -> None:
        labels = sorted(model._meta.label for model in self._models) or ["*"]
        record(event_type, data={"models": labels, "reason": self._reason}, level=Level.WARNING.value)

    def _record_end(self) -> None:
        # A transaction that is to be rolled back takes no more queries; the beginning is lost with it.
        connection = connections[_alias(None)]
        if not (connection.in_atomic_block and connection.needs_rollback):
            self._record("auditing_resumed")

    def __enter__(self) -> Self:
        self._record("auditing_suspended")
        self._scopes.append(suspend(self._models or ALL_MODELS))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        resume(self._scopes.pop())
        self._record_end()

    async def __aenter__(self) -> Self:
        await sync_to_async(self._record)("auditing_suspended")
        self._scopes.append(suspend(self._models or ALL_MODELS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        resume(self._scopes.pop())
        await sync_to_async(self._record_end)()
