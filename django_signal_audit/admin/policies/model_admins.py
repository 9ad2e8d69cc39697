"""Models with a ModelAdmin on the site."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.contrib.admin.utils import flatten_fieldsets
from django.db import models
from django.http import HttpRequest

from django_signal_audit.admin.policies.base import (
    ALL_FIELDS,
    FIELD_METHODS,
    NO_FIELDS,
    VIEW_METHODS,
    WIDGET_METHODS,
    FieldAccess,
    Limits,
    NotRecordedError,
    Policy,
    Verdict,
    ask,
    existing,
    fields_of,
    in_parts,
    is_djangos,
    is_plain,
    narrows,
    overrides,
    overrides_by_itself,
    present,
    unseen,
    with_pks,
)
from django_signal_audit.events.keys import object_id, parse_id, parse_ids
from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.visibility import has_permission, may_view_model

from .gone import Lives, Located, is_stand_in, stand_in


class AdminPolicy(Policy):
    """What a ModelAdmin lets the user of a request see and change."""

    def __init__(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> None:
        self.request = request
        self.admin = model_admin
        self.model = model_admin.model
        # By the identity of the row, which is kept so that no other one has it.
        self._fields: dict[int, tuple[models.Model | None, FieldAccess]] = {}

    @cached_property
    def _asks_each(self) -> bool:
        """Return whether the project's code may let the user see one row and not another."""
        if not overrides(self.admin, ModelAdmin, *VIEW_METHODS):
            return False
        # To be allowed to view is enough, whatever code there is for changing.
        views = overrides(self.admin, ModelAdmin, "has_view_permission", "has_view_or_change_permission")
        return views or not self.admin.has_view_permission(self.request)

    @cached_property
    def _opens_each(self) -> bool:
        """Return whether the project's code may find one row and not another, whatever the queryset has."""
        own_get = self._queryset is not None and not is_djangos(type(self._queryset), "get")
        return own_get or overrides(self.admin, ModelAdmin, "get_object")

    @cached_property
    def _may_view(self) -> bool:
        return self._may_view_row(None)

    def _may_view_row(self, row: object) -> bool:
        return bool(ask(lambda: self.admin.has_view_or_change_permission(self.request, row), otherwise=False))

    @cached_property
    def _queryset(self) -> models.QuerySet[Any] | None:
        rows: object = ask(lambda: self.admin.get_queryset(self.request), otherwise=None)
        return rows if isinstance(rows, models.QuerySet) else None

    @cached_property
    def _narrows(self) -> bool:
        return self._queryset is None or ask(lambda: narrows(self._queryset), otherwise=True)  # type: ignore[arg-type]

    @cached_property
    def sees_none(self) -> bool:  # type: ignore[override]
        """Return whether no row can be seen."""
        return self._queryset is None or not (self._asks_each or self._may_view)

    @cached_property
    def sees_all(self) -> bool:  # type: ignore[override]
        """Return whether all rows can be seen, without a look at any."""
        return not self._asks_each and not self._opens_each and self._may_view and not self._narrows

    def rows(self, keys: Collection[str], using: str) -> dict[str, models.Model]:
        """Return the rows that the ModelAdmin has a page for."""
        wanted = parse_ids(self.model, keys).values()
        # A queryset of the project's may fail only when it is read.
        found: dict[str, models.Model] = ask(lambda: self._in_queryset(wanted, using), otherwise={})
        if self._opens_each:
            opened = {key: ask(lambda: self.admin.get_object(self.request, key), otherwise=None) for key in found}  # noqa: B023
            found = {key: row for key, row in opened.items() if row is not None}
        if self._asks_each:
            return {key: row for key, row in found.items() if self._may_view_row(row)}
        return found if self._may_view else {}

    def _in_queryset(self, pks: Collection[object], using: str) -> dict[str, models.Model]:
        if self._queryset is None:
            return {}
        rows, found = self._queryset.using(using), {}
        if rows.query.is_sliced or rows.query.combinator:
            wanted = set(pks)
            return {object_id(row.pk): row for row in rows if row.pk in wanted}
        for part in in_parts(frozenset(pks), using):
            found.update({object_id(row.pk): row for row in rows.filter(pk__in=part)})
        return found

    def verdicts(self, keys: Collection[str], using: str) -> dict[str, Verdict]:
        """Return whether the ModelAdmin has a page for the rows that are there."""
        seen = self.rows(keys, using).keys() if self._asks_each or self._opens_each else self._seen(keys, using)
        there = existing(self.model, set(keys) - seen, using)
        return {**dict.fromkeys(there, False), **dict.fromkeys(seen, True)}

    def _seen(self, keys: Collection[str], using: str) -> AbstractSet[str]:
        """Return which rows the queryset has, where nobody has to look at them: their keys alone are read."""
        if not self._may_view:
            return set()
        wanted = parse_ids(self.model, keys).values()
        return ask(lambda: self._keys_in_queryset(wanted, using), otherwise=set[str]())

    def _keys_in_queryset(self, pks: Collection[object], using: str) -> AbstractSet[str]:
        rows = self._queryset
        if rows is None or not is_plain(rows):
            return self._in_queryset(pks, using).keys()
        parts = (with_pks(rows.using(using), part) for part in in_parts(frozenset(pks), using))
        return {object_id(pk) for part in parts for pk in part.values_list("pk", flat=True)}

    def verdicts_of_gone(self, events: Sequence[Located], lives: Lives, using: str) -> list[Verdict]:
        """Return whether rows that are gone may be seen: they are if nothing could have hidden them."""
        # A default manager that filters hides rows as well as get_queryset does.
        is_hidden = self._opens_each or self._narrows
        if self._asks_each:
            verdicts = [self._may_view_gone(event, using) for event in lives.told_by(events, using)]
        else:
            verdicts = [self._may_view] * len(events)
        return [None if verdict and is_hidden else verdict for verdict in verdicts]

    def _may_view_gone(self, event: AuditEvent, using: str) -> Verdict:
        if parse_id(self.model, event.object_id) is None:
            return False
        no: Verdict = False
        return ask(lambda: self._ask_of_gone(event, using), no)

    def _ask_of_gone(self, event: AuditEvent, using: str) -> Verdict:
        try:
            row = stand_in(self._model_of(event), event, using)
            return bool(self.admin.has_view_or_change_permission(self.request, row))
        except NotRecordedError:
            # It can't be told. The project may know.
            return None

    def _model_of(self, event: AuditEvent) -> type[models.Model]:
        """Return the model of an event's row: the ModelAdmin's own, or a multi-table child of it."""
        found = event.model_class
        return self.model if found is None or issubclass(self.model, found) else found

    @cached_property
    def depends_on_row(self) -> bool:  # type: ignore[override]
        """Return whether code of the project may show other fields of one row than of another."""
        # A form may choose its widgets by its instance.
        by_form = not is_djangos(self.admin.form, "__init__")
        return by_form or overrides_by_itself(self.admin, ModelAdmin, *FIELD_METHODS)

    @cached_property
    def _names_fields(self) -> bool:
        admin = self.admin
        return bool(admin.fields or admin.fieldsets) or overrides(admin, ModelAdmin, "get_fields", "get_fieldsets")

    @cached_property
    def _shows_all(self) -> bool:
        admin = self.admin
        is_plain = admin.form is forms.ModelForm and not overrides(admin, ModelAdmin, *FIELD_METHODS, *WIDGET_METHODS)
        is_plain = is_plain and not self._names_fields and not admin.exclude and not type(admin).formfield_overrides
        return is_plain and all(is_djangos(type(field), "formfield") for field in self.model._meta.fields)

    def fields(self, row: models.Model | None) -> FieldAccess:
        """Return the fields of the change page."""
        if self._shows_all:
            return ALL_FIELDS
        # Rows of one primary key differ: one is there, and others were deleted.
        asked = row if self.depends_on_row else None
        if id(asked) not in self._fields:
            self._fields[id(asked)] = asked, ask(lambda: self._shown(row), otherwise=NO_FIELDS)
        return self._fields[id(asked)][1]

    def _shown(self, row: models.Model | None) -> FieldAccess:
        # Without a row, it would be the page that adds one.
        shown = self.model() if row is None else row
        named = flatten_fieldsets(self.admin.get_fieldsets(self.request, shown))
        form: Any = self.admin.get_form(self.request, shown, change=True)
        excluded = {*(self.admin.get_exclude(self.request, shown) or ()), *unseen(fields_of(form, instance=shown))}
        return FieldAccess(frozenset(map(str, named)), frozenset(map(str, excluded)), self._names_fields)

    def limits(self, action: str, row: models.Model | None) -> Limits | None:
        """Return the fields of the form, read-only and excluded ones left out."""
        if action == "delete":
            return ask(lambda: self._deleting(row), otherwise=None)
        return ask(lambda: self._adding(row) if action == "add" else self._changing(row), otherwise=None)

    def _deleting(self, row: models.Model | None) -> Limits | None:
        return Limits({}) if row is not None and self.admin.has_delete_permission(self.request, row) else None

    def _changing(self, row: models.Model | None) -> Limits | None:
        if not self.admin.has_change_permission(self.request, row):
            return None
        return Limits({}) if row is None else self._of_page(row)

    def _adding(self, row: models.Model | None) -> Limits | None:
        """Return what can be written to a new row, on the page that adds it and on its change page afterwards."""
        if not self.admin.has_add_permission(self.request):
            return None
        form: Any = self.admin.get_form(self.request, None, change=False)
        added = Limits(fields_of(form), (lambda instance: form(instance=instance),))
        may_change = row is not None and self.admin.has_change_permission(self.request, row)
        later = self._of_page(row) if row is not None and may_change else Limits({})
        return Limits({**(added.fields or {}), **(later.fields or {})}, added.forms + later.forms)

    def _of_page(self, row: models.Model) -> Limits:
        form: Any = self.admin.get_form(self.request, row, change=True)
        return Limits(fields_of(form, instance=row), (lambda instance: form(instance=instance),))


