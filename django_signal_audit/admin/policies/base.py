"""What all policies have in common."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from django import forms
from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist, PermissionDenied, ValidationError
from django.db import DatabaseError, connections, models
from django.db.models import QuerySet
from django.db.models.query import ModelIterable
from django.forms.models import apply_limit_choices_to_to_formfield

from django_signal_audit.capture.images import chunks
from django_signal_audit.capture.rows import is_one_of, rows_of
from django_signal_audit.events.keys import object_id, parse_ids
from django_signal_audit.rules.visibility import has_permission, may_view_model

if TYPE_CHECKING:
    from .gone import Lives, Located

logger = logging.getLogger(__name__)

T = TypeVar("T")
# Whether a row's events may be seen; None leaves it to the project's VISIBILITY.
Verdict: TypeAlias = "bool | None"
# Makes the form that a row is edited with.
MakeForm: TypeAlias = "Callable[[models.Model], forms.ModelForm[Any]]"
# SQLite limits the parameters of a statement, and a primary key may have several parts.
CHUNK = 400


class NotRecordedError(Exception):
    """Raised for what the audit log doesn't know of a deleted row."""


def ask(question: Callable[[], T], otherwise: T) -> T:
    """Return the answer of the project's code, which says no to everything where it raises."""
    try:
        return question()
    except (PermissionDenied, NotRecordedError):
        return otherwise
    except DatabaseError:
        raise
    except Exception:
        logger.exception("A ModelAdmin could not say what a user may see, so they see nothing of it.")
        return otherwise


@dataclass(frozen=True, slots=True)
class FieldAccess:
    """Which fields of a row a page of the admin shows.

    Attributes:
        named: The fields that the page shows, None for all.
        excluded: The fields that are named as excluded.
        is_explicit: Whether the ModelAdmin names its fields. One that does not shows all that a form can show, which
            says nothing about the others.

    """

    named: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()
    is_explicit: bool = False

    def shows(self, model: type[models.Model], name: str) -> bool:
        """Return whether the values of a field may be seen; those of fields that the model has no longer may."""
        if name in self.excluded:
            return False
        if self.named is None or name in self.named:
            return True
        try:
            field = model._meta.get_field(name)
        except FieldDoesNotExist:
            return True
        return not self.is_explicit and not getattr(field, "editable", True)


