"""One object of the log, as one user may see it."""

from __future__ import annotations

from copy import copy
from functools import cached_property

from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest
from django.utils.text import Truncator, capfirst

from django_signal_audit.enums import ROW_EVENTS, EventType
from django_signal_audit.events.values import clean_text
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.models.renames import current_label
from django_signal_audit.models.state import Recorded, is_members
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry

from .access import Access, access_of
from .base import Crumb, ReadOnlyAdmin, crumbs_to_list
from .keyset import HistoryScan, newest_keys
from .links import key_of, object_url
from .related import find_object


class Subject:
    """One object of the log, as one user may see it.

    Args:
        access: What the user may see.
        using: The database of the events.
        label: The label of the object's model.
        key: What events call the object.

    """

    def __init__(self, access: Access, using: str, label: str, key: str) -> None:
        self.access = access
        self.using = using
        self.label = current_label(label)
        self.key = clean_text(key)
        self.model = AuditEvent(model=label).model_class

    @cached_property
    def name(self) -> str:
        """Return what the object is called now, or was called last."""
        # Of some objects there are no changes, but views and other events.
        named = self.last or self.last_of(self.events)
        return (named.object_repr if named else "") or self.key

    @property
    def model_name(self) -> str:
        """Return what its model is called, the label where that is gone."""
        return str(capfirst(self.model._meta.verbose_name)) if self.model else self.label

    @cached_property
    def is_visible(self) -> bool:
        """Return whether the user may see the history of the object, or parts of it."""
        return self.access.may_view_object(self.label, self.key, self.using)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Return the models whose events are about it: a row that a child's row extends has some of the child."""
        is_concrete = self.model is not None and self.label == self.model._meta.label_lower
        found = labels_including_children(self.model) if is_concrete and self.model else (clean_text(self.label),)
        return tuple(one for one in found if self.access.may_view_object(one, self.key, self.using))

    @cached_property
    def events(self) -> AuditEventQuerySet:
        """Return all events that the user may see anything of."""
        events = AuditEvent.objects.using(self.using)
        return self.access.narrow(events) if self.is_left_to_project else events

    @property
    def is_left_to_project(self) -> bool:
        """Return whether the project's VISIBILITY decides about each of its events."""
        return self.is_visible and self.access.is_left_to_project(self.label, self.key)

    @cached_property
    def row_events(self) -> AuditEventQuerySet:
        """Return those that say what some row held."""
        return self.events.filter(event_type__in=ROW_EVENTS)

    def scans(self, events: AuditEventQuerySet) -> list[HistoryScan]:
        """Return where those of the events are that are about the object."""
        return [HistoryScan(events, label, self.key) for label in self.labels]

    @cached_property
    def last(self) -> AuditEvent | None:
        """Return the last change of the row."""
        return self.last_of(self.row_events)

    def last_of(self, events: AuditEventQuerySet) -> AuditEvent | None:
        """Return the newest of the events that is about the object."""
        keys = newest_keys(self.scans(events), 1)
        found = AuditEvent.objects.using(self.using).filter(pk__in=keys)
        return next((event for event in self.access.filter(found) if event.object_id == self.key), None)

    def visible_state(self, state: Recorded, events: AuditEventQuerySet) -> Recorded | None:
        """Return what the user may see of what events add up to: it may be of an earlier, deleted row."""
        # A field may have been a column before it became many-to-many: nothing is recorded of its members then.
        sets = {field.name for field in self.model._meta.many_to_many} if self.model else set()
        state = {name: value for name, value in state.items() if name not in sets or is_members(value)}
        if not self.access.asks_rows(self.label):
            return state
        keys = newest_keys([HistoryScan(events.filter(event_type__in=ROW_EVENTS), self.label, self.key)], 1)
        found = AuditEvent.objects.using(self.using).filter(pk__in=keys).first()
        if found is None:
            return state
        if not self.access.filter([found]):
            return None
        return {name: value for name, value in state.items() if self.access.shows(found, name)}

    @cached_property
    def instance(self) -> models.Model | None:
        """Return the object as it is now, None if it or its model is gone."""
        if self.last is None or self.model is None:
            return None
        event = copy(self.last)
        event.model = self.label
        return find_object(event)

    @cached_property
    def plan(self) -> ModelPlan | None:
        """Return what the rules say of the object: those of a child's row are about its parent's row, too."""
        registry = get_registry()
        own = registry.plan_for(self.model) if self.model else None
        child = self.last.model_class if self.last else None
        return own or (registry.plan_for(child) if child else None)

    def event(self, pk: int) -> AuditEvent | None:
        """Return an event of the object, None if it has no such event."""
        found = AuditEvent.objects.using(self.using).filter(pk=pk, model__in=self.labels, object_id=self.key)
        # Some databases find "a" where "A" was asked for.
        return next((event for event in self.access.filter(found) if event.object_id == self.key), None)

    def change(self, changes: Recorded, event_type: str = EventType.UPDATE) -> AuditEvent:
        """Return an event of the object that was never recorded."""
        event = copy(self.last) if self.last else AuditEvent(object_id=self.key)
        event.model, event.event_type, event.changes = self.label, event_type, changes
        return event

    def shows(self, name: str) -> bool:
        """Return whether the user may see a field."""
        return self.access.shows(self.change({}), name)


def subject_of(model_admin: ReadOnlyAdmin, request: HttpRequest, label: str, segment: str) -> Subject:
    """Return the object that an address names; raise PermissionDenied if the user may not see its history."""
    using = AuditEvent.objects.all().db
    subject = Subject(access_of(request, model_admin.admin_site), using, label, key_of(segment))
    if not model_admin.has_view_permission(request) or not subject.is_visible:
        raise PermissionDenied
    return subject


def crumbs_of(model_admin: ReadOnlyAdmin, subject: Subject) -> list[Crumb]:
    """Return the breadcrumbs of a page about an object: those of its own admin where the site has one."""
    site, last = model_admin.admin_site, subject.last
    own = site._registry.get(subject.model) if subject.model else None  # noqa: SLF001  # it has no other list
    if own is None or last is None or not own.has_module_permission(subject.access.request):
        return crumbs_to_list(model_admin)
    url = "" if last.event_type == EventType.DELETE else object_url(site.name, last)
    name = Truncator(subject.name).words(18)
    return [*crumbs_to_list(own), *([(name, url)] if url else [])]
