"""Custom signals that rules name become events of the type the rule says."""

from __future__ import annotations

from django.db import models, router
from django.dispatch import Signal

from django_signal_audit.context.actors import unwrapped
from django_signal_audit.context.scopes import is_suspended
from django_signal_audit.enums import Source
from django_signal_audit.events.changes import Change
from django_signal_audit.models import AuditEvent
from django_signal_audit.plugins import load
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.registry import Registry

from .base import CaptureSource, register_source

UID = "django_signal_audit.custom_signals"


def signal_change(event_type: str, arguments: dict[str, object]) -> Change:
    """Return the change for a signal: ``instance`` is the object, ``user`` the actor, the others are its data."""
    instance = unwrapped(arguments.pop("instance", None))
    actor = arguments.pop("user", None)
    if not isinstance(instance, models.Model):
        arguments |= {} if instance is None else {"instance": instance}
        return Change(
            event_type=event_type,
            source=Source.SIGNAL,
            using=router.db_for_write(AuditEvent),
            data=arguments,
            actor=actor,
        )
    return Change(
        event_type=event_type,
        source=Source.SIGNAL,
        using=instance._state.db or router.db_for_write(AuditEvent),
        model=instance._meta.concrete_model,
        pk=instance.pk,
        instance=instance,
        data=arguments,
        actor=actor,
    )


class SignalReceiver:
    """Records one signal as one type of event."""

    def __init__(self, event_type: str) -> None:
        self.event_type = event_type

    def __call__(self, sender: object, signal: Signal, **arguments: object) -> None:
        """Record what the signal says."""
        change = signal_change(self.event_type, arguments)
        if change.model is None or not is_suspended(change.model):
            record_changes([change], change.using)


@register_source
class CustomSignalSource(CaptureSource):
    """Connects each custom signal once per type of event that rules make of it."""

    def __init__(self) -> None:
        self._connected: list[tuple[Signal, str]] = []

    def connect(self, registry: Registry) -> None:
        """Connect the signals the rules name; whatever sends them: they are custom."""
        for path, event_type in dict.fromkeys((rule.signal, rule.event) for rule in registry.rules if rule.signal):
            signal: Signal = load(path, 'a rule\'s "signal"', "a signal", lambda found: isinstance(found, Signal))
            uid = f"{UID}.{event_type}"
            signal.connect(SignalReceiver(event_type), weak=False, dispatch_uid=uid)
            self._connected.append((signal, uid))

    def disconnect(self) -> None:
        """Leave no receiver behind."""
        for signal, uid in self._connected:
            signal.disconnect(dispatch_uid=uid)
        self._connected.clear()
