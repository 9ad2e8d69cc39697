"""AuditEvent: one row per change, inserted and never touched again."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, Self

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from django_signal_audit.enums import EVENT_TYPE_LENGTH, ROW_EVENTS, Level, Source
from django_signal_audit.events.changes import FieldChange, M2MChange
from django_signal_audit.events.keys import MAX_LENGTH, new_uid, object_id, row_id
from django_signal_audit.events.values import decode
from django_signal_audit.exceptions import ImmutableEvent
from django_signal_audit.models.fields import (
    AnyCharField,
    AnyDateTimeField,
    AnyJSONField,
    AnyUUIDField,
    Moment,
    NameField,
    ReadableQuerySet,
    TenantField,
    Text,
)
from django_signal_audit.models.guards import changes_allowed
from django_signal_audit.models.inheritance import labels_including_children, rows_of_children
from django_signal_audit.models.names import NameIndex, TenantIndex
from django_signal_audit.models.renames import current_label, field_names, former_labels, renamed_changes
from django_signal_audit.models.rollups import forget_rollups, has_rollups, note_pruned
from django_signal_audit.models.state import RecordedState, fold, in_order, own_fields, typed, well_formed
from django_signal_audit.models.tenants import current_tenant
from django_signal_audit.problems import shown


class Signature(NamedTuple):
    """What events have in common that the filters of the log ask for: one number, one index."""

    event_type: str
    level: str
    model: str
    rules: tuple[str, ...]


@lru_cache(4096)
def signature_hash(signature: Signature) -> int:
    """Return the number of a signature: 53 bits of a hash, which JSON can hold; no table has to give it out."""
    digest = hashlib.blake2b(json.dumps(signature).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 11


class SignatureField(models.BigIntegerField):  # type: ignore[type-arg]  # generic in the stubs only
    """The number of an event's signature, worked out whenever the event is written."""

    def pre_save(self, model_instance: object, add: bool) -> int:
        """Set and return the number."""
        return self.number(model_instance)

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """Have SQLite return 0 for what is no number: SQL can write anything there."""
        if compiler.connection.vendor != "sqlite" or compiler.query.subquery:
            return sql, params
        return f"CASE typeof({sql}) WHEN 'integer' THEN {sql} ELSE 0 END", [*params] * 2

    @staticmethod
    def number(event: Any) -> int:
        """Set and return the number of an event."""
        event.signature = signature_hash(
            Signature(str(event.event_type), str(event.level), event.model, tuple(event.rules))
        )
        return int(event.signature)


REPR_LENGTH = 255
# Before all events: imported ones have negative ids.
BEFORE_ALL = -(2**63)


def utc_now() -> dt.datetime:
    """Return the present moment in UTC, naive where the project keeps naive times."""
    now = dt.datetime.now(dt.UTC)
    return now if settings.USE_TZ else now.replace(tzinfo=None)


