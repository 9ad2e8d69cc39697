"""Models and fields that were renamed: what events recorded under their former names are about now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from django.apps import apps
from django.db import models

from django_signal_audit.conf import get_settings, on_settings_changed
from django_signal_audit.problems import Problem, did_you_mean, shown

Names: TypeAlias = Mapping[str, str]
_NOTHING: Names = {}
_CIRCLE = (
    "Remove one of the entries of the circle. If the names were swapped, remove both, and run audit_baseline --repair "
    "after the migration."
)


class Entry(NamedTuple):
    """One entry of RENAMED: labels in lower case, the names of fields empty for a model."""

    key: str
    label: str
    name: str
    new_label: str
    new_name: str

    @property
    def path(self) -> str:
        """Return where it stands in the settings."""
        return f'SIGNAL_AUDIT["RENAMED"][{self.key!r}]'.replace("'", '"')


class Renames:
    """The entries of RENAMED, followed to the names of today; those with mistakes are left out."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        entries = list(self._entries())
        self._models = {entry.label: entry.new_label for entry in entries if not entry.name}
        self.labels = {label: self._end(label) for label in self._models}
        self._check_models(entries)
        # By the label of today: former names of fields, and what they are called now.
        self.fields: dict[str, dict[str, str]] = {}
        self._read_fields([entry for entry in entries if entry.name])

    def _entries(self) -> Iterator[Entry]:
        seen: dict[tuple[str, ...], str] = {}
        for key, value in get_settings().renamed.items():
            old, new = key.split("."), value.split(".")
            if len(old) == len(new) in (2, 3) and all((*old, *new)):
                first = seen.setdefault(tuple([part.lower() for part in old[:2]] + old[2:]), key)
                names = [*old[2:], *new[2:]] or ["", ""]
                entry = Entry(key, ".".join(old[:2]).lower(), names[0], ".".join(new[:2]).lower(), names[1])
                if first != key:
                    self._note_double(entry, entry._replace(key=first))
                yield entry
                continue
            path = Entry(key, "", "", "", "").path
            hint = 'Write "app_label.OldModel": "app_label.NewModel", or "app_label.Model.old": "app_label.Model.new".'
            self.problems.append(Problem("E083", path, f"is {shown(value)}, which isn't a new name for it.", hint))

    def _note_double(self, entry: Entry, first: Entry) -> None:
        message = f"means the same as {first.key!r}, so one of the two is ignored."
        self.problems.append(Problem("E091", entry.path, message, "Remove one of the two."))

    def _end(self, label: str) -> str:
        """Return what a label leads to, ``""`` if it leads in a circle."""
        seen = {label}
        while (following := self._models.get(label)) is not None:
            if following in seen:
                return ""
            seen.add(following)
            label = following
        return label

    def _check_models(self, entries: list[Entry]) -> None:
        known = {model._meta.label_lower: model._meta.label for model in apps.get_models()}
        for entry in entries:
            if entry.name:
                continue
            problem = None
            end = self.labels[entry.label]
            if not end:
                problem = Problem("E084", entry.path, "leads in a circle.", _CIRCLE)
            elif entry.label in known:
                message = f"renames {entry.label!r}, and there is such a model: events of both would mix."
                problem = Problem("E085", entry.path, message, "Remove it, or rename the new model.")
            elif end not in known:
                message = f"leads to {end!r}, but that model doesn't exist."
                problem = Problem("E083", entry.path, message, did_you_mean(end, list(known.values())))
            if problem is not None:
                self.problems.append(problem)
                del self.labels[entry.label]

    def _read_fields(self, entries: list[Entry]) -> None:
        """Note the former names of fields, followed to those of today."""
        steps: dict[str, dict[str, Entry]] = {}
        for entry in entries:
            label = self.labels.get(entry.label, entry.label)
            if self.labels.get(entry.new_label, entry.new_label) != label:
                message = f"leads from a field of {label!r} to one of another model."
                hint = "Map the model by an entry of its own, and name a field of that model."
                self.problems.append(Problem("E083", entry.path, message, hint))
                continue
            first = steps.setdefault(label, {}).setdefault(entry.name, entry)
            if first.new_name != entry.new_name:
                self._note_double(entry, first)
        for label, by_name in steps.items():
            for name, entry in by_name.items():
                end = _end_of(name, by_name)
                problem = _field_problem(entry, label, end)
                if problem is not None:
                    self.problems.append(problem)
                else:
                    self.fields.setdefault(label, {})[name] = end


