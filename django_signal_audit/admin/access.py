"""What a user may see and change: every page asks here, and here the project is asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from itertools import compress
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite
from django.contrib.admin.sites import all_sites
from django.db import models
from django.http import HttpRequest

from django_signal_audit.admin.policies import (
    AdminPolicy,
    ChildPolicy,
    InlinePolicy,
    Limits,
    PermissionPolicy,
    Policy,
    Verdict,
)
from django_signal_audit.admin.policies.base import CHUNK, ask
from django_signal_audit.capture.images import chunks
from django_signal_audit.delivery.rendering import load_subjects
from django_signal_audit.events.keys import object_id
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Notification
from django_signal_audit.models.inheritance import mti_children
from django_signal_audit.models.state import well_formed
from django_signal_audit.reports.formatter import Reader
from django_signal_audit.reports.relations import names_in, related_names
from django_signal_audit.rules.patterns import OWN_APP
from django_signal_audit.rules.visibility import get_visibility, is_superuser, may_view_model, narrowed


def shaped(events: Iterable[AuditEvent]) -> list[AuditEvent]:
    """Return the events, in memory without what cannot be read of their documents."""
    return [_shaped(event) for event in events]


def _shaped(event: AuditEvent) -> AuditEvent:
    if "changes" not in event.__dict__:  # it is deferred, and so are the others
        return event
    event.changes = well_formed(event.changes)
    if not isinstance(event.data, dict):
        event.data = {} if event.data is None else {"": event.data}
    if not isinstance(event.context, dict):
        event.context = {}
    if not (isinstance(event.rules, list) and all(isinstance(name, str) for name in event.rules)):
        event.rules = []
    return event


def shaped_notification(notification: Notification) -> Notification:
    """Return the notification, in memory with an empty document in place of what is none."""
    if not isinstance(notification.data, dict):
        notification.data = {}
    return notification


class ModelAccess:
    """Of which models the user of a request may see rows, and who decides about them."""

    def __init__(self, request: HttpRequest, site: AdminSite | None) -> None:
        self.request = request
        self.user: Any = request.user
        registered: dict[Any, Any] = {} if site is None else site._registry  # noqa: SLF001  # it has no other list
        # Of this package's own models there are no events, and their pages ask here.
        self._admins = {model: found for model, found in registered.items() if model._meta.app_label != OWN_APP}
        self._policies: dict[str, list[Policy]] = {}

    def may_view(self, label: str) -> bool:
        """Return whether the user may see any events of a model."""
        policies = self.policies(label)
        return any(not policy.sees_none for policy in policies) if policies else may_view_model(self.user, label)

    def is_partial(self, label: str) -> bool:
        """Return whether each row of a model has to be asked about."""
        return self.may_view(label) and not self.sees_all(label)

    def sees_all(self, label: str) -> bool:
        """Return whether the user may see all events of a model, without a look at any row."""
        policies = self.policies(label)
        return any(policy.sees_all for policy in policies) if policies else may_view_model(self.user, label)

    @cached_property
    def sees_everything(self) -> bool:
        """Return whether a superuser may see all events there are, without a look at which models they are of."""
        if get_visibility() is not None or not is_superuser(self.user):
            return False
        labels = {model._meta.concrete_model._meta.label_lower for model in (*self._admins, *self._inlines)}
        return all(map(self.sees_all, labels))

    def policies(self, label: str) -> list[Policy]:
        """Return who decides about a model, each of which is enough; nobody does about a model that is gone."""
        if label not in self._policies:
            try:
                model = apps.get_model(label) if label else None
            except (LookupError, ValueError):
                model = None
            self._policies[label] = [] if model is None else self._find_policies(model)
        return self._policies[label]

    def _find_policies(self, model: type[models.Model]) -> list[Policy]:
        if model in self._admins:
            return [AdminPolicy(self.request, self._admins[model])]
        proxies = [one for one in self._admins if one._meta.proxy and one._meta.concrete_model is model]
        found: list[Policy] = [AdminPolicy(self.request, self._admins[proxy]) for proxy in proxies]
        for parent, kind in self._inlines.get(model, ()):
            found.append(InlinePolicy(self.request, AdminPolicy(self.request, parent), kind))
        return found or self._inherited(model) or [self._by_permission(model)]

    def _by_permission(self, model: type[models.Model]) -> Policy:
        return PermissionPolicy(self.user, model, has_hook=get_visibility() is not None)

    def _inherited(self, model: type[models.Model]) -> list[Policy]:
        """Return the policies of the nearest parent that has a ModelAdmin."""
        for parent in model._meta.get_parent_list():
            deciding = [one for one in self.policies(parent._meta.label_lower) if not isinstance(one, PermissionPolicy)]
            if deciding and model in mti_children(parent):
                return [ChildPolicy(self.user, model, one) for one in deciding]
        return []

    @cached_property
    def _inlines(self) -> dict[type[models.Model], list[tuple[Any, Any]]]:
        """Return the inlines of the site by the concrete model of their rows, each with its parent's ModelAdmin."""
        found: dict[type[models.Model], list[tuple[Any, Any]]] = defaultdict(list)
        for admin in self._admins.values():
            kinds: Iterable[Any] = ask(lambda: admin.get_inlines(self.request, None), otherwise=())  # noqa: B023
            for kind in dict.fromkeys((*kinds, *admin.inlines)):
                concrete = kind.model._meta.concrete_model
                if not concrete._meta.auto_created:
                    found[concrete].append((admin, kind))
        return found


