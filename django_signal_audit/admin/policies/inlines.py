"""Models without a ModelAdmin that are edited inline, on the page of the row that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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

from django_signal_audit.admin.policies.base import (
    INLINE_METHODS,
    VIEW_METHODS,
    is_djangos,
    narrows,
    overrides,
    overrides_by_itself,
    unseen,
)
from django_signal_audit.events.keys import object_id, parse_ids
from django_signal_audit.models import AuditEvent

from .base import NO_FIELDS, FieldAccess, Limits, Policy, Verdict, ask, existing, fields_of, in_parts
from .gone import Lives, Located, judged, stand_in
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
        is_plain = is_plain and not overrides(parent.admin, ModelAdmin, *INLINE_METHODS)
        self._is_plain = is_plain and not self._chooses_rows
        self._lives = Lives()

    @cached_property
    def _may_view(self) -> bool:
        return self._may_view_in(None)

    def _may_view_in(self, parent: models.Model | None, inline: Inline | None = None) -> bool:
        asked = self.inline if inline is None else inline
        return bool(ask(lambda: asked.has_view_or_change_permission(self.request, parent), otherwise=False))

    @cached_property
    def _chooses_rows(self) -> bool:
        """Return whether the formset may leave out rows that the inline's queryset has."""
        by_itself = overrides_by_itself(self.inline, InlineModelAdmin, "get_formset")
        return by_itself or not is_djangos(self.inline.formset, "__init__", "get_queryset")

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
        for part in in_parts(frozenset(parse_ids(self.model, keys).values()), using):
            found.update({object_id(row.pk): row for row in self._queryset.using(using).filter(pk__in=part)})
        parents = {key: self._parent_key(row) for key, row in found.items()}
        seen = self.parent.rows(set(parents.values()) - {""}, using)
        shown = {key: self._shown_on(parent) for key, parent in seen.items()}
        return {key: found[key] for key, parent in parents.items() if parent in shown and shown[parent](found[key])}

    def _offered(self, parent: models.Model) -> tuple[Any, Any] | None:
        """Return the formset and the inline as the page of a parent has them, None if it has no such inline."""
        admin: Any = self.parent.admin
        pairs = list(admin.get_formsets_with_inlines(self.request, parent))
        kinds = {type(inline) for _formset, inline in pairs}
        if overrides(admin, ModelAdmin, "get_inline_formsets"):
            made = [self._formset(parent, *pair) for pair in pairs]
            shown = admin.get_inline_formsets(self.request, made, [inline for _formset, inline in pairs], parent)
            kinds = {type(one.opts) for one in shown}
        own = type(self.inline)
        return next((pair for pair in pairs if type(pair[1]) is own), None) if own in kinds else None

    def _formset(self, parent: models.Model, formset: Any, inline: Any) -> Any:
        """Return the formset of a page that nobody has sent back."""
        options = self.parent.admin.get_formset_kwargs(self.request, parent, inline, formset.get_default_prefix())
        sent = {"data", "files", "save_as_new"}
        return formset(**{name: value for name, value in options.items() if name not in sent})

    def _is_on(self, parent: models.Model) -> bool:
        """Return whether the page of the parent has the inline."""
        if self._is_plain:
            return self._may_view
        offered = ask(lambda: self._offered(parent), otherwise=None)
        return offered is not None and self._may_view_in(parent, offered[1])

    def _shown_on(self, parent: models.Model) -> Callable[[models.Model], bool]:
        """Return which of a parent's rows its page shows, as a function of the row."""
        is_on = self._is_on(parent)
        if not is_on or not self._chooses_rows:
            return lambda _row: is_on
        pks: set[object] = ask(lambda: self._chosen(parent), otherwise=set())
        return lambda row: row.pk in pks

    def _chosen(self, parent: models.Model) -> set[object]:
        """Return the primary keys of the rows that the formset has on the page of a parent."""
        offered = self._offered(parent)
        return set() if offered is None else {row.pk for row in self._formset(parent, *offered).get_queryset()}

    def verdicts(self, keys: Collection[str], using: str) -> dict[str, Verdict]:
        """Return whether the rows that are there are on the page of a parent that can be seen."""
        seen = self.rows(keys, using)
        there = existing(self.model, set(keys) - seen.keys(), using)
        return {**dict.fromkeys(there, False), **dict.fromkeys(seen, True)}

    def verdicts_of_gone(self, events: Sequence[Located], lives: Lives, using: str) -> list[Verdict]:
        """Return whether rows that are gone were on the page of a parent that can be seen, or could before it went."""
        is_filtered = self._chooses_rows or self._queryset is None or narrows(self._queryset)
        parents = [self._parent_of_gone(event, using) for event in lives.told_by(events, using)]
        asked = [parent for parent in parents if parent is not None and parent.object_id]
        verdicts = dict(zip(map(id, asked), judged(self.parent, asked, self._lives, using), strict=True))
        found: list[Verdict] = []
        for parent in parents:
            # Whose row it was isn't recorded, or it was nobody's.
            verdict = None if parent is None else verdicts.get(id(parent), False)
            is_on = parent is None or (verdict is not False and self._was_on(parent, using))
            found.append(False if not is_on else None if verdict and is_filtered else verdict)
        return found

    def _parent_of_gone(self, event: AuditEvent, using: str) -> AuditEvent | None:
        """Return an event that would be about the parent at the time of another; None if no parent is recorded."""
        row = stand_in(self.model, event, using)
        key: str | None = ask(lambda: self._parent_key(row), otherwise=None)
        label = (self.parent.model._meta.concrete_model or self.parent.model)._meta.label_lower
        return None if key is None else AuditEvent(pk=event.pk, model=label, object_id=key)

    def _was_on(self, event: AuditEvent, using: str) -> bool:
        """Return whether the page of the parent has the inline, or would have had it before the parent was deleted."""
        if self._is_plain:
            return self._may_view
        key = event.object_id
        row = self.parent.rows([key], using).get(key) if not self._lives.is_over(event) else None
        parent = row or stand_in(self.parent.model, self._lives.told_by([event], using)[0], using)
        return self._is_on(parent)

    def fields(self, row: models.Model | None) -> FieldAccess:
        """Return the fields of the inline, and its link to the parent."""
        return ask(lambda: self._shown(row), otherwise=NO_FIELDS)

    def _shown(self, row: models.Model | None) -> FieldAccess:
        parent = self._parent_of(row)
        offered = None if self._is_plain or parent is None else self._offered(parent)
        inline = self.inline if offered is None else offered[1]
        named = flatten_fieldsets(inline.get_fieldsets(self.request, parent))
        formset: Any = inline.get_formset(self.request, parent)
        options = {} if parent is None else formset(instance=parent).get_form_kwargs(0)
        form_fields = fields_of(formset.form, instance=row, **options)
        excluded = {*(inline.get_exclude(self.request, parent) or ()), *unseen(form_fields)}
        names_fields = bool(inline.fields or inline.fieldsets)
        names_fields = names_fields or overrides(inline, InlineModelAdmin, "get_fields", "get_fieldsets")
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

    def _is_full(self, parent: models.Model, inline: Any) -> bool:
        """Return whether the page of the parent offers no row more."""
        most = inline.get_max_num(self.request, parent)
        if most is None:
            return False
        rows = self.model._base_manager.using(parent._state.db)
        here = rows.none() if self._is_generic else rows.filter(**{self._link.name: parent})
        return bool(here.count() >= most)

    def _limits(self, action: str, row: models.Model | None) -> Limits | None:
        parent = self._parent_of(row)
        if parent is None:
            return Limits({}) if row is None and action != "delete" else None
        offered = self._offered(parent)
        if offered is None:
            return None
        formset, inline = offered
        may = getattr(inline, f"has_{action}_permission")(self.request, parent)
        if not may or not self.parent.admin.has_change_permission(self.request, parent):
            return None
        if (action == "add" and self._is_full(parent, inline)) or (action == "delete" and not formset.can_delete):
            return None
        options = formset(instance=parent).get_form_kwargs(0)
        fields = fields_of(formset.form, instance=row, **options)
        fields = {name: field for name, field in fields.items() if name not in self._links}
        made = (lambda instance: formset.form(instance=instance, **options),)
        # A new row belongs to the parent on whose page it is added; no row is moved to another.
        links = {name: forms.Field() for name in self._links} if action == "add" else {}
        return Limits({**fields, **links}, made)
