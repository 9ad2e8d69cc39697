"""Management commands name themselves in the context of what they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any

from django.core.management.base import BaseCommand
from django.core.management.color import no_style
from django.core.management.commands.loaddata import Command as LoadData
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.models import Max
from django.db.models.signals import post_save, pre_save
from django.utils.module_loading import import_string

from django_signal_audit.capture.hooks import patch_once
from django_signal_audit.capture.scope import scope_of
from django_signal_audit.capture.sources.base import CaptureSource, register_source
from django_signal_audit.context.scopes import ALL_MODELS, Model, context_scope, current_context, resume, suspend
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.events import SignatureField, delete_pruned
from django_signal_audit.models.tables import is_ready
from django_signal_audit.rules.registry import Registry, get_registry

_SOME = 500


class Loading:
    """One run of ``loaddata``."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._newest = self._events().aggregate(newest=Max("pk"))["newest"] or 0
        # The primary keys of the audited rows that are loaded, by model.
        self._loaded: dict[Model, dict[Any, None]] = {}
        self._suspension: object = None

    def _events(self) -> Any:
        return AuditEvent._base_manager.using(self.using).order_by()

    def note(self, model: Model, pk: object) -> None:
        """Keep in mind that a row is loaded."""
        concrete = model._meta.concrete_model or model
        if concrete in get_registry().plans:
            self._loaded.setdefault(concrete, {})[pk] = None

    def meet_history(self) -> None:
        """Take back what was recorded so far, and record nothing of what follows: an event of the dump comes."""
        if self._suspension is not None:
            return
        self._suspension = suspend(ALL_MODELS)
        own = self._events().filter(pk__gt=self._newest, correlation_id=current_context().correlation_id)
        while uids := list(own.values_list("uid", flat=True)[:_SOME]):
            Notification._base_manager.using(self.using).filter(event__in=uids).delete()
            delete_pruned(AuditEvent.of_all_tenants.using(self.using).filter(uid__in=uids).order_by())

    def finish(self) -> None:
        """Give a starting point to the loaded rows whose state is not the one that the events tell."""
        if self._suspension is None:
            return
        self.end()
        connection = connections[self.using]
        with connection.cursor() as cursor:
            # The events came with their primary keys.
            for sql in connection.ops.sequence_reset_sql(no_style(), [AuditEvent, Notification]):
                cursor.execute(sql)
        import_string("django_signal_audit.replay.baseline.complete_history")(self._loaded, self.using)
        self._loaded = {}

    def end(self) -> None:
        """Record what happens from here on."""
        if self._suspension is not None:
            resume(self._suspension)
            self._suspension = None


@contextmanager
def loading_scope(command: Any, using: str) -> Iterator[None]:
    """Be around a run of ``loaddata``, or of what another package has made of it."""
    if using not in connections or not is_ready(using):
        yield
        return
    loading = Loading(using)
    original: Callable[..., Any] = command.loaddata

    def loaddata(*args: object, **kwargs: object) -> object:
        found = original(*args, **kwargs)
        loading.finish()  # in the transaction that handle() has opened
        return found

    command.loaddata = loaddata
    post_save.connect(_note, dispatch_uid="django_signal_audit.capture.fixtures")
    try:
        with scope_of(using).within(loading=loading):
            yield
    finally:
        post_save.disconnect(_note, dispatch_uid="django_signal_audit.capture.fixtures")
        del command.loaddata
        loading.end()


def _note(sender: type[models.Model], instance: models.Model, using: str, raw: bool = False, **_: object) -> None:
    loading = scope_of(using).loading
    if raw and loading is not None:
        loading.note(sender, instance.pk)


def before_raw_save(instance: object, raw: bool = False, using: str = "", **_: object) -> None:
    """Prepare an event or notification that a fixture brings: raw saves don't call the methods of its fields."""
    if not raw:
        return
    if isinstance(instance, AuditEvent):
        SignatureField.number(instance)
    loading = scope_of(using).loading if using else None
    if loading is not None:
        loading.meet_history()


for _model in (AuditEvent, Notification):
    pre_save.connect(before_raw_save, sender=_model, dispatch_uid="django_signal_audit.capture.fixtures")


def wrap_execute(original: Callable[..., object]) -> Callable[..., Any]:
    """Return ``BaseCommand.execute`` in a context that carries the command's name."""

    @wraps(original)
    def execute(self: BaseCommand, *args: object, **options: object) -> Any:
        if not get_registry().rules:
            return original(self, *args, **options)
        with context_scope(command=type(self).__module__.rpartition(".")[2]), _around_fixtures(self, options):
            return original(self, *args, **options)

    return execute


def _around_fixtures(command: BaseCommand, options: dict[str, Any]) -> AbstractContextManager[None]:
    """Return what has to be around a command that loads fixtures: their events may be among them."""
    if isinstance(command, LoadData) and getattr(command, "completes_history", True):
        return loading_scope(command, options.get("database") or DEFAULT_DB_ALIAS)
    return nullcontext()


@register_source
class CommandSource(CaptureSource):
    """Wraps the one method that every command runs through, from the shell and from ``call_command`` alike."""

    def connect(self, registry: Registry) -> None:
        """Wrap it, once per process, if there is anything to record."""
        if registry.rules:
            patch_once(BaseCommand, "execute", wrap_execute)

    def disconnect(self) -> None:
        """Do nothing: without rules, commands pass through."""
