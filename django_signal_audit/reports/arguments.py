"""What people write on a command line, turned into what is meant, or into a one-line error."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connections, models
from django.db.models import Exists, F, Q
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _

from django_signal_audit.events.keys import is_key
from django_signal_audit.events.values import clean_text
from django_signal_audit.models import AuditEvent, AuditEventQuerySet
from django_signal_audit.models.renames import current_label, former_labels
from django_signal_audit.models.tables import table_exists
from django_signal_audit.problems import did_you_mean
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.functions import HasItem
from django_signal_audit.rules.durations import parse_duration, parse_period
from django_signal_audit.rules.patterns import find_model, meant_label, nearest_label

# What parse_moment takes, for the help of commands.
MOMENTS = "12h, 7d or 2w ago, a date (midnight), or a date and time"


def parse_moment(text: str, now: dt.datetime) -> dt.datetime:
    """Return the moment a text names: ``7d`` ago, a date's first instant, or a date and time.

    Args:
        text: Dates and times without an offset are in the current time zone.
        now: What a duration counts back from.

    Raises:
        WrongArgument: It names no moment.

    """
    try:
        duration = parse_duration(text)
        if duration is not None:
            return now - duration
        period = parse_period(text)
        if period is not None and (months_ago := period.before(now)) is not None:
            return months_ago
        moment = parse_datetime(text) or _midnight(parse_date(text))
        if moment is not None:
            return _stored(moment)
    except (ValueError, OverflowError) as error:
        msg = _("%(text)s isn't a valid date: the calendar has no such date or time.")
        raise WrongArgument(msg % {"text": repr(text)}) from error
    msg = _("%(text)s isn't a valid date. Use 12h, 7d, 2w, 6mo or 1y (ago), 2026-01-31 or 2026-01-31T08:30.")
    raise WrongArgument(msg % {"text": repr(text)})


def _midnight(date: dt.date | None) -> dt.datetime | None:
    return None if date is None else dt.datetime.combine(date, dt.time())  # _stored adds the zone


def _stored(moment: dt.datetime) -> dt.datetime:
    """Return the moment as ``recorded_at`` has it: aware, or naive in UTC where the project keeps naive times."""
    if settings.USE_TZ:
        # In UTC already here: a moment at the end of time overflows now, and not inside a query.
        return (moment if timezone.is_aware(moment) else timezone.make_aware(moment)).astimezone(dt.UTC)
    return moment.astimezone(dt.UTC).replace(tzinfo=None) if timezone.is_aware(moment) else moment


def check_alias(alias: str) -> None:
    """Raise WrongArgument if DATABASES has no such alias."""
    if alias not in connections:
        msg = f"There is no database {alias!r}. {did_you_mean(alias, connections)}"
        raise WrongArgument(msg)


def check_database(alias: str) -> str:
    """Return the alias of a database that has the audit tables.

    Raises:
        WrongArgument: There is no such alias, or its tables are missing.

    """
    check_alias(alias)
    # Tables of another schema on the search path aren't listed.
    is_listed = AuditEvent._meta.db_table in connections[alias].introspection.table_names()
    if not is_listed and not table_exists(AuditEvent, alias):
        msg = f"Database {alias!r} has no audit tables. Run: manage.py migrate --database {alias}"
        raise WrongArgument(msg)
    return alias


def parse_model(text: str, using: str) -> str:
    """Return the label that events of a model carry, in lower case.

    A model that is gone from the project is known as long as there are events of it.

    Raises:
        WrongArgument: Neither the project nor the audit log knows it.

    """
    label = current_label(text.lower())
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        if AuditEvent.objects.using(using).filter(model=label).exists():
            return label
        msg = f"There is no model {text!r}. {_model_hint(label)}"
        raise WrongArgument(msg) from None
    concrete: type[models.Model] = model._meta.concrete_model or model
    return concrete._meta.label_lower


def _model_hint(label: str) -> str:
    """Return which model was most likely meant: one of the same name if there is any."""
    labels = [model._meta.label_lower for model in apps.get_models()]
    same = [known for known in labels if known.rpartition(".")[2] == label.rpartition(".")[2]]
    hint = "" if same else meant_label(label)
    return hint or did_you_mean(label, same or labels, "Write it as app_label.Model.")


def parse_object(label: str, pk: str, using: str) -> tuple[type[models.Model], str]:
    """Return the model of an object, and the text of its primary key; its row may be deleted.

    Raises:
        WrongArgument: There is no such model, or no row of it can have this key, and none had.

    """
    model = find_model(label)
    if model is None:
        msg = f"There is no model {label!r}. {nearest_label(label)}"
        raise WrongArgument(msg)
    # Keys may have had another type when events were recorded.
    events = AuditEvent.of_all_tenants.using(using).for_model(model).filter(object_id=pk)
    if not is_key(model, pk) and not events.exists():
        names = ", ".join(f"{field.name} ({type(field).__name__})" for field in model._meta.pk_fields)
        msg = f"No {model._meta.label} can have the primary key {pk!r}. It is of: {names}."
        raise WrongArgument(msg)
    return model, pk


def parse_key(label: str, text: str) -> object:
    """Return the primary key a text means, the text itself where the model is gone or has no such key."""
    try:
        return _typed_key(apps.get_model(label), text)
    except (LookupError, ValidationError, ValueError, TypeError):
        return text


def _typed_key(model: type[models.Model], text: str) -> object:
    fields = model._meta.pk_fields
    if len(fields) == 1:
        return fields[0].to_python(text)
    return tuple(field.to_python(part) for field, part in zip(fields, json.loads(text), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """What events have to match; whatever is empty matches all.

    ``actor`` is the actor's key, or the name if nobody has it as key. ``since`` is included, ``until`` is not. Texts
    are compared as the audit log keeps them, so that a NUL in one is no error of the database.
    """

    model: str = ""
    object_id: str = ""
    event_type: str = ""
    actor: str = ""
    rule: str = ""
    level: str = ""
    tenant: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None

    def conditions(self) -> list[Q]:
        """Return one condition per thing that was named."""
        plain = {"object_id": self.object_id, "event_type": self.event_type, "level": self.level, "tenant": self.tenant}
        found = [Q(**{column: clean_text(value)}) for column, value in plain.items() if value]
        if self.model:
            label = clean_text(self.model)
            found.append(Q(model__in=(label, *former_labels(label))) if former_labels(label) else Q(model=label))
        if self.actor:
            actor = clean_text(self.actor)
            is_key = Q(Exists(AuditEvent.objects.filter(actor_id=actor)))
            found.append(Q(actor_id=actor) | (Q(actor_repr=actor) & ~is_key))
        if self.rule:
            found.append(Q(HasItem(F("rules"), clean_text(self.rule))))
        if self.since is not None:
            found.append(Q(recorded_at__gte=self.since))
        if self.until is not None:
            found.append(Q(recorded_at__lt=self.until))
        return found

    def find(self, using: str) -> AuditEventQuerySet:
        """Return the events of a database that match."""
        return AuditEvent.objects.using(using).filter(*self.conditions())
