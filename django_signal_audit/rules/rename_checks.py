"""Renames in the project's migrations that RENAMED lacks, and entries of RENAMED that name what never was."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

from django.apps import AppConfig, apps
from django.db import models
from django.db.migrations import AddField, CreateModel, Migration, RenameField, RenameModel, SeparateDatabaseAndState
from django.db.migrations.loader import MigrationLoader

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.models.renames import current_label, field_names, get_renames
from django_signal_audit.problems import Problem, did_you_mean
from django_signal_audit.rules.patterns import find_model
from django_signal_audit.rules.registry import get_registry


@dataclass
class History:
    """What the models and fields of one app were called, by its migrations.

    Attributes:
        labels: The label that each model had and the one that it has at the end, in lower case.
        fields: The same for fields, by the model's label at the end.
        names: The names of today as they are written.
        is_squashed: Whether former names may be missing.

    """

    app: str
    labels: dict[str, str] = field(default_factory=dict)
    fields: dict[str, dict[str, str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    is_squashed: bool = False

    def add(self, operation: object) -> None:
        """Go on with one operation."""
        if isinstance(operation, SeparateDatabaseAndState):
            for one in operation.state_operations:
                self.add(one)
        elif isinstance(operation, CreateModel):
            self._note_model(operation.name)
            self.fields[self._label(operation.name)] = {name: name for name, _ in operation.fields}
        elif isinstance(operation, RenameModel):
            self._rename_model(operation.old_name, operation.new_name)
        elif isinstance(operation, AddField):
            self._fields(operation.model_name)[operation.name] = operation.name
        elif isinstance(operation, RenameField):
            _rename(self._fields(operation.model_name), operation.old_name, operation.new_name)

    def _label(self, name: str) -> str:
        return f"{self.app}.{name}".lower()

    def _note_model(self, name: str) -> None:
        self.labels[self._label(name)] = self._label(name)
        self.names[self._label(name)] = f"{self.app}.{name}"

    def _rename_model(self, old_name: str, new_name: str) -> None:
        old, new = self._label(old_name), self._label(new_name)
        self._note_model(new_name)
        _rename(self.labels, old, new)
        self.fields[new] = self.fields.pop(old, {})

    def _fields(self, name: str) -> dict[str, str]:
        return self.fields.setdefault(self._label(name), {})


def _rename(names: dict[str, str], old: str, new: str) -> None:
    """Note in a mapping of former names to those of today that one has changed."""
    for former, now in names.items():
        if now == old:
            names[former] = new
    names[old] = names[new] = new


@cache
def history_of(app: str) -> History | None:
    """Return the history of an app, None if it has no migrations, or if they can't be read."""
    try:
        migrations = _migrations(app)
    except Exception:  # noqa: BLE001  # importing runs the project's code; Django reports what is wrong with it
        return None
    if not migrations:
        return None
    history = History(app)
    for name in _in_order(app, migrations):
        # What a squashed migration replaces says more than it.
        is_squashed = any((app, other) in migrations[name].replaces for other in migrations)
        history.is_squashed |= bool(migrations[name].replaces)
        for operation in () if is_squashed else migrations[name].operations:
            history.add(operation)
    return history


def _in_order(app: str, migrations: Mapping[str, Migration]) -> Iterator[str]:
    """Yield the names of migrations, each after those of the app that it depends on."""
    done: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name in done or name not in migrations:
            return
        done.add(name)
        for label, before in migrations[name].dependencies:
            yield from visit(before) if label == app else ()
        yield name

    for name in sorted(migrations):
        yield from visit(name)


def _migrations(app: str) -> dict[str, Migration]:
    """Return the migrations of an app by name, without those of other apps."""
    path, _is_explicit = MigrationLoader.migrations_module(app)
    if path is None:
        return {}
    module = import_module(path)
    names = [info.name for info in pkgutil.iter_modules(module.__path__) if not info.ispkg and info.name[0] not in "_~"]
    found = {name: getattr(import_module(f"{path}.{name}"), "Migration", None) for name in names}
    return {name: migration for name, migration in found.items() if migration is not None}


on_settings_changed(history_of.cache_clear)


def rename_problems() -> Iterator[Problem]:
    """Yield what is wrong with RENAMED, and what it lacks."""
    yield from get_renames().problems
    yield from _unknown_problems()
    by_app: dict[str, list[type[models.Model]]] = {}
    for model in get_registry().plans:
        if _is_projects(model._meta.app_config):
            by_app.setdefault(model._meta.app_label, []).append(model)
    for app, audited in by_app.items():
        history = history_of(app)
        if history is not None:
            yield from _missing_problems(history, {model._meta.label_lower: model for model in audited})


def _is_projects(config: AppConfig) -> bool:
    """Return whether an app belongs to the project; what packages rename is theirs to say."""
    return not {"site-packages", "dist-packages"} & set(Path(config.path).parts)


def _missing_problems(history: History, audited: dict[str, type[models.Model]]) -> Iterator[Problem]:
    path = 'SIGNAL_AUDIT["RENAMED"]'
    for former, now in history.labels.items():
        model = audited.get(now)
        if model is None or former == now or find_model(former) is not None or current_label(former) == now:
            continue
        message = f"lacks a rename in the migrations: {history.names[former]} is {model._meta.label} now."
        hint = f'Add "{history.names[former]}": "{model._meta.label}".'
        yield Problem("W083", path, message, hint)
    for label, model in audited.items():
        names = {one.name for one in (*model._meta.concrete_fields, *model._meta.many_to_many)}
        for former_name, name in history.fields.get(label, {}).items():
            if former_name in names or name not in names or field_names(label).get(former_name) == name:
                continue
            message = f"lacks a rename in the migrations: {model._meta.label}.{former_name} is {name} now."
            hint = f'Add "{model._meta.label}.{former_name}": "{model._meta.label}.{name}".'
            yield Problem("W083", path, message, hint)


def _unknown_problems() -> Iterator[Problem]:
    """Warn of former names that no migration has ever given."""
    for key in get_settings().renamed:
        parts = key.split(".")
        history = (
            history_of(parts[0].lower()) if len(parts) in (2, 3) and apps.is_installed(_name_of(parts[0])) else None
        )
        if history is None or history.is_squashed:
            continue
        path, label = f'SIGNAL_AUDIT["RENAMED"]["{key}"]', ".".join(parts[:2]).lower()
        message = f"names {key!r}, which no migration of the app has ever made."
        if len(parts) == 2 and label not in history.labels:
            yield Problem("W084", path, message, did_you_mean(label, history.labels))
        elif len(parts) == 3:
            known = history.fields.get(history.labels.get(label, current_label(label)), {})
            if known and parts[2] not in known:
                yield Problem("W084", path, message, did_you_mean(parts[2], known))


def _name_of(label: str) -> str:
    """Return the name of the app with a label, ``""`` if there is none."""
    return next((config.name for config in apps.get_app_configs() if config.label == label.lower()), "")