def second_of(moment: dt.datetime) -> int:
    """Return the second since 1970 of a moment that may be naive, in UTC."""
    return math.floor((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp())


# Set while prune() deletes; the hook at the compilers refuses every other DELETE.
_pruning: ContextVar[bool] = ContextVar("django_signal_audit_pruning", default=False)


def is_pruning() -> bool:
    """Return whether the events that are deleted now are deleted by ``prune()``."""
    return _pruning.get()


# Set while a person's data is erased, which changes nothing but what leaves do not hold.
_erasing: ContextVar[bool] = ContextVar("django_signal_audit_erasing", default=False)


def is_erasing() -> bool:
    """Return whether the events that are changed now are changed by ``audit_erase``."""
    return _erasing.get()


def refuse(what: str) -> NoReturn:
    """Raise ImmutableEvent."""
    msg = f"Audit events cannot be {what}. To remove old ones use AuditEvent.objects.filter(...).prune()."
    raise ImmutableEvent(msg)


class AuditEventQuerySet(ReadableQuerySet["AuditEvent"]):
    """Questions to the audit log, each a method named for it; newest first unless said otherwise."""

    def for_object(self, obj: models.Model) -> Self:
        """Return the events of one object, which may be deleted already if it still has its key.

        Raises:
            TypeError: It isn't an object of a model.
            ValueError: It has no primary key, as after ``delete()``.

        """
        # A lazy object such as ``request.user`` has the class of what it stands for.
        model: type = obj.__class__
        pk = getattr(obj, "pk", None)
        if not issubclass(model, models.Model):
            msg = f"for_object() takes an object of a model, not {shown(obj)}."
            raise TypeError(msg)
        if None in (pk if isinstance(pk, tuple) else (pk,)):
            msg = (
                f"{model._meta.label} has no primary key here: delete() takes it from the instance. "
                f"Use for_key({model.__name__}, pk)."
            )
            raise ValueError(msg)
        return self.for_key(model, pk)

    def for_key(self, model: type[models.Model], pk: object) -> Self:
        """Return the events of the row of ``model`` with this primary key."""
        return self.for_model(model).filter(object_id=row_id(model, pk))

    def for_model(self, model: type[models.Model]) -> Self:
        """Return the events of a model; a proxy's are those of its concrete model."""
        label = _concrete(model)._meta.label_lower
        return self.filter(model__in=(label, *former)) if (former := former_labels(label)) else self.filter(model=label)

    def by_actor(self, user: object) -> Self:
        """Return the events a user caused, given as the user or as the primary key."""
        return self.filter(actor_id=object_id(user.pk if isinstance(user, models.Model) else user))

    def for_tenant(self, tenant: str) -> Self:
        """Return the events of a tenant."""
        found = self.filter(tenant=tenant)
        # SQLite looks into an index of some rows only where its condition is said too.
        return found.filter(tenant__gt="") if tenant and connections[self.db].vendor == "sqlite" else found

    def of_type(self, *event_types: str) -> Self:
        """Return the events of the named types."""
        return self.filter(event_type__in=event_types)

    def between(self, start: dt.datetime, end: dt.datetime) -> Self:
        """Return the events recorded from ``start``, included, to ``end``, not included."""
        return self.filter(recorded_at__gte=start, recorded_at__lt=end)

    def in_pages(self, size: int) -> Iterator[list[AuditEvent]]:
        """Yield the events oldest first, at most ``size`` at a time, each page by a query of its own.

        So memory stays constant on every database, no cursor is held open, and the pages read may be deleted.
        """
        rows = self.order_by("recorded_at", "id")
        page = list(rows[:size])
        while page:
            yield page
            moment, pk = page[-1].recorded_at, page[-1].pk
            after = models.Q(recorded_at__gt=moment) | models.Q(recorded_at=moment, id__gt=pk)
            # What the OR says already is said again, as a bound that every database looks up in the index.
            page = list(rows.filter(after, recorded_at__gte=moment)[:size]) if len(page) == size else []

    def state_of(self, model: type[models.Model], pk: object, at: dt.datetime | None = None) -> dict[str, Any] | None:
        """Return the recorded state of one row: typed values by field name, m2m as sorted lists of keys.

        Args:
            model: The model of the row.
            pk: Its primary key.
            at: The moment asked for, that moment included; None for now.

        Returns:
            None if the row was deleted by then, or is unknown to the audit log.

        """
        concrete = _concrete(model)
        values = recorded_state(self, concrete, pk, at).values
        return None if values is None else typed(concrete, values)

    async def astate_of(
        self, model: type[models.Model], pk: object, at: dt.datetime | None = None
    ) -> dict[str, Any] | None:
        """Return the recorded state of one row, like ``state_of``."""
        return await sync_to_async(self.state_of)(model, pk, at)

    def prune(self) -> int:
        """Delete the events of this queryset for good and return how many they were: the only way to lose any.

        The finished notifications about them go with them, and an event ``events_pruned`` says what is gone.
        """
        return int(import_string("django_signal_audit.retention.pruning.prune")(self))

    def update(self, **kwargs: object) -> NoReturn:
        """Refuse: events are immutable."""
        refuse("updated")

    def delete(self) -> NoReturn:
        """Refuse: events are deleted by ``prune`` alone."""
        refuse("deleted")

    def bulk_create(self, objs: Iterable[AuditEvent], *args: Any, **kwargs: Any) -> list[AuditEvent]:
        """Insert events; an insert that may overwrite is refused."""
        if kwargs.get("update_conflicts"):
            refuse("updated")
        return super().bulk_create(objs, *args, **kwargs)


def _concrete(model: type[models.Model]) -> type[models.Model]:
    """Return the model whose label events have; TypeError says so if it is none, such as a label."""
    if not hasattr(model, "_meta"):
        msg = f"The class of a model is needed, not {shown(model)}."
        raise TypeError(msg)
    return model._meta.concrete_model or model


def recorded_state(
    events: AuditEventQuerySet, model: type[models.Model], pk: object, at: dt.datetime | None = None
) -> RecordedState:
    """Return what ``state_of`` does, in the JSON that events have; ``model`` is a concrete one."""
    key = row_id(model, pk)
    labels = labels_including_children(model)
    rows = events.filter(model__in=labels, object_id=key, event_type__in=ROW_EVENTS).order_by("id")
    if at is not None:
        rows = rows.filter(recorded_at__lte=at)
    # Some databases find "a" where "A" was asked for.
    state = fold(model, _read_changes(rows), {}).get(key)
    if state is None or state.values is None:
        return _state_within_child(events, model, pk, at)
    return state


# So many changes are in memory at once.
_PAGE = 1000


def _read_changes(rows: AuditEventQuerySet) -> Iterator[tuple[str, str, str, dict[str, object]]]:
    """Yield object id, label, type and changes of each event, in the order of the keys; memory stays constant."""
    columns = ("object_id", "model", "event_type", "changes")
    if connections[rows.db].vendor != "mysql":
        yield from rows.values_list(*columns).iterator(chunk_size=_PAGE)
        return
    # Its driver reads all that a statement finds into memory.
    last: int | None = BEFORE_ALL
    while last is not None:
        page = list(rows.filter(pk__gt=last).values_list(*columns, "pk")[:_PAGE])
        last = page[-1][-1] if len(page) == _PAGE else None
        yield from (row[:-1] for row in page)


def _state_within_child(
    events: AuditEventQuerySet, model: type[models.Model], pk: object, at: dt.datetime | None
) -> RecordedState:
    """Return what events of a child's row with another key say of the parent's row that it extends."""
    own = own_fields(model)
    for child, found in rows_of_children(model, pk, events.db):
        state = recorded_state(events, child, found, at)
        if state.values is not None:
            state.values = {name: value for name, value in state.values.items() if name in own}
            return state
    return RecordedState()


def delete_pruned(events: AuditEventQuerySet, newest: dt.datetime | None = None) -> int:
    """Delete the rows of what is being pruned and return how many they were: the caller records that.

    Args:
        events: The events.
        newest: The time of the newest of them; None if the caller doesn't know.

    """
    token = _pruning.set(True)
    try:
        with changes_allowed(events.db):
            if has_rollups(events.db):
                newest = newest or events.aggregate(newest=models.Max("recorded_at"))["newest"]
                forget_rollups(events.db, *([second_of(newest)] if newest else ()))
            count = models.QuerySet.delete(events)[1].get(AuditEvent._meta.label, 0)
            note_pruned(events.db, count)
            return count
    finally:
        _pruning.reset(token)


def erase_values(events: AuditEventQuerySet, values: dict[str, object]) -> None:
    """Overwrite personal values of events: the caller records that."""
    token = _erasing.set(True)
    try:
        with changes_allowed(events.db):
            forget_rollups(events.db)
            models.QuerySet.update(events, **values)
    finally:
        _erasing.reset(token)


_Manager = models.Manager.from_queryset(AuditEventQuerySet)


class AuditEventManager(_Manager["AuditEvent"]):
    """The events of the current tenant, where the setting TENANT names a function; otherwise all events."""

    def get_queryset(self) -> AuditEventQuerySet:
        """Return them."""
        events = AuditEventQuerySet(self.model, using=self._db)
        tenant = current_tenant()
        return events.for_tenant(tenant) if tenant else events


class AuditEvent(models.Model):
    """What happened to one object, when, by whom, from what to what.

    No foreign key leaves the row, so neither the object nor the user nor a content type can take it along.
    """

    id = models.BigAutoField(primary_key=True)
    uid = AnyUUIDField(_("uid"), default=new_uid, unique=True, editable=False)
    recorded_at: Moment = AnyDateTimeField(_("recorded at"), default=utc_now)
    event_type: Text = AnyCharField(_("event"), max_length=EVENT_TYPE_LENGTH)
    source: Text = AnyCharField(_("source"), max_length=10, choices=Source.choices)
    level: Text = AnyCharField(_("level"), max_length=10, choices=Level.choices, default=Level.INFO)
    rules = AnyJSONField(_("rules"), default=list)
    model: Text = AnyCharField(_("model"), max_length=150, blank=True)
    object_id: Text = NameField(_("object id"), max_length=MAX_LENGTH, blank=True)
    object_repr: Text = AnyCharField(_("object"), max_length=REPR_LENGTH, blank=True)
    actor_id: Text = NameField(_("actor id"), max_length=MAX_LENGTH, blank=True)
    actor_repr: Text = AnyCharField(_("actor"), max_length=REPR_LENGTH, blank=True)
    changes = AnyJSONField(_("changes"), default=dict)
    data = AnyJSONField(_("data"), default=dict)
    context = AnyJSONField(_("context"), default=dict)
    correlation_id: Text = AnyCharField(_("correlation id"), max_length=64, blank=True)
    signature = SignatureField(editable=False)
    # The database fills it for code that doesn't know it yet.
    tenant: Text = TenantField(_("tenant"), max_length=MAX_LENGTH, blank=True, default="", db_default="")

    objects = AuditEventManager()
    of_all_tenants = AuditEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit events")
        ordering = ["-id"]
        # Only those that some page asks for: nobody adds, changes or deletes an event by hand.
        default_permissions = ("view",)
        permissions = [
            ("revert_auditevent", _("Can revert changes")),
            ("restore_auditevent", _("Can restore versions")),
            ("export_auditevent", _("Can export audit events")),
            ("prune_auditevent", _("Can prune audit events")),
            ("erase_auditevent", _("Can erase personal data")),
        ]
        indexes = [
            models.Index(fields=["model", "object_id", "id"], name="dsa_event_object"),
            # Each of the others answers one question of the log, in its order.
            models.Index(fields=["recorded_at", "id"], name="dsa_event_recorded_at"),
            models.Index(fields=["signature", "recorded_at", "id"], name="dsa_event_signature"),
            models.Index(fields=["actor_id", "recorded_at", "id"], name="dsa_event_actor"),
            NameIndex(fields=["actor_repr", "recorded_at", "id"], name="dsa_event_actor_name"),
            NameIndex(fields=["object_repr", "recorded_at", "id"], name="dsa_event_object_name"),
            models.Index(fields=["correlation_id", "recorded_at", "id"], name="dsa_event_correlation"),
            TenantIndex(fields=["tenant", "recorded_at", "id"], name="dsa_event_tenant"),
        ]

    def __str__(self) -> str:
        subject = self.object_repr or self.model
        return f"{self.event_type} {subject}".rstrip()

    def save(self, *args: object, **kwargs: Any) -> None:
        """Insert the event; raise ImmutableEvent if it exists already."""
        if not self._state.adding:
            refuse("changed")
        kwargs["force_insert"] = True
        super().save(*args, **kwargs)

    def delete(self, *args: object, **kwargs: object) -> NoReturn:
        """Refuse: events are deleted by ``AuditEvent.objects.filter(...).prune()`` alone."""
        refuse("deleted")

    def get_source_display(self) -> str:  # type: ignore[no-redef]  # a model may say it itself
        """Return in words how the change reached the database."""
        # The column's own label of it, "object", says little beside "bulk" and "cascade", and stands in migrations.
        if self.source == Source.ORM:
            return str(_("write to one object"))
        return str(dict(Source.choices).get(self.source, self.source))

    @property
    def model_class(self) -> type[models.Model] | None:
        """Return the model the event is about, None if there is none or it is gone from the project."""
        try:
            return apps.get_model(current_label(self.model))
        except (LookupError, ValueError):
            return None

    def field(self, name: str) -> models.Field[Any, Any] | None:
        """Return the model's field of that name, None if it is gone."""
        return _field_of(self.model_class, name)

    @property
    def field_changes(self) -> dict[str, FieldChange]:
        """Return old and new of each field as typed Python values, in the order of the model.

        Masked and digested values are Masked and Digest.
        """
        model = self.model_class
        return {
            name: FieldChange(old=decode(field, pair[0]), new=decode(field, pair[1]))
            for name, pair in self._changes(model)
            if isinstance(pair, list)
            for field in (_field_of(model, name),)
        }

    @property
    def m2m_changes(self) -> dict[str, M2MChange]:
        """Return the keys that m2m fields gained and lost."""
        return {
            name: M2MChange(added=tuple(members["added"]), removed=tuple(members["removed"]))
            for name, members in self._changes(self.model_class)
            if isinstance(members, dict)
        }

    def _changes(self, model: type[models.Model] | None) -> list[tuple[str, object]]:
        changes = renamed_changes(self.model, well_formed(self.changes))
        return [(name, changes[name]) for name in in_order(model, changes)]

    @property
    def old(self) -> dict[str, Any]:
        """Return the typed values before the change by field name."""
        return {name: change.old for name, change in self.field_changes.items()}

    @property
    def new(self) -> dict[str, Any]:
        """Return the typed values after the change by field name."""
        return {name: change.new for name, change in self.field_changes.items()}


def _field_of(model: type[models.Model] | None, name: str) -> models.Field[Any, Any] | None:
    """Return the field of a model that events call by this name, None if it is gone."""
    if model is None:
        return None
    try:
        found = model._meta.get_field(field_names(model._meta.label_lower).get(name, name))
    except FieldDoesNotExist:
        return None
    return found if isinstance(found, models.Field) else None
