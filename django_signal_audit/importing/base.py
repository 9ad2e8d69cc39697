"""What a source of ``audit_import`` is, and what it says of each of its rows.

A source is one module of ``importing/sources`` with a class ``Source``, or any class that a dotted path leads to. It
reads; ``importing.importer`` decides what becomes an event, and writes.
"""

from __future__ import annotations

import datetime as dt
import pkgutil
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.apps import apps
from django.db import DatabaseError, DataError, InterfaceError

from django_signal_audit.exceptions import InvalidSettings
from django_signal_audit.importing import sources
from django_signal_audit.models.renames import names_of_fields
from django_signal_audit.plugins import load_class
from django_signal_audit.problems import did_you_mean
from django_signal_audit.rules.patterns import auditable_fields, auditable_members, concrete

# So many rows that could not be taken are named for each reason.
NAMED = 10


class CannotImport(Exception):
    """The import can't begin or go on; the text says why."""


class Unusable(ValueError):
    """One row of the source can't be taken; the text says why. The others can."""


def is_of_one_row(error: Exception) -> bool:
    """Return whether an error is about what one row holds: then the others can be taken.

    Fields and texts of the project's own may raise anything.
    """
    return isinstance(error, DataError) or not isinstance(error, (DatabaseError, InterfaceError, CannotImport))


@dataclass(slots=True, kw_only=True)
class Entry:
    """What one row of a source says of one object.

    Values are Python values of the field's type. What has no typed value belongs into ``unclear``.

    Attributes:
        key: The primary key of the source's row.
        at: When it happened, aware.
        event_type: ``create``, ``update``, ``delete``, ``baseline``; any other name for an event without values.
        object_id: The object's primary key, as text or as the values of a composite one.
        object_repr: The object's text at that time.
        snapshot: All values by field name, after the change; before a ``delete``. None if only changes are known.
        changes: Old and new value by field name.
        members: All keys of an m2m field by its name, after the change.
        m2m: The keys that an m2m field gained and lost by its name.
        unclear: Old and new text of fields without a typed value, by name.
        actor: The primary key of the user.
        actor_repr: The name of somebody who is no user, or isn't known any more.
        context: ``request``, ``reason`` and ``extra``, as in events.
        correlation_id: What the events of one request have in common.
        data: The event's ``data``.

    """

    key: str
    at: dt.datetime
    event_type: str
    object_id: Any
    object_repr: str = ""
    snapshot: Mapping[str, Any] | None = None
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    members: Mapping[str, Iterable[Any]] = field(default_factory=dict)
    m2m: Mapping[str, tuple[Iterable[Any], Iterable[Any]]] = field(default_factory=dict)
    unclear: dict[str, Any] = field(default_factory=dict)
    actor: Any = None
    actor_repr: str = ""
    context: dict[str, Any] = field(default_factory=dict)
    correlation_id: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Summary:
    """What an import did, or with ``--dry-run`` would do.

    Attributes:
        read: Rows of the source.
        written: Events.
        known: Rows that an earlier run has taken.
        dropped: Rows that changed nothing.
        overlap: Rows from when this package recorded the object already.
        inferred: Deletions that the source lacks.
        closing: Baselines that say what the source had missed.
        unclear: Values without a type, by field.
        unaudited: Values of fields that no rule audits, by field.
        left: Rows that could not be taken, by reason.
        named: Some of them, by reason.
        broken: Tables that could not be read to their end.

    """

    read: int = 0
    written: int = 0
    known: int = 0
    dropped: int = 0
    overlap: int = 0
    inferred: int = 0
    closing: int = 0
    unclear: Counter[str] = field(default_factory=Counter)
    unaudited: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def leave(self, reason: str, name: str) -> None:
        """Note a row that can't be taken."""
        self.left[reason] += 1
        names = self.named.setdefault(reason, [])
        if len(names) < NAMED:
            names.append(name)