def _strictest(verdicts: Collection[Verdict]) -> Verdict:
    return False if False in verdicts else None if None in verdicts else True


class ParentPolicy(Policy):
    """What a user may see and change by the permission for a multi-table parent without a ModelAdmin.

    Rows that are parts of a child's rows are left to the ModelAdmin of the child.
    """

    depends_on_row = True

    def __init__(self, permission: Policy, children: Sequence[AdminPolicy]) -> None:
        self.model = permission.model
        self.permission = permission
        self.children = children
        self.sees_none = permission.sees_none
        self.sees_all = permission.sees_all and all(child.sees_all for child in children)

    def verdicts(self, keys: Collection[str], using: str) -> dict[str, Verdict]:
        """Return what the permission says of the rows, and of children's rows what their ModelAdmin says."""
        found = self.permission.verdicts(keys, using)
        if self.sees_none or not self._hiding:
            return found
        for child in self.children:
            found.update(child.verdicts(existing(child.model, keys, using), using))
        return {key: found[key] for key in existing(self.model, keys, using)}

    def verdicts_of_gone(self, events: Sequence[Located], lives: Lives, using: str) -> list[Verdict]:
        """Return the same for rows that are gone: each may have been one that a child's ModelAdmin hid."""
        asked = [self.permission, *([] if self.sees_none else self._hiding)]
        return [
            _strictest(found)
            for found in zip(*(one.verdicts_of_gone(events, lives, using) for one in asked), strict=True)
        ]

    @property
    def _hiding(self) -> list[AdminPolicy]:
        return [child for child in self.children if not child.sees_all]

    def rows(self, keys: Collection[str], using: str) -> dict[str, models.Model]:
        """Return the rows that are there; of children's rows those that their ModelAdmin has a page for."""
        if self.sees_none:
            return {}
        found: dict[str, models.Model] = {}
        others = set(keys)
        for child in self.children:
            others -= existing(child.model, keys, using)
            found |= child.rows(keys, using)
        return found | present(self.model, others, using)

    def fields(self, row: models.Model | None) -> FieldAccess:
        """Return which fields of a row are shown: all, but of a child's row."""
        child = self._child_of(row)
        if child is None and row is not None and is_stand_in(row):
            # It may have been a row of any of the children.
            shown = [(child.fields(None), child.model) for child in self.children]
            names = {field.name for field in self.model._meta.get_fields()}
            return FieldAccess(
                excluded=frozenset(name for name in names if not all(one.shows(kind, name) for one, kind in shown))
            )
        return ALL_FIELDS if child is None else child.fields(row)

    def limits(self, action: str, row: models.Model | None) -> Limits | None:
        """Return what the user may write."""
        child = self._child_of(row)
        return (self.permission if child is None else child).limits(action, row)

    def _child_of(self, row: models.Model | None) -> AdminPolicy | None:
        return next((child for child in self.children if isinstance(row, child.model)), None)


