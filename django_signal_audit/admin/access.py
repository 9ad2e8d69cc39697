"""What a user may see and change: every page asks here, and here the project is asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property, lru_cache
from itertools import chain, compress
from typing import Any, TypeAlias

from django.apps import apps
from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.admin.sites import all_sites
from django.db import models
from django.http import HttpRequest
from django.urls import URLResolver, get_resolver, get_urlconf

from django_signal_audit.admin.keyset import shaped
from django_signal_audit.admin.past_names import past_names
from django_signal_audit.admin.policies import (
    AdminPolicy,
    ChildPolicy,
    InlinePolicy,
    Limits,
    ParentPolicy,
    PermissionPolicy,
    Policy,
    Verdict,
)
from django_signal_audit.admin.policies.base import CHUNK, ask, present
from django_signal_audit.admin.policies.gone import Lives, Located, is_recorded, judged, stand_in
from django_signal_audit.capture.images import chunks
from django_signal_audit.delivery.subjects import load_subjects
from django_signal_audit.events.keys import object_id
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Notification
from django_signal_audit.models.inheritance import mti_children
from django_signal_audit.models.renames import current_label, current_name, former_labels
from django_signal_audit.reports.formatter import Reader
from django_signal_audit.reports.relations import naming_unreadable, related_names
from django_signal_audit.rules.patterns import OWN_APP
from django_signal_audit.rules.visibility import get_visibility, is_superuser, may_view_model, narrowed

EXPORTED = "events_exported"


def _included(event: AuditEvent) -> Mapping[str, object]:
    """Return the fields of its row that an event keeps beside its changes."""
    found = event.context.get("include") if "context" in event.__dict__ else None
    return found if isinstance(found, dict) else {}


def shaped_notification(notification: Notification) -> Notification:
    """Return the notification, in memory with an empty document in place of what is none."""
    if not isinstance(notification.data, dict):
        notification.data = {}
    return notification


def is_included(site: AdminSite) -> bool:
    """Return whether the project's URLs lead to a site."""
    return site.name in _included_sites(get_urlconf() or settings.ROOT_URLCONF)


@lru_cache(100)
def _included_sites(urlconf: object) -> frozenset[str]:
    found, waiting = set(), [get_resolver(urlconf)]  # type: ignore[arg-type]
    while waiting:
        for pattern in waiting.pop().url_patterns:
            if isinstance(pattern, URLResolver):
                waiting.append(pattern)
                if pattern.app_name == "admin" and pattern.namespace:
                    found.add(pattern.namespace)
    return frozenset(found)


