"""Models with a ModelAdmin on the site."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.contrib.admin.utils import flatten_fieldsets
from django.db import models
from django.http import HttpRequest

from django_signal_audit.admin.policies.base import (
    ALL_FIELDS,
    CHUNK,
    FIELD_METHODS,
    NO_FIELDS,
    VIEW_METHODS,
    FieldAccess,
    Limits,
    Policy,
    Verdict,
    ask,
    existing,
    fields_of,
    narrows,
    overrides,
    overrides_by_itself,
    typed_keys,
)
from django_signal_audit.capture.images import chunks
from django_signal_audit.delivery.rendering import load_subjects
from django_signal_audit.events.keys import object_id
from django_signal_audit.models import AuditEvent
from django_signal_audit.rules.visibility import has_permission, may_view_model


class AdminPolicy(Policy):
    """What a ModelAdmin lets the user of a request see and change."""

    def __init__(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> None:
        self.request = request
        self.admin = model_admin
        self.model = model_admin.model
        self._fields: dict[Any, FieldAccess] = {}

    @cached_property
    def _asks_each(self) -> bool:
        """Return whether the project's code may let the user see one row and not another."""
        if not overrides(self.admin, ModelAdmin, *VIEW_METHODS):
            return False
        # To be allowed to view is enough, whatever code there is for changing.
        views = overrides(self.admin, ModelAdmin, "has_view_permission", "has_view_or_change_permission")
        return views or not self.admin.has_view_permission(self.request)

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
        return not self._asks_each and self._may_view and not self._narrows

    def rows(self, keys: Collection[str], using: str) -> dict[str, models.Model]:
        """Return the rows that the ModelAdmin has a page for."""
        wanted = typed_keys(self.model, keys).values()
        # A queryset of the project's may fail only when it is read.
        found: dict[str, models.Model] = ask(lambda: self._in_queryset(wanted, using), otherwise={})
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
        for part in chunks(frozenset(pks), CHUNK):
            found.update({object_id(row.pk): row for row in rows.filter(pk__in=part)})
        return found

    def verdicts(self, events: Mapping[str, AuditEvent], using: str) -> dict[str, Verdict]:
        """Return whether the ModelAdmin has a page for the rows, or would have had one for those that are gone."""
        seen = self.rows(events, using)
        there = existing(self.model, events.keys() - seen.keys(), using)
        verdicts: dict[str, Verdict] = dict.fromkeys(events, False)
        verdicts.update(dict.fromkeys(seen, True))
        gone = {key: events[key] for key in events.keys() - seen.keys() - there}
        return {**verdicts, **self._verdicts_of_gone(gone, using)}

    def _verdicts_of_gone(self, events: Mapping[str, AuditEvent], using: str) -> dict[str, Verdict]:
        """Return whether rows that are gone may be seen: no queryset can say, so it takes one that hides nothing."""
        named = typed_keys(self.model, events)
        is_filtered = self._narrows and overrides(self.admin, ModelAdmin, "get_queryset")
        stand_ins = load_subjects(events.values(), using) if self._asks_each else {}
        verdicts: dict[str, Verdict] = {}
        for key, event in events.items():
            row = stand_ins.get((event.model, key))
            may_view = self._may_view if not self._asks_each else row is not None and self._may_view_row(row)
            is_hidden = is_filtered or (self._narrows and key not in named)
            verdicts[key] = may_view and (None if is_hidden else True)
        return verdicts

    @cached_property
    def depends_on_row(self) -> bool:  # type: ignore[override]
        """Return whether code of the project may show other fields of one row than of another."""
        return overrides_by_itself(self.admin, ModelAdmin, *FIELD_METHODS)

    @cached_property
    def _names_fields(self) -> bool:
        admin = self.admin
        return bool(admin.fields or admin.fieldsets) or overrides(admin, ModelAdmin, "get_fields", "get_fieldsets")

    @cached_property
    def _shows_all(self) -> bool:
        admin = self.admin
        is_plain = admin.form is forms.ModelForm and not overrides(admin, ModelAdmin, *FIELD_METHODS)
        return is_plain and not self._names_fields and not admin.exclude

    def fields(self, row: models.Model | None) -> FieldAccess:
        """Return the fields of the change page."""
        if self._shows_all:
            return ALL_FIELDS
        key = row.pk if self.depends_on_row and row is not None else None
        if key not in self._fields:
            self._fields[key] = ask(lambda: self._shown(row), otherwise=NO_FIELDS)
        return self._fields[key]

    def _shown(self, row: models.Model | None) -> FieldAccess:
        # Without a row, it would be the page that adds one.
        shown = self.model() if row is None else row
        named = flatten_fieldsets(self.admin.get_fieldsets(self.request, shown))
        excluded = self.admin.get_exclude(self.request, shown) or ()
        return FieldAccess(frozenset(map(str, named)), frozenset(map(str, excluded)), self._names_fields)

    def limits(self, action: str, row: models.Model | None) -> Limits | None:
        """Return the fields of the form, read-only and excluded ones left out."""
        return ask(lambda: self._adding(row) if action == "add" else self._changing(row), otherwise=None)

    def _changing(self, row: models.Model | None) -> Limits | None:
        if not self.admin.has_change_permission(self.request, row):
            return None
        return Limits({}) if row is None else Limits(self._form_fields(row))

    def _adding(self, row: models.Model | None) -> Limits | None:
        """Return what can be written to a new row, on the page that adds it and on its change page afterwards."""
        if not self.admin.has_add_permission(self.request):
            return None
        form: Any = self.admin.get_form(self.request, None, change=False)
        added = fields_of(form)
        may_change = row is not None and self.admin.has_change_permission(self.request, row)
        later = self._form_fields(row) if row is not None and may_change else {}
        return Limits({**added, **later})

    def _form_fields(self, row: models.Model) -> Mapping[str, forms.Field]:
        form: Any = self.admin.get_form(self.request, row, change=True)
        return fields_of(form, instance=row)


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

    def verdicts(self, events: Mapping[str, AuditEvent], using: str) -> dict[str, Verdict]:
        """Return what the parent's policy says of the rows."""
        return dict.fromkeys(events, False) if self.sees_none else self.parent.verdicts(events, using)

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
