"""Models without a ModelAdmin that are edited inline, on the page of the row that they belong to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.contrib.admin.options import InlineModelAdmin
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.contenttypes.admin import GenericInlineModelAdmin
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.forms.models import _get_foreign_key
from django.http import HttpRequest

from django_signal_audit.admin.policies.base import VIEW_METHODS, narrows, overrides
from django_signal_audit.capture.images import chunks
from django_signal_audit.delivery.rendering import load_subjects
from django_signal_audit.events.keys import object_id
from django_signal_audit.models import AuditEvent

from .base import CHUNK, NO_FIELDS, FieldAccess, Limits, Policy, Verdict, ask, existing, fields_of, typed_keys
from .model_admins import AdminPolicy

if TYPE_CHECKING:
    Inline = InlineModelAdmin[Any, Any]
else:
    Inline = InlineModelAdmin


class InlinePolicy(Policy):
    """What an inline on the page of a parent lets the user see and change."""

    depends_on_row = True

    def __init__(self, request: HttpRequest, parent: AdminPolicy, kind: type[Inline]) -> None:
        self.request = request
        self.parent = parent
        self.inline: Any = kind(parent.admin.model, parent.admin.admin_site)
        self.model = self.inline.model._meta.concrete_model
        is_plain = not overrides(self.inline, InlineModelAdmin, *VIEW_METHODS, "get_queryset")
        is_plain = is_plain and not overrides(parent.admin, ModelAdmin, "get_inlines", "get_inline_instances")
        self._is_plain = is_plain

    @cached_property
    def _may_view(self) -> bool:
        return self._may_view_in(None)

    def _may_view_in(self, parent: models.Model | None) -> bool:
        return bool(ask(lambda: self.inline.has_view_or_change_permission(self.request, parent), otherwise=False))

    @cached_property
    def _queryset(self) -> models.QuerySet[Any] | None:
        rows: object = ask(lambda: self.inline.get_queryset(self.request), otherwise=None)
        return rows if isinstance(rows, models.QuerySet) else None

    @cached_property
    def sees_none(self) -> bool:  # type: ignore[override]
        """Return whether no row can be seen."""
        return self.parent.sees_none or self._queryset is None or (self._is_plain and not self._may_view)

    @cached_property
    def sees_all(self) -> bool:  # type: ignore[override]
        """Return whether all rows can be seen, without a look at any."""
        if self.sees_none or not self._is_plain or self._queryset is None:
            return False
        return self.parent.sees_all and not narrows(self._queryset) and not self._is_generic

    @property
    def _is_generic(self) -> bool:
        return isinstance(self.inline, GenericInlineModelAdmin)

    @cached_property
    def _link(self) -> Any:
        """Return the foreign key to the parent."""
        return _get_foreign_key(self.parent.model, self.inline.model, fk_name=self.inline.fk_name)

    def _parent_key(self, row: Any) -> str:
        """Return the primary key of the row's parent, ``""`` if it has none of this model."""
        if not self._is_generic:
            target = self._link.target_field
            value = getattr(row, self._link.attname)
            if target.primary_key or value is None:
                return object_id(value)
            found = self.parent.model._base_manager.filter(**{target.attname: value}).values_list("pk", flat=True)
            return object_id(found.first())
        kind = ContentType.objects.get_for_model(self.parent.model, for_concrete_model=True)
        field = row._meta.get_field(self.inline.ct_field)
        return object_id(getattr(row, self.inline.ct_fk_field)) if getattr(row, field.attname) == kind.pk else ""

    def rows(self, keys: Collection[str], using: str) -> dict[str, models.Model]:
        """Return the rows that are on the page of a parent that can be seen."""
        if self._queryset is None or self.sees_none:
            return {}
        found: dict[str, Any] = {}
        for part in chunks(frozenset(typed_keys(self.model, keys).values()), CHUNK):
            found.update({object_id(row.pk): row for row in self._queryset.using(using).filter(pk__in=part)})
        parents = {key: self._parent_key(row) for key, row in found.items()}
        seen = self.parent.rows(set(parents.values()) - {""}, using)
        return {key: found[key] for key, parent in parents.items() if parent in seen and self._is_on(seen[parent])}

    def _is_on(self, parent: models.Model) -> bool:
        """Return whether the page of the parent has the inline."""
        if self._is_plain:
            return self._may_view
        kinds: Sequence[Any] = ask(lambda: self.parent.admin.get_inlines(self.request, parent), otherwise=())
        return type(self.inline) in kinds and self._may_view_in(parent)

    def verdicts(self, events: Mapping[str, AuditEvent], using: str) -> dict[str, Verdict]:
        """Return whether the rows are, or were, on the page of a parent that can be seen."""
        seen = self.rows(events, using)
        there = existing(self.model, events.keys() - seen.keys(), using)
        verdicts: dict[str, Verdict] = dict.fromkeys(events, False)
        verdicts.update(dict.fromkeys(seen, True))
        gone = [events[key] for key in events.keys() - seen.keys() - there]
        parents = {
            event.object_id: (event, self._parent_key(row))
            for event in gone
            if (row := load_subjects([event], using).get((event.model, event.object_id))) is not None
        }
        return {**verdicts, **self._verdicts_of_gone(parents, using)}

    def _verdicts_of_gone(self, parents: Mapping[str, tuple[AuditEvent, str]], using: str) -> dict[str, Verdict]:
        is_filtered = overrides(self.inline, InlineModelAdmin, "get_queryset")
        label = self.parent.model._meta.label_lower
        of_parents = {key: AuditEvent(model=label, object_id=key) for _event, key in parents.values() if key}
        known = self.parent.verdicts(of_parents, using) if of_parents else {}
        verdicts: dict[str, Verdict] = {}
        for key, (_event, parent) in parents.items():
            verdict = known.get(parent, False)
            verdicts[key] = None if verdict and is_filtered else verdict
        return verdicts

    def fields(self, row: models.Model | None) -> FieldAccess:
        """Return the fields of the inline, and its link to the parent."""
        return ask(lambda: self._shown(row), otherwise=NO_FIELDS)

    def _shown(self, row: models.Model | None) -> FieldAccess:
        parent = self._parent_of(row)
        named = flatten_fieldsets(self.inline.get_fieldsets(self.request, parent))
        excluded = self.inline.get_exclude(self.request, parent) or ()
        names_fields = bool(self.inline.fields or self.inline.fieldsets)
        names_fields = names_fields or overrides(self.inline, InlineModelAdmin, "get_fields", "get_fieldsets")
        return FieldAccess(frozenset(map(str, named)) | self._links, frozenset(map(str, excluded)), names_fields)

    @property
    def _links(self) -> frozenset[str]:
        """Return the fields by which a row belongs to its parent."""
        if self._is_generic:
            return frozenset((self.inline.ct_field, self.inline.ct_fk_field))
        return frozenset((self._link.name,))

    def _parent_of(self, row: models.Model | None) -> models.Model | None:
        key = self._parent_key(row) if row is not None else ""
        return self.parent.rows([key], row._state.db or "default").get(key) if row is not None and key else None

    def limits(self, action: str, row: models.Model | None) -> Limits | None:
        """Return the fields of the inline's form, for who may change the parent."""
        return ask(lambda: self._limits(action, row), otherwise=None)

    def _is_full(self, parent: models.Model) -> bool:
        """Return whether the page of the parent offers no row more."""
        most = self.inline.get_max_num(self.request, parent)
        if most is None:
            return False
        rows = self.model._base_manager.using(parent._state.db)
        here = rows.none() if self._is_generic else rows.filter(**{self._link.name: parent})
        return bool(here.count() >= most)

    def _limits(self, action: str, row: models.Model | None) -> Limits | None:
        parent = self._parent_of(row)
        if parent is None:
            return Limits({}) if row is None else None
        may = getattr(self.inline, f"has_{action}_permission")(self.request, parent)
        if not may or not self.parent.admin.has_change_permission(self.request, parent):
            return None
        if action == "add" and self._is_full(parent):
            return None
        formset: Any = self.inline.get_formset(self.request, parent)
        options = {"instance": row, **formset(instance=parent).get_form_kwargs(0)}
        fields = {name: field for name, field in fields_of(formset.form, **options).items() if name not in self._links}
        # A new row belongs to the parent on whose page it is added; no row is moved to another.
        return Limits({**fields, **{name: forms.Field() for name in self._links}} if action == "add" else fields)