_ATTRIBUTE = "_signal_audit_access"


def access_of(request: HttpRequest, site: AdminSite | str) -> Access:
    """Return what the user of a request may see and change on a site, given by itself or by name."""
    name = site if isinstance(site, str) else site.name
    known: dict[str, Access] = request.__dict__.setdefault(_ATTRIBUTE, {})
    if name not in known:
        found = next((one for one in all_sites if one.name == name), None) if isinstance(site, str) else site
        known[name] = Access(request, found)
    return known[name]


def readable(access: Access, events: AuditEventQuerySet) -> AuditEventQuerySet:
    """Return the events of all models that the user may see any rows of."""
    if access.sees_everything:
        return events
    hidden = {label for label in _labels() if not access.may_view(label)}
    if is_superuser(access.user):
        # They see the events of models that are gone, too.
        return events.exclude(model__in=hidden) if hidden else events
    return events.filter(model__in=["", *(set(_labels()) - hidden)])


def certain(access: Access, events: AuditEventQuerySet) -> AuditEventQuerySet:
    """Return the events of all models that the user may see all rows of: no row has to be asked about."""
    if access.sees_everything:
        return events
    partial = {label for label in _labels() if access.is_partial(label)}
    found = readable(access, events)
    return found.exclude(model__in=partial) if partial else found


def _labels() -> list[str]:
    return [model._meta.label_lower for model in apps.get_models()]