def _end_of(name: str, steps: Mapping[str, Entry]) -> str:
    seen = {name}
    while (following := steps.get(name)) is not None:
        if following.new_name in seen:
            return ""
        name = following.new_name
        seen.add(name)
    return name


def _field_problem(entry: Entry, label: str, end: str) -> Problem | None:
    if not end:
        return Problem("E084", entry.path, "leads in a circle.", _CIRCLE)
    model = _model(label)
    if model is None:
        return Problem("E083", entry.path, f"leads to {label!r}, but that model doesn't exist.", "Map the model, too.")
    names = names_of_fields(model)
    if entry.name in names:
        message = f"renames {entry.name!r}, and there is such a field: values of both would mix."
        return Problem("E085", entry.path, message, "Remove it, or rename the new field.")
    if end not in names:
        message = f"leads to {end!r}, which isn't a field of {model._meta.label}."
        return Problem("E083", entry.path, message, did_you_mean(end, names))
    return None


def names_of_fields(model: type[models.Model]) -> list[str]:
    """Return the names of what a model holds itself; a relation from another model is not among it."""
    return [field.name for field in (*model._meta.concrete_fields, *model._meta.many_to_many)]


def _model(label: str) -> type[models.Model] | None:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        return None


@cache
def get_renames() -> Renames:
    """Return the renames in force."""
    return Renames()


def current_label(label: str) -> str:
    """Return the label of today of a model that events name."""
    return get_renames().labels.get(label, label) if get_settings().renamed else label


@cache
def former_labels(label: str) -> tuple[str, ...]:
    """Return the labels that a model had before."""
    return tuple(old for old, new in get_renames().labels.items() if new == label) if get_settings().renamed else ()


@cache
def field_names(label: str) -> Names:
    """Return what former fields of a model are called now, those that it inherits among them; by a label of today."""
    if not get_settings().renamed:
        return _NOTHING
    model, renamed = _model(label), get_renames().fields
    parents = [parent._meta.label_lower for parent in model._meta.get_parent_list()] if model is not None else []
    # A child may have a field of its own with the former name of one that it inherits.
    own = names_of_fields(model) if model is not None else ()
    return {old: new for one in (*parents, label) for old, new in renamed.get(one, {}).items() if old not in own}


def current_name(label: str, name: str) -> str:
    """Return what a field that events of a model name is called now."""
    return field_names(current_label(label)).get(name, name)


def former_names(label: str, name: str) -> tuple[str, ...]:
    """Return what a field of today was called before."""
    return tuple(old for old, new in field_names(label).items() if new == name)


def renamed_changes(label: str, changes: Any) -> Any:
    """Return the changes of an event with the names that the fields have today; a name of today counts first."""
    names = field_names(current_label(label))
    if not names or not isinstance(changes, dict) or names.keys().isdisjoint(changes):
        return changes
    renamed = {names.get(name, name): change for name, change in changes.items()}
    return {**renamed, **{name: change for name, change in changes.items() if name not in names}}


def former_scopes(field: models.Field[Any, Any], pk_text: str) -> Iterator[tuple[str, str, str]]:
    """Yield what tags of the values of a field were comparable within under its former names."""
    label = field.model._meta.label_lower
    for one in (label, *former_labels(label)):
        for name in (field.name, *former_names(label, field.name)):
            if (one, name) != (label, field.name):
                yield one, pk_text, name


@on_settings_changed
def _forget() -> None:
    for cached in (get_renames, former_labels, field_names):
        cached.cache_clear()
