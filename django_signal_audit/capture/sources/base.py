"""What a capture source is: something that turns what happens into Changes and hands them to the recorder."""

from __future__ import annotations

from abc import ABC, abstractmethod

from django.db.models import Model

from django_signal_audit.problems import Problem
from django_signal_audit.rules.registry import Registry


class CaptureSource(ABC):
    """Base class of capture sources.

    Subclass it and decorate the subclass with ``@register_source``, in a module ``audit_sources`` of any installed
    app: it is connected at start-up and again whenever the settings change.
    """

    @abstractmethod
    def connect(self, registry: Registry) -> None:
        """Start to record what the rules ask for. Nothing may be connected that no rule asks for."""

    @abstractmethod
    def disconnect(self) -> None:
        """Undo ``connect``; must be idempotent."""

    def admit(self, registry: Registry, model: type[Model]) -> None:
        """Record what the rules ask of a model that was defined after the start; by default, everything anew."""
        self.disconnect()
        self.connect(registry)

    def problems(self) -> list[Problem]:
        """Return why this source cannot do its work here; shown by the system checks."""
        return []


_sources: list[CaptureSource] = []


def register_source(source: type[CaptureSource]) -> type[CaptureSource]:
    """Add a source to those that are connected; usable as a class decorator."""
    if not any(type(known) is source for known in _sources):
        _sources.append(source())
    return source


def registered_sources() -> tuple[CaptureSource, ...]:
    """Return the sources in order of registration."""
    return tuple(_sources)
