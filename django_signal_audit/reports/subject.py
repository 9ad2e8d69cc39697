"""All that the audit log and the outbox have about one person, as a request for their data needs it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import reduce
from operator import or_
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
from django_signal_audit.models.renames import former_labels, former_names, renamed_changes
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
        self._values = self._known_values()
        login = self._values.get(getattr(self.model, "USERNAME_FIELD", ""), ())
        self.addresses = {text for name in self._email_fields() for text in self._values[name] if isinstance(text, str)}
        self.logins = {text for text in login if isinstance(text, str)}

    def _email_fields(self) -> Iterator[str]:
        return (field.name for field in self.model._meta.concrete_fields if isinstance(field, models.EmailField))

    def _known_values(self) -> dict[str, set[Any]]:
        """Return by field what stands for the person elsewhere: addresses, the name to log in by, and unique values.

        Those that the row had before are among them: what was sent to a former address is about the person, too.
        """
        wanted = {*self._email_fields(), getattr(self.model, "USERNAME_FIELD", "")}
        found: dict[str, set[Any]] = {}
        for field in self.model._meta.concrete_fields:
            if field.name in wanted or (field.unique and not field.primary_key):
                value = None if self.row is None else encode(field, getattr(self.row, field.attname))
                found[field.name] = set(_scalars([value]))
        for label, recorded in self._own_events().order_by("id").values_list("model", "changes").iterator():
            changes = renamed_changes(label, recorded)
            for name in found.keys() & (changes.keys() if isinstance(changes, dict) else ()):
                found[name].update(_scalars(changes[name]))
        return found

    def _own_events(self) -> AuditEventQuerySet:
        return AuditEvent.objects.using(self.using).filter(model__in=self.labels, object_id=self.key)

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
                "changes": {name: without_secrets(change) for name, change in event.changes.items()}
                if isinstance(event.changes, dict)
                else event.changes,
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
        columns = (*self._called("actor_repr"), *self._addressed("object_repr"), *self._addressed("object_id"))
        for condition in (*self._references(), *columns, *self._texts()):
            which |= condition
        parts = {f"{name}_text": Cast(name, models.TextField()) for name in ("data", "context", "changes")}
        return AuditEvent.objects.using(self.using).annotate(**parts).filter(which)

    def _called(self, column: str) -> Iterator[models.Q]:
        """Yield the conditions on a column that has the name of somebody."""
        yield from self._addressed(column)
        if self.logins:
            yield models.Q(**{f"{column}__in": self.logins})

    def _addressed(self, column: str) -> Iterator[models.Q]:
        """Yield the conditions on a column that may have an address: nobody writes it in one way only."""
        for address in self.addresses:
            # Mail programs write Ada <ada@shop.example>.
            yield models.Q(**{f"{column}__iexact": address}) | models.Q(**{f"{column}__iendswith": f"<{address}>"})

    def _texts(self) -> Iterator[models.Q]:
        """Yield the conditions on events that have a name as a value: a short one may be part of any other text."""
        for address in self.addresses:
            for said in (*_written(address), *_written(f"<{address}>", is_part=True)):
                for part in ("data", "context", "changes"):
                    yield models.Q(**{f"{part}_text__icontains": said})
        for login in self.logins - self.addresses:
            for said in _written(login):
                # What is called like a user in other tables may be anything.
                yield models.Q(data_text__contains=said) | models.Q(context_text__contains=said)

    def _references(self) -> Iterator[models.Q]:
        """Yield the conditions on events of objects that refer to the person, or did so.

        There is one for each model: SQLite takes no more than a thousand alternatives.
        """
        for model in auditable_models():
            label = model._meta.label_lower
            found = [*self._by_columns(model, label), *self._by_members(model, label), *self._generic(model)]
            if found:
                yield models.Q(model__in=(label, *former_labels(label))) & reduce(or_, found)

    def _by_columns(self, model: type[models.Model], label: str) -> Iterator[models.Q]:
        for name, field in auditable_fields(model).items():
            if isinstance(field, models.ForeignKey) and self._is_kin(field.related_model):
                for value in self._referred(field):
                    for known in (name, *former_names(label, name)):
                        for path in (f"changes__{known}__0", f"changes__{known}__1", f"context__include__{known}"):
                            yield models.Q(**{path: value})

    def _by_members(self, model: type[models.Model], label: str) -> Iterator[models.Q]:
        for name, field in auditable_members(model).items():
            if self._is_kin(field.related_model):
                for known in (name, *former_names(label, name)):
                    yield from self._of_members(known, field)

    def _of_members(self, name: str, field: object) -> Iterator[models.Q]:
        for side in ("added", "removed"):
            for value in self._referred(field):
                yield models.Q(HasItem(KeyTransform(side, KeyTransform(name, "changes")), value))

    def _generic(self, model: type[models.Model]) -> Iterator[models.Q]:
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
                    yield models.Q(**at)

    def _is_kin(self, model: object) -> bool:
        return isinstance(model, type) and (issubclass(model, self.model) or issubclass(self.model, model))

    def _referred(self, field: Any) -> Iterable[Any]:
        """Return what a field that refers to the person holds or held, as events have it."""
        target = field.target_field
        if target.primary_key:
            return [encode(target, parse_id(self.model, self.key))]
        return self._values.get(target.name, ())

    def _why(self, event: AuditEvent) -> Iterable[str]:
        found = []
        if event.model in self.labels and event.object_id == self.key:
            found.append(_("object"))
        if (self.is_user and event.actor_id == self.key) or self._is_called(event.actor_repr):
            found.append(_("actor"))
        impersonator = event.context.get("impersonator") if isinstance(event.context, dict) else None
        if self.is_user and isinstance(impersonator, dict) and impersonator.get("id") == self.key:
            found.append(_("impersonator"))
        return found or [_("named in it")]

    def _is_called(self, text: str) -> bool:
        lower = text.lower()
        named = any(lower == one or lower.endswith(f"<{one}>") for one in map(str.lower, self.addresses))
        return named or text in self.logins

    def _notifications(self) -> Iterator[Any]:
        # Without a user and an address, it is nobody's.
        whom = models.Q(recipient=self.key) | models.Q(user=self.key) if self.is_user else models.Q(pk__in=())
        for condition in (*self._called("recipient"), *self._called("address")):
            whom |= condition
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


def _scalars(values: object) -> list[str | int]:
    """Return what others can refer to among recorded values: digests, tags and nothing are left out."""
    return (
        [value for value in values if isinstance(value, (str, int)) and value != ""] if isinstance(values, list) else []
    )


def _written(text: str, *, is_part: bool = False) -> set[str]:
    """Return how a text is written in JSON: some databases keep letters of other alphabets as they are."""
    written = {json.dumps(text), json.dumps(text, ensure_ascii=False)}
    return {one[1:-1] for one in written} if is_part else written