class ModelAccess:
    """Of which models the user of a request may see rows, and who decides about them."""

    def __init__(self, request: HttpRequest, site: AdminSite | None) -> None:
        self.request = request
        self._site = site
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
                model = apps.get_model(current_label(label)) if label else None
            except (LookupError, ValueError):
                model = None
            self._policies[label] = [] if model is None else self._find_policies(model)
        return self._policies[label]

    def _find_policies(self, model: type[models.Model]) -> list[Policy]:
        return self.own_policies(model) or self._of_other_sites(model) or [self._by_permission(model)]

    def own_policies(self, model: type[models.Model]) -> list[Policy]:
        """Return who decides about a model on this site, none where it has no page for its rows."""
        if model in self._admins:
            return [AdminPolicy(self.request, self._admins[model])]
        proxies = [one for one in self._admins if one._meta.proxy and one._meta.concrete_model is model]
        found: list[Policy] = [AdminPolicy(self.request, self._admins[proxy]) for proxy in proxies]
        for parent, kind in self._inlines.get(model, ()):
            found.append(InlinePolicy(self.request, AdminPolicy(self.request, parent), kind))
        return found or self._inherited(model)

    def _of_other_sites(self, model: type[models.Model]) -> list[Policy]:
        """Return who decides on another site, which grants nothing here that the user has no permission for.

        One that the URLs lead to comes first, and one that lets the user in. A view of a project may have URLs without
        any site, and shows no more for it.
        """
        others = [one for one in all_sites if one is not self._site]
        found = [(one, policies) for one in others if (policies := ModelAccess(self.request, one).own_policies(model))]

        def order(pair: tuple[AdminSite, object]) -> tuple[bool, bool, str]:
            site, _policies = pair
            lets_in = ask(lambda: site.has_permission(self.request), otherwise=False)
            return not is_included(site), not lets_in, site.name

        return [ChildPolicy(self.user, model, one) for one in min(found, key=order)[1]] if found else []

    def _by_permission(self, model: type[models.Model]) -> Policy:
        permission = PermissionPolicy(self.user, model, has_hook=get_visibility() is not None)
        children = [AdminPolicy(self.request, self._admins[one]) for one in mti_children(model) if one in self._admins]
        return ParentPolicy(permission, children) if children else permission

    def _inherited(self, model: type[models.Model]) -> list[Policy]:
        """Return the policies of the nearest parent that has a ModelAdmin."""
        for parent in model._meta.get_parent_list():
            policies = self.policies(parent._meta.label_lower)
            deciding = [one for one in policies if not isinstance(one, (PermissionPolicy, ParentPolicy))]
            if deciding and model in mti_children(parent):
                return [ChildPolicy(self.user, model, one) for one in deciding]
        return []

    @cached_property
    def _inlines(self) -> dict[type[models.Model], list[tuple[Any, Any]]]:
        """Return the inlines of the site by the concrete model of their rows, each with its parent's ModelAdmin."""
        found: dict[type[models.Model], list[tuple[Any, Any]]] = defaultdict(list)
        for admin in self._admins.values():
            kinds: Iterable[Any] = ask(lambda: admin.get_inlines(self.request, None), otherwise=())  # noqa: B023
            made: Iterable[Any] = ask(lambda: admin.get_inline_instances(self.request), otherwise=())  # noqa: B023
            for kind in dict.fromkeys((*kinds, *admin.inlines, *map(type, made))):
                concrete = kind.model._meta.concrete_model
                if not concrete._meta.auto_created:
                    found[concrete].append((admin, kind))
        return found


# The label of a model, the primary key as events have it, and which of the rows that had the key.
Place: TypeAlias = tuple[str, str, str]
# The row that has the key now, and the last one that had it, whether it is there or not.
_LAST = "last"
_NOW = ("", _LAST)

_ATTRIBUTE = "_signal_audit_access"


def access_of(request: HttpRequest, site: AdminSite | str) -> Access:
    """Return what the user of a request may see and change on a site, given by itself or by name."""
    name = site if isinstance(site, str) else site.name
    known: dict[str, Access] = request.__dict__.setdefault(_ATTRIBUTE, {})
    if name not in known:
        found = next((one for one in all_sites if one.name == name), None) if isinstance(site, str) else site
        known[name] = Access(request, found)
    return known[name]


def forget_access(request: HttpRequest) -> None:
    """Have the project asked again: rows have come and gone."""
    request.__dict__.pop(_ATTRIBUTE, None)


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
    labels = [model._meta.label_lower for model in apps.get_models()]
    return [one for label in labels for one in (label, *former_labels(label))]