class History(ABC):
    """What a source says of the objects of one model.

    Attributes:
        label: The model's label in lower case, also of one that is gone.
        table: The table the rows are in.
        has_values: Whether the rows say what objects held. Events without values are written in any order.

    """

    label: str
    table: str
    has_values: bool = True

    @abstractmethod
    def count(self) -> int:
        """Return how many rows there are."""

    @abstractmethod
    def slices(self, summary: Summary) -> Iterator[tuple[int, Sequence[Entry]]]:
        """Yield some rows at a time: how many they are, and what can be taken of them.

        All rows of one object come one after another, oldest first.
        """

    def place(self, at: dt.datetime, key: str) -> Any:
        """Return what the rows of one object are sorted by."""
        return at


def renamed_fields(label: str, renamed: Mapping[str, str]) -> dict[str, str]:
    """Return the present names of a model's fields by their former ones, those that it inherits among them.

    Args:
        label: The model's label in the source.
        renamed: See ``ImportSource``.

    """
    model = _model(renamed.get(label, label))
    own = names_of_fields(model) if model else ()
    parents = [parent._meta.label_lower for parent in model._meta.get_parent_list()] if model else []
    found = {}
    for owner in (*parents, label, renamed.get(label, label)):
        names = {old.rpartition(".")[2]: new for old, new in renamed.items() if old.rpartition(".")[0] == owner}
        # A child may have a field of its own with the former name of one that it inherits.
        found.update({old: new for old, new in names.items() if owner not in parents or old not in own})
    return found


def _model(label: str) -> Any:
    try:
        return concrete(apps.get_model(label))
    except (LookupError, ValueError):
        return None


class ModelFields:
    """The model that rows are about, and its fields by the names that the source has for them.

    Args:
        label: The model's label in the source.
        renamed: See ``ImportSource``.

    Attributes:
        model: The model as it is now, None if it is gone.
        columns: Its columns that may be audited, by name.
        members: Its m2m fields without a through model of their own, by name.

    """

    def __init__(self, label: str, renamed: Mapping[str, str]) -> None:
        self.model = _model(renamed.get(label, label))
        former = {new: old for old, new in renamed_fields(label, renamed).items()}
        columns = auditable_fields(self.model) if self.model else {}
        members = auditable_members(self.model) if self.model else {}
        self.columns: dict[str, Any] = {former.get(name, name): field for name, field in columns.items()}
        self.members: dict[str, Any] = {former.get(name, name): field for name, field in members.items()}


class ImportSource(ABC):
    """Reads what another package has recorded.

    Args:
        using: The database.
        renamed: Present labels by former ones, and present names of fields by former label and name.

    """

    # What events say they come from.
    name: ClassVar[str] = ""

    def __init__(self, using: str, renamed: Mapping[str, str] | None = None) -> None:
        self.using = using
        self.renamed = renamed or {}

    def fields(self, label: str) -> ModelFields:
        """Return the fields of a model by the names that the source has for them."""
        return ModelFields(label, self.renamed)

    @abstractmethod
    def histories(self) -> Iterable[History]:
        """Return the history of each model.

        Raises:
            CannotImport: There is nothing to read from.

        """


def source_names() -> list[str]:
    """Return the names of the built-in sources: those of the modules in ``importing/sources``."""
    return sorted(module.name for module in pkgutil.iter_modules(sources.__path__))


def load_source(name: str) -> type[ImportSource]:
    """Return the class of a source.

    Args:
        name: The name of a built-in source, also as that of its package on PyPI, or a dotted path.

    Raises:
        CannotImport: It names none.

    """
    known = {_plain(known): known for known in source_names()}
    module = known.get(_plain(name))
    if module is None and "." not in name:
        msg = f"There is no source {name!r}. {did_you_mean(name, known.values())}"
        raise CannotImport(msg)
    path = f"{sources.__name__}.{module}.Source" if module else name
    try:
        return load_class(path, "SOURCE", ImportSource)  # type: ignore[type-abstract]
    except InvalidSettings as error:
        raise CannotImport(str(error)) from error


def _plain(name: str) -> str:
    """Return what is left of a name: "django-simple-history" and "simple_history" are one."""
    return re.sub(r"^django", "", re.sub(r"[\W_]+", "", name.lower()))