class ChildPolicy(Policy):
    """What the parent's policy lets a user see and change, who needs the permission for the child as well."""

    def __init__(self, user: object, model: type[models.Model], parent: Policy) -> None:
        self.user = user
        self.model = model
        self.parent = parent
        may_view = may_view_model(user, model._meta.label_lower)
        self.sees_none = parent.sees_none or not may_view
        self.sees_all = parent.sees_all and may_view
        self.depends_on_row = parent.depends_on_row

    def verdicts(self, keys: Collection[str], using: str) -> dict[str, Verdict]:
        """Return what the parent's policy says of the rows."""
        return dict.fromkeys(keys, False) if self.sees_none else self.parent.verdicts(keys, using)

    def verdicts_of_gone(self, events: Sequence[Located], lives: Lives, using: str) -> list[Verdict]:
        """Return what the parent's policy says of rows that are gone."""
        return [False for _event in events] if self.sees_none else self.parent.verdicts_of_gone(events, lives, using)

    def rows(self, keys: Collection[str], using: str) -> dict[str, models.Model]:
        """Return the parent's rows."""
        return {} if self.sees_none else self.parent.rows(keys, using)

    def fields(self, row: models.Model | None) -> FieldAccess:
        """Return which of the parent's fields are shown, and all of the child's own."""
        found = self.parent.fields(row)
        if found.named is None:
            return found
        return FieldAccess(found.named | self._own(), found.excluded, found.is_explicit)

    def _own(self) -> set[str]:
        inherited = {field.name for field in self.parent.model._meta.get_fields()}
        return {field.name for field in self.model._meta.get_fields()} - inherited

    def limits(self, action: str, row: models.Model | None) -> Limits | None:
        """Return what the parent's policy lets the user write; of the child's own fields there is no form."""
        if not has_permission(self.user, action, self.model):
            return None
        return self.parent.limits(action, row)