class Access(ModelAccess):
    """What the user of one request may see and change. What was asked once is known for the rest of the request."""

    def __init__(self, request: HttpRequest, site: AdminSite | None) -> None:
        super().__init__(request, site)
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        self._rows: dict[tuple[int, str], models.Model | None] = {}
        self._has_rows: dict[tuple[int, str], bool] = {}
        self._limits: dict[tuple[str, str, str], list[Limits]] = {}

    # Rows

    def filter(self, events: Iterable[AuditEvent]) -> list[AuditEvent]:
        """Return those of the events that the user may see, in their order; all are of one database."""
        events = shaped(events)
        if not events:
            return []
        unknown: dict[str, dict[str, AuditEvent]] = defaultdict(dict)
        for event in events:
            if self.is_partial(event.model) and (event.model, event.object_id) not in self._verdicts:
                unknown[event.model].setdefault(event.object_id, event)
        using = events[0]._state.db or "default"
        for label, by_key in unknown.items():
            self._decide(label, by_key, using)
        verdicts = {event.pk: self._verdict(event) for event in events}
        undecided = [pk for pk, verdict in verdicts.items() if verdict is None]
        left = self._ask_project(undecided, using) if undecided else set()
        return [event for event in events if verdicts[event.pk] or event.pk in left]

    def _verdict(self, event: AuditEvent) -> Verdict:
        if not self.is_partial(event.model):
            return self.may_view(event.model)
        return self._verdicts.get((event.model, event.object_id))

    def _decide(self, label: str, events: Mapping[str, AuditEvent], using: str) -> None:
        named = {key: event for key, event in events.items() if key}
        found: dict[str, list[Verdict]] = {key: [] for key in events}
        for policy in self.policies(label):
            for key, verdict in policy.verdicts(named, using).items():
                found[key].append(verdict)
        for key, verdicts in found.items():
            # An event of no row is left to the project, too.
            self._verdicts[label, key] = True if True in verdicts else None if None in verdicts or not key else False

    def _ask_project(self, keys: Sequence[int], using: str) -> set[int]:
        """Return which of the events the project's VISIBILITY lets the user see; none without it."""
        found: set[int] = set()
        for part in chunks(keys, CHUNK):
            rows = self.narrow(AuditEvent.objects.using(using).filter(pk__in=part))
            found.update(rows.values_list("pk", flat=True))
        return found & set(keys)

    def narrow(self, events: AuditEventQuerySet) -> AuditEventQuerySet:
        """Return those of the events that the project's VISIBILITY lets the user see; none without it."""
        return narrowed(self.user, events)

    def is_left_to_project(self, label: str, key: str) -> bool:
        """Return whether the project's VISIBILITY decides about each event of a row that was asked about."""
        return self.is_partial(label) and self._verdicts.get((label, key)) is None

    def may_view_object(self, label: str, key: str, using: str) -> bool:
        """Return whether the user may see the history of an object, or parts of it."""
        if not self.is_partial(label):
            return self.may_view(label)
        event = AuditEvent(model=label, object_id=key)
        if (label, key) not in self._verdicts:
            self._decide(label, {key: event}, using)
        verdict = self._verdicts[label, key]
        return get_visibility() is not None if verdict is None else verdict

    def readable(self, rows: Sequence[models.Model]) -> list[models.Model]:
        """Return those of the rows of a model that the user may know by name."""
        if not rows:
            return []
        label, using = rows[0]._meta.label_lower, rows[0]._state.db or "default"
        if not self.is_partial(label):
            return list(rows) if self.may_view(label) else []
        keys: dict[str, models.Model] = {object_id(row.pk): row for row in rows}
        seen: set[str] = set()
        for policy in self.policies(label):
            seen.update(policy.rows(keys, using))
        return [row for key, row in keys.items() if key in seen]

    # Fields

    def shows(self, event: AuditEvent, name: str) -> bool:
        """Return whether the user may see what an event says of a field."""
        policies, model = self._deciding(event.model), event.model_class
        if not policies or model is None:
            return True
        shown = [policy.fields(self._row(policy, event)).shows(model, name) for policy in policies]
        if len(policies) == 1 or not event.object_id:
            return any(shown)
        # Who shows the row decides; where nobody does, such as of a row that is gone, all have to agree.
        has_row = [self._has_row(policy, event) for policy in policies]
        return any(compress(shown, has_row)) if any(has_row) else all(shown)

    def shows_field(self, label: str, name: str) -> bool:
        """Return whether the user may see a field of a model, whichever row it is."""
        return self.shows(AuditEvent(model=label), name)

    def _deciding(self, label: str) -> list[Policy]:
        return [policy for policy in self.policies(label) if not policy.sees_none]

    def redact(self, events: Iterable[AuditEvent]) -> list[AuditEvent]:
        """Return the events without the fields that the user may not see; ``is_cut`` says where there were any."""
        events = shaped(events)
        self._load_rows(events)
        return [self._redacted(event) for event in events]

    def _redacted(self, event: AuditEvent) -> AuditEvent:
        hidden = [name for name in event.changes if not self.shows(event, name)]
        if not hidden:
            return event
        shown: Any = copy(event)
        shown.changes = {name: change for name, change in event.changes.items() if name not in hidden}
        shown.is_cut = True
        return shown  # type: ignore[no-any-return]

    def _row(self, policy: Policy, event: AuditEvent) -> models.Model | None:
        if not policy.depends_on_row or not event.object_id:
            return None
        place = (id(policy), event.object_id)
        if place not in self._rows:
            self._load_rows([event])
        return self._rows.get(place)

    def _has_row(self, policy: Policy, event: AuditEvent) -> bool:
        """Return whether a policy lets the user see the row of an event."""
        place = (id(policy), event.object_id)
        if place not in self._has_rows:
            self._load_rows([event])
        return policy.sees_all or self._has_rows.get(place, False)

    def _load_rows(self, events: Collection[AuditEvent]) -> None:
        """Load the rows of events, or what is known of those that are gone, where the fields shown depend on them."""
        wanted: dict[str, dict[str, AuditEvent]] = defaultdict(dict)
        for event in events:
            deciding = self._deciding(event.model)
            if event.object_id and (len(deciding) > 1 or any(policy.depends_on_row for policy in deciding)):
                wanted[event.model][event.object_id] = event
        for label, by_key in wanted.items():
            using = next(iter(by_key.values()))._state.db or "default"
            deciding = self._deciding(label)
            for policy in deciding:
                keys = {key for key in by_key if (id(policy), key) not in self._rows}
                is_asked = policy.depends_on_row or (len(deciding) > 1 and not policy.sees_all)
                found = policy.rows(keys, using) if is_asked else {}
                self._has_rows.update({(id(policy), key): key in found for key in keys})
                gone = load_subjects((by_key[key] for key in keys - found.keys()), using)
                for key in keys:
                    self._rows[id(policy), key] = found.get(key) or gone.get((label, key))

    # Values by name

    def reader_of(self, events: Iterable[AuditEvent]) -> Reader:
        """Return how the user reads the events of a page: keys have the names of those rows that they may view."""
        return Reader(related_names(events, self._may_name, self.readable), is_localised=True)

    def reader_of_state(self, event: AuditEvent, state: Mapping[str, object]) -> Reader:
        """Return how the user reads a recorded state of the event's object."""
        return Reader(names_in(event, state, self._may_name, self.readable), is_localised=True)

    def _may_name(self, model: type[models.Model]) -> bool:
        return self.may_view(model._meta.label_lower)

    # Writing

    def limits(self, event: AuditEvent, action: str) -> Limits | None:
        """Return what the user may write to the object of an event, None for nothing.

        Args:
            event: The event.
            action: ``"change"``, or ``"add"`` where the object was deleted.

        """
        place = event.model, event.object_id, action
        if place not in self._limits:
            deciding = self._deciding(event.model)
            self._limits[place] = [one for policy in deciding if (one := self._ask_limits(policy, event, action))]
        found = self._limits[place]
        everything = [limits for limits in found if all(map(limits.allows, event.changes))]
        return next(iter([*everything, *found]), None)

    def finds_row(self, event: AuditEvent) -> bool:
        """Return whether the user can see the object of an event, asked again."""
        using, key = event._state.db or "default", event.object_id
        return any(
            policy.sees_all or isinstance(policy, PermissionPolicy) or key in policy.rows([key], using)
            for policy in self._deciding(event.model)
        )

    def _ask_limits(self, policy: Policy, event: AuditEvent, action: str) -> Limits | None:
        if isinstance(policy, PermissionPolicy):
            return policy.limits(action, None)
        using, key = event._state.db or "default", event.object_id
        row = policy.rows([key], using).get(key)
        if row is None and action == "add":
            row = load_subjects([event], using).get((event.model, key))
        return policy.limits(action, row)