ALL_FIELDS = FieldAccess()
NO_FIELDS = FieldAccess(named=frozenset(), is_explicit=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a user may write to a row by hand: the fields of the form that they would do it with, None for no limits."""

    fields: Mapping[str, forms.Field] | None = None
    # Make the forms for a row, unbound.
    forms: tuple[MakeForm, ...] = ()

    def allows(self, name: str) -> bool:
        """Return whether the user may change a field."""
        return self.fields is None or (name in self.fields and not self.fields[name].disabled)

    def offers(
        self, target: models.Field[object, object] | None, name: str, values: Collection[object], using: str
    ) -> bool:
        """Return whether the form lets the user choose all of these values.

        Args:
            target: The field of the other model that a foreign key or m2m field refers to, None for other fields.
            name: The field.
            values: The values.
            using: The database.

        """
        field = self.fields.get(name) if self.fields is not None else None
        if isinstance(field, forms.ModelChoiceField) and target is not None:
            return ask(lambda: _offers_rows(field, target, values, using), otherwise=False)
        if field is None or isinstance(field, _OF_OTHERS):
            return True
        return ask(lambda: all(_is_offered(field, value) for value in values), otherwise=False)

    def objections(self, row: models.Model, values: Mapping[str, object]) -> list[str]:
        """Return what the project's code in the forms and in the model says against a row with these values.

        Args:
            row: The row as it is now, which is left alone.
            values: The values to be written, by field, as forms have them once they are cleaned.

        """
        found = (text for make in self.forms for text in _objections(make(copy(row)), values))
        return list(dict.fromkeys(found))


# Their values are rows or files, and their validators are for what a browser sends.
_OF_OTHERS = (forms.ModelChoiceField, forms.FileField)


def _is_offered(field: forms.Field, value: object) -> bool:
    """Return whether a field of a form takes a value that a row had."""
    if value in (None, ""):
        return not field.required or isinstance(field, forms.BooleanField)
    if isinstance(field, forms.ChoiceField):
        if not all(map(field.valid_value, _chosen(field, value))):
            return False
        if is_djangos(type(field), "clean", "to_python"):
            return True
    if isinstance(field, forms.MultiValueField) and is_djangos(type(field), "clean", "compress"):
        # A time in an hour that comes twice has no form of its own, and was in the row.
        return all(is_djangos(type(part), "clean", "to_python") for part in field.fields) or _is_cleaned(field, value)
    return _is_cleaned(field, value)


def _chosen(field: forms.Field, value: object) -> Collection[object]:
    """Return the choices that a value stands for; a column of text has several with something between them."""
    if not isinstance(field, forms.MultipleChoiceField):
        return [value]
    if isinstance(value, str):
        return [value] if field.valid_value(value) else _BETWEEN.split(value)
    return value if isinstance(value, (list, tuple, set)) else [value]


_BETWEEN = re.compile(r"[,;|\s]+")


def _is_cleaned(field: forms.Field, value: Any) -> bool:
    """Return whether a field cleans a value, in any of the forms in which a browser may send it."""
    widget: Any = field.widget
    ways: list[Callable[[], Any]] = [
        lambda: field.prepare_value(value),
        lambda: widget.format_value(field.prepare_value(value)),
        lambda: value,
    ]
    if isinstance(field, forms.MultiValueField):
        ways = [lambda: widget.decompress(value)]
    for way in ways:
        try:
            field.clean(way())
        except (ValidationError, TypeError, ValueError, AttributeError):
            continue
        return True
    return False


def _objections(form: forms.ModelForm[Any], values: Mapping[str, object]) -> list[str]:
    # What is left as it is need not be valid: to fill in what is missing elsewhere is for another day.
    others = form.fields.keys() - values.keys()
    private: Any = form
    excluded = private._get_validation_exclusions  # noqa: SLF001
    private._clean_fields = lambda: _clean_values(form, values)  # noqa: SLF001
    private._get_validation_exclusions = lambda: excluded() | others  # noqa: SLF001
    form.is_bound = True
    form.full_clean()
    return [str(text) for texts in form.errors.values() for text in texts]


def _clean_values(form: forms.ModelForm[Any], values: Mapping[str, object]) -> None:
    """Do as ``Form._clean_fields``, with values in place of what a browser sends."""
    form.cleaned_data = {name: values[name] if name in values else _present(form, name) for name in form.fields}
    for name in form.fields:
        try:
            if hasattr(form, f"clean_{name}"):
                form.cleaned_data[name] = getattr(form, f"clean_{name}")()
        except ValidationError as error:
            form.add_error(name, error)


def _present(form: forms.ModelForm[Any], name: str) -> object:
    """Return the value that a form would send back where nobody touches it."""
    row: Any = form.instance
    try:
        field = row._meta.get_field(name)
        if field.many_to_many:
            return getattr(row, name).all() if row.pk is not None else field.remote_field.model._base_manager.none()
        return getattr(row, name)
    except (FieldDoesNotExist, ObjectDoesNotExist, AttributeError):
        return form.get_initial_for_field(form.fields[name], name)


def _offers_rows(field: Any, target: models.Field[object, object], values: Collection[object], using: str) -> bool:
    apply_limit_choices_to_to_formfield(field)
    rows = field.queryset.using(using)
    for wanted in chunks(frozenset(values), CHUNK):
        found = rows.filter(**{f"{target.attname}__in": wanted}).values_list(target.attname, flat=True)
        if not set(wanted) <= set(found):
            return False
    return True


class Policy(ABC):
    """What the user of a request may see and change of the rows of one model."""

    model: type[models.Model]
    sees_all: bool
    sees_none: bool
    # Whether which fields are shown depends on the row.
    depends_on_row: bool = False

    @abstractmethod
    def verdicts(self, keys: Collection[str], using: str) -> dict[str, Verdict]:
        """Return whether the rows may be seen, by ``object_id``; those that are gone are left out if that matters."""

    @abstractmethod
    def verdicts_of_gone(self, events: Sequence[Located], lives: Lives, using: str) -> list[Verdict]:
        """Return whether the rows of events may be seen, which are gone; ``lives`` knows what is recorded of them."""

    def rows(self, keys: Collection[str], using: str) -> dict[str, models.Model]:
        """Return those of the rows that are there and may be seen, by ``object_id``."""
        return {}

    def fields(self, row: models.Model | None) -> FieldAccess:
        """Return which fields of a row are shown, of any row for None."""
        return ALL_FIELDS

    @abstractmethod
    def limits(self, action: str, row: models.Model | None) -> Limits | None:
        """Return what the user may write by hand, None if they may write nothing.

        Args:
            action: ``"change"``, ``"delete"``, or ``"add"`` for a row that was deleted.
            row: The row, or what is known of one that was deleted; None for a row that is gone.

        """


def fields_of(form: type[forms.ModelForm[Any]], **options: Any) -> Mapping[str, forms.Field]:
    """Return the fields that a form has once it is made: its own ``__init__`` may take some out or disable them."""
    if form.__init__ is forms.ModelForm.__init__:
        return form.base_fields
    return form(**options).fields


def in_parts(items: Iterable[object], using: str) -> Iterator[list[Any]]:
    """Return keys in lists that a statement can name: of thousands, other databases than SQLite take many."""
    return chunks(items, CHUNK if connections[using].vendor == "sqlite" else 10 * CHUNK)


def with_pks(rows: QuerySet[Any], pks: Sequence[Any]) -> QuerySet[Any]:
    """Return those of the rows that have one of the primary keys; there may be thousands of keys."""
    return rows.filter(is_one_of(rows.model, pks, rows.db))


def present(model: type[models.Model], keys: Iterable[str], using: str) -> dict[str, models.Model]:
    """Return the rows that are there by their keys, not asking who may see them."""
    found: dict[str, models.Model] = {}
    for part in in_parts(frozenset(parse_ids(model, keys).values()), using):
        found |= {object_id(row.pk): row for row in with_pks(rows_of(model, using), part)}
    return found


def existing(model: type[models.Model], keys: Iterable[str], using: str) -> set[str]:
    """Return which rows are there, not asking who may see them."""
    found: set[str] = set()
    for part in in_parts(frozenset(parse_ids(model, keys).values()), using):
        found.update(map(object_id, with_pks(rows_of(model, using), part).values_list("pk", flat=True)))
    return found


def unseen(fields: Mapping[str, forms.Field]) -> frozenset[str]:
    """Return the fields whose value a form never shows, such as a password."""
    return frozenset(
        name
        for name, field in fields.items()
        if isinstance(field.widget, forms.PasswordInput) and not field.widget.render_value
    )


VIEW_METHODS = ("has_view_permission", "has_change_permission", "has_view_or_change_permission")
FIELD_METHODS = (
    "get_fieldsets",
    "get_fields",
    "get_exclude",
    "get_form",
    "get_readonly_fields",
    "formfield_for_dbfield",
)
# They choose how a field is edited, whichever row it is of.
WIDGET_METHODS = ("formfield_for_choice_field", "formfield_for_foreignkey", "formfield_for_manytomany")
# They choose which inlines are on the page of a row.
INLINE_METHODS = ("get_inlines", "get_inline_instances", "get_formsets_with_inlines", "get_inline_formsets")


def overrides(found: object, base: type, *names: str) -> bool:
    """Return whether an object has other methods of these names than its base class."""
    kind = type(found)
    return any(getattr(kind, name, None) is not getattr(base, name, None) or name in vars(found) for name in names)


def overrides_by_itself(found: object, base: type, *names: str) -> bool:
    """Return whether other code than Django's own overrides one of the methods."""
    return any(
        overrides(found, base, name) and not str(getattr(found, name).__module__).startswith("django.contrib.")
        for name in names
    )


def is_djangos(kind: type, *names: str) -> bool:
    """Return whether the methods of a class are Django's own."""
    return all(str(getattr(kind, name).__module__).startswith("django.") for name in names)


def narrows(rows: QuerySet[Any]) -> bool:
    """Return whether a queryset may leave rows of its model out."""
    query = rows.query
    if not is_djangos(type(rows), "_fetch_all", "__iter__"):
        return True
    return bool(query.where or query.is_sliced or query.combinator or query.distinct_fields or query.extra_tables)


def is_plain(rows: QuerySet[Any]) -> bool:
    """Return whether a queryset has the same rows if nothing but their primary keys is read."""
    query: Any = rows.query
    is_cut = query.is_sliced or query.combinator
    return not is_cut and getattr(rows, "_iterable_class", None) is ModelIterable and is_djangos(type(rows), *_READING)


_READING = ("_fetch_all", "__iter__", "iterator", "filter", "values_list", "values", "using", "_values", "_clone")


class PermissionPolicy(Policy):
    """What a user may see and change of a model by its permissions."""

    def __init__(self, user: object, model: type[models.Model], *, has_hook: bool) -> None:
        self.user = user
        self.model = model
        may_view = may_view_model(user, model._meta.label_lower)
        self.sees_none = not may_view
        self.sees_all = may_view and not has_hook

    def verdicts(self, keys: Collection[str], using: str) -> dict[str, Verdict]:
        """Return for each row what the permissions say, and leave the rest to VISIBILITY."""
        return dict.fromkeys(keys, self._verdict)

    def verdicts_of_gone(self, events: Sequence[Located], lives: Lives, using: str) -> list[Verdict]:
        """Return the same for rows that are gone."""
        return [self._verdict for _event in events]

    @property
    def _verdict(self) -> Verdict:
        return False if self.sees_none else True if self.sees_all else None

    def limits(self, action: str, row: models.Model | None) -> Limits | None:
        """Return no limits for who has the permission."""
        return Limits() if has_permission(self.user, action, self.model) else None
