"""All that the audit log and the outbox have about one person, as a request for their data needs it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import models
from django.db.models.fields.json import KeyTransform
from django.db.models.functions import Cast
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_signal_audit.events.keys import parse_id, row_id
from django_signal_audit.events.masking import without_secrets
from django_signal_audit.events.values import encode
from django_signal_audit.models import AuditEvent, AuditEventQuerySet, Mute, Notification, Preference, QuietHours
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.reports.base import Column, Detail, Report
from django_signal_audit.reports.display import change_lines, show_actors, show_payload, show_reason
from django_signal_audit.reports.formatter import local
from django_signal_audit.reports.functions import HasItem
from django_signal_audit.rules.patterns import auditable_fields, auditable_members, auditable_models

COLUMNS = (
    Column("time", gettext_lazy("Time")),
    Column("because", gettext_lazy("Because of")),
    Column("event", gettext_lazy("Event")),
    Column("object", gettext_lazy("Object")),
    Column("actor", gettext_lazy("Actor")),
    Column("reason", gettext_lazy("Reason")),
    Column("details", gettext_lazy("Details")),
)


class Subject:
    """A person: the row of a model, with the user that it is, if it is one.

    Args:
        model: The model.
        pk: The primary key; the row may be gone.
        using: The database.

    """

    def __init__(self, model: type[models.Model], pk: object, using: str) -> None:
        self.model = model._meta.concrete_model or model
        self.using = using
        self.key = row_id(self.model, pk)
        self.labels = labels_including_children(self.model)
        found = parse_id(self.model, self.key)
        rows: models.QuerySet[Any] = models.QuerySet(self.model, using=using)
        self.row: Any = None if found is None else rows.filter(pk=found).first()
        user = get_user_model()
        self.is_user = issubclass(user, self.model) or issubclass(self.model, user)
        self.names = list(self._names())

    def _names(self) -> Iterator[str]:
        """Yield the texts that stand for the person elsewhere: addresses, and the name that they log in by."""
        if self.row is None:
            return
        login = getattr(self.model, "USERNAME_FIELD", "")
        for field in self.model._meta.concrete_fields:
            value = getattr(self.row, field.attname)
            if isinstance(value, str) and value and (isinstance(field, models.EmailField) or field.name == login):
                yield value

    def report(self) -> Report:
        """Return the report, oldest first."""
        rows = [*self._events(), *self._notifications(), *self._settings()]
        rows.sort(key=lambda row: row[0].timestamp() if row[0] else 0.0)
        title = _("Everything about %(model)s %(key)s") % {"model": self.model._meta.label, "key": self.key}
        return Report(title=title, columns=COLUMNS, rows=rows, empty=_("Nothing is recorded."))

    def _events(self) -> Iterator[Any]:
        for event in self.events().order_by("recorded_at", "id").iterator(chunk_size=500):
            told = {
                # A pair of tags under a secret's name is still a pair.
                "changes": {name: without_secrets(change) for name, change in event.changes.items()},
                "data": without_secrets(event.data),
                "context": without_secrets(event.context),
            }
            lines = [*change_lines(event), *(f"{name}: {shown.text}" for name, shown in show_payload(event.context))]
            yield (
                local(event.recorded_at),
                ", ".join(self._why(event)),
                event.event_type,
                f"{event.model} {event.object_id} {event.object_repr}".strip(),
                show_actors(event),
                show_reason(event),
                Detail(lines=tuple(lines), data={name: part for name, part in told.items() if part}),
            )

    def events(self) -> AuditEventQuerySet:
        """Return the events that name the person, whatever they are about."""
        which = models.Q(model__in=self.labels, object_id=self.key)
        if self.is_user:
            which |= models.Q(actor_id=self.key) | models.Q(context__impersonator__id=self.key)
        for condition in self._references():
            which |= condition
        events = AuditEvent.objects.using(self.using)
        if self.names:
            events = events.annotate(said=Cast("data", models.TextField()), around=Cast("context", models.TextField()))
        for name in self.names:
            # As a value of its own: a short name may be part of any text.
            which |= models.Q(said__contains=json.dumps(name)) | models.Q(around__contains=json.dumps(name))
        return events.filter(which)

    def _references(self) -> Iterator[models.Q]:
        """Yield the conditions on events of objects that refer to the person, or did so."""
        for model in auditable_models():
            label = model._meta.label_lower
            for name, field in auditable_fields(model).items():
                if isinstance(field, models.ForeignKey) and self._is_kin(field.related_model):
                    for side in (0, 1):
                        yield models.Q(model=label, **{f"changes__{name}__{side}": self._value(field)})
            for name, members in auditable_members(model).items():
                if self._is_kin(members.related_model):
                    yield from self._of_members(label, name, members)
            yield from self._generic(model, label)

    def _of_members(self, label: str, name: str, field: object) -> Iterator[models.Q]:
        for side in ("added", "removed"):
            yield models.Q(HasItem(KeyTransform(side, KeyTransform(name, "changes")), self._value(field)), model=label)

    def _generic(self, model: type[models.Model], label: str) -> Iterator[models.Q]:
        if not apps.is_installed("django.contrib.contenttypes"):
            return
        from django.contrib.contenttypes.fields import GenericForeignKey  # only where it is installed
        from django.contrib.contenttypes.models import ContentType

        kind = ContentType.objects.db_manager(self.using).get_for_model(self.model)
        for field in model._meta.private_fields:
            if isinstance(field, GenericForeignKey):
                key = encode(model._meta.get_field(field.fk_field), parse_id(self.model, self.key))  # type: ignore[arg-type]
                for side in (0, 1):
                    at = {f"changes__{field.ct_field}__{side}": kind.pk, f"changes__{field.fk_field}__{side}": key}
                    yield models.Q(model=label, **at)

    def _is_kin(self, model: object) -> bool:
        return isinstance(model, type) and (issubclass(model, self.model) or issubclass(self.model, model))

    def _value(self, field: Any) -> Any:
        """Return what a field that refers to the person holds, as events have it."""
        target = field.target_field
        value = parse_id(self.model, self.key)
        if self.row is not None and not target.primary_key:
            value = getattr(self.row, target.attname, value)
        return encode(target, value)

    def _why(self, event: AuditEvent) -> Iterable[str]:
        found = []
        if event.model in self.labels and event.object_id == self.key:
            found.append(_("object"))
        if self.is_user and event.actor_id == self.key:
            found.append(_("actor"))
        impersonator = event.context.get("impersonator") if isinstance(event.context, dict) else None
        if self.is_user and isinstance(impersonator, dict) and impersonator.get("id") == self.key:
            found.append(_("impersonator"))
        return found or [_("named in it")]

    def _notifications(self) -> Iterator[Any]:
        whom = models.Q(recipient__in=self.names) | models.Q(address__in=self.names)
        if self.is_user:
            whom |= models.Q(recipient=self.key) | models.Q(user=self.key)
        for row in Notification.objects.using(self.using).filter(whom).order_by("id").iterator(chunk_size=500):
            told = {
                "channel": row.channel,
                "rule": row.rule,
                "recipient": row.recipient,
                "status": row.status,
                "subject": row.subject,
                "body": row.body,
            }
            lines = tuple(f"{name}: {value}" for name, value in told.items() if value)
            yield (
                local(row.sent_at or row.available_at),
                _("recipient"),
                _("notification"),
                "",
                "",
                "",
                Detail(lines, told),
            )

    def _settings(self) -> Iterator[Any]:
        """Yield what a user has chosen about their messages."""
        for model in (Preference, Mute, QuietHours) if self.is_user else ():
            for row in model._base_manager.using(self.using).filter(user=self.key):
                told = {field.name: str(getattr(row, field.attname)) for field in model._meta.concrete_fields}
                lines = tuple(f"{name}: {value}" for name, value in told.items())
                yield (None, _("user"), str(model._meta.verbose_name), "", "", "", Detail(lines, {**told}))