class Access(ModelAccess):
    """What the user of one request may see and change. What was asked once is known for the rest of the request."""

    def __init__(self, request: HttpRequest, site: AdminSite | None) -> None:
        super().__init__(request, site)
        self._lives = Lives()
        self._verdicts: dict[Place, Verdict] = {}
        self._rows: dict[tuple[int, Place], models.Model | None] = {}
        self._has_rows: dict[tuple[int, Place], bool] = {}
        self._limits: dict[tuple[str, str, str], list[Limits]] = {}

    # Rows

    def filter(self, events: Iterable[AuditEvent]) -> list[AuditEvent]:
        """Return those of the events that the user may see, in their order; all are of one database."""
        events = shaped(events)
        if not events:
            return []
        seen = self.visible(events, events[0]._state.db or "default")
        return [event for event in events if event.id in seen]

    def visible(self, events: Iterable[Located], using: str) -> set[int]:
        """Return the ids of those of the events that the user may see."""
        by_label: dict[str, list[Located]] = defaultdict(list)
        for event in events:
            by_label[event.model].append(event)
        partial = {label: found for label, found in by_label.items() if self.is_partial(label)}
        whole = (label for label in by_label.keys() - partial.keys() if self.may_view(label))
        seen = {event.id for label in whole for event in by_label[label]}
        self._lives.load(chain.from_iterable(partial.values()), using)
        undecided: list[int] = []
        for label, found in partial.items():
            verdicts = [(event.id, self._verdicts[place]) for event, place in self._decided(label, found, using)]
            seen.update(key for key, verdict in verdicts if verdict)
            undecided += [key for key, verdict in verdicts if verdict is None]
        return seen | self._ask_project(undecided, using) if undecided else seen

    def _decided(self, label: str, events: Sequence[Located], using: str) -> list[tuple[Located, Place]]:
        """Return the events of a model with the rows that they are about, after all of these were asked about."""
        placed = [(event, self._loaded_place(event)) for event in events]
        unknown: dict[Place, Located] = {}
        for event, place in placed:
            if place not in self._verdicts:
                unknown.setdefault(place, event)
        if unknown:
            self._decide(label, unknown, using)
        return placed

    def _place(self, event: AuditEvent) -> Place:
        """Return which row an event is about."""
        self._lives.load([event], event._state.db or "default")
        return self._loaded_place(event)

    def _loaded_place(self, event: Located) -> Place:
        """Return which row an event is about that ``_lives`` has been asked about."""
        life = self._lives.life_of(event) if is_recorded(event) else _LAST
        return event.model, event.object_id, life

    def _decide(self, label: str, events: Mapping[Place, Located], using: str) -> None:
        named = {place: event for place, event in events.items() if event.object_id}
        found: dict[Place, list[Verdict]] = {place: [] for place in events}
        for policy in self.policies(label):
            verdicts = judged(policy, list(named.values()), self._lives, using)
            for place, verdict in zip(named, verdicts, strict=True):
                found[place].append(verdict)
        for place, verdicts in found.items():
            # An event of no row is left to the project, too.
            is_open = None in verdicts or place not in named
            self._verdicts[place] = True if True in verdicts else None if is_open else False

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
        return self.is_partial(label) and self._verdicts.get((label, key, _LAST)) is None

    def may_view_object(self, label: str, key: str, using: str) -> bool:
        """Return whether the user may see the history of an object, or parts of it."""
        if not self.is_partial(label):
            return self.may_view(label)
        place = label, key, _LAST
        if place not in self._verdicts:
            self._decide(label, {place: AuditEvent(model=label, object_id=key)}, using)
        verdict = self._verdicts[place]
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

    def asks_rows(self, label: str) -> bool:
        """Return whether rows of a model have to be asked about, for themselves or for their fields."""
        return self.is_partial(label) or any(policy.depends_on_row for policy in self._deciding(label))

    def shows(self, event: AuditEvent, name: str) -> bool:
        """Return whether the user may see what an event says of a field."""
        policies, model, name = self._deciding(event.model), event.model_class, current_name(event.model, name)
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

    def showing_any(
        self, events: Collection[AuditEvent], fields: Mapping[str, Iterable[Iterable[str]]]
    ) -> list[AuditEvent]:
        """Return the events with at least one group of fields that the user may see as a whole.

        Args:
            events: The events.
            fields: Groups of names of fields, by the label of their model.

        """
        self._load_rows(events)
        return [
            event
            for event in events
            if any(all(self.shows(event, name) for name in names) for names in fields.get(event.model, ()))
        ]

    def _deciding(self, label: str) -> list[Policy]:
        return [policy for policy in self.policies(label) if not policy.sees_none]

    def redact(self, events: Iterable[AuditEvent]) -> list[AuditEvent]:
        """Return the events without the fields that the user may not see; ``is_cut`` says where there were any."""
        events = shaped(events)
        self._load_rows(events)
        return [self._redacted(event) for event in events]

    def _redacted(self, event: AuditEvent) -> AuditEvent:
        if event.event_type == EXPORTED and not self.sees_everything and event.actor_id != object_id(self.user.pk):
            # Names of objects and people may be what somebody else looked for.
            exported: Any = copy(event)
            exported.data = {**event.data, "filters": [], "search": "…"} if isinstance(event.data, dict) else {}
            exported.is_cut = True
            return exported  # type: ignore[no-any-return]
        included = _included(event)
        hidden = {name for name in (*event.changes, *included) if not self.shows(event, name)}
        if not hidden:
            return event
        shown: Any = copy(event)
        shown.changes = {name: change for name, change in event.changes.items() if name not in hidden}
        if not hidden.isdisjoint(included):
            left = {name: value for name, value in included.items() if name not in hidden}
            shown.context = {**event.context, "include": left}
        shown.is_cut = True
        return shown  # type: ignore[no-any-return]

    def _row(self, policy: Policy, event: AuditEvent) -> models.Model | None:
        if not policy.depends_on_row or not event.object_id:
            return None
        place = (id(policy), self._place(event))
        if place not in self._rows:
            self._load_rows([event])
        return self._rows.get(place)

    def _has_row(self, policy: Policy, event: AuditEvent) -> bool:
        """Return whether a policy lets the user see the row of an event."""
        place = (id(policy), self._place(event))
        if place not in self._has_rows:
            self._load_rows([event])
        return policy.sees_all or self._has_rows.get(place, False)

    def _load_rows(self, events: Collection[AuditEvent]) -> None:
        """Load the rows of events, or what is known of those that are gone, where the fields shown depend on them."""
        wanted: dict[str, list[AuditEvent]] = defaultdict(list)
        for event in events:
            deciding = self._deciding(event.model)
            if event.object_id and (len(deciding) > 1 or any(policy.depends_on_row for policy in deciding)):
                wanted[event.model].append(event)
        for label, found in wanted.items():
            using = found[0]._state.db or "default"
            self._lives.load(found, using)
            by_place = {self._place(event): event for event in found}
            deciding = self._deciding(label)
            for policy in deciding:
                is_asked = policy.depends_on_row or (len(deciding) > 1 and not policy.sees_all)
                new = {place: event for place, event in by_place.items() if (id(policy), place) not in self._rows}
                self._load_rows_of(policy, new, using, is_asked=is_asked)

    def _load_rows_of(self, policy: Policy, events: Mapping[Place, AuditEvent], using: str, *, is_asked: bool) -> None:
        keys = {key for _label, key, life in events if life in _NOW}
        seen = policy.rows(keys, using) if is_asked else {}
        there = present(policy.model, keys - seen.keys(), using)
        for place, event in events.items():
            _label, key, life = place
            self._has_rows[id(policy), place] = life in _NOW and key in seen
            row = seen.get(key) or there.get(key) if life in _NOW else None
            self._rows[id(policy), place] = row or stand_in(policy.model, self._lives.told_by([event], using)[0], using)

    # Values by name

    def reader_of(self, events: Iterable[AuditEvent]) -> Reader:
        """Return how the user reads the events of a page: keys have the names that their rows had then.

        These are the rows that the user may view. A row without events has its present name.
        """
        events = list(events)
        names = related_names(events, self.may_name, self.readable)
        return Reader(names, is_localised=True, past=past_names(events, self.may_name, self.filter))

    def naming_unreadable(self, events: Sequence[AuditEvent]) -> set[int]:
        """Return the ids of those events that have keys of rows which the user may not know by name."""
        return set() if self.sees_everything else naming_unreadable(events, self.may_name, self.readable)

    def may_name(self, model: type[models.Model]) -> bool:
        """Return whether the user may know any rows of a model by name."""
        return self.may_view(model._meta.label_lower)

    # Writing

    def limits(self, event: AuditEvent, action: str) -> Limits | None:
        """Return what the user may write to the object of an event, None for nothing.

        Args:
            event: The event.
            action: ``"change"``, ``"delete"``, or ``"add"`` where the object was deleted.

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
