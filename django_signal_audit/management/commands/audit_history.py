"""``manage.py audit_history MODEL PK``: the life of one object, or what it was at a moment."""

from __future__ import annotations

import datetime as dt
from argparse import ArgumentParser
from typing import Any

from django.db.models import Model
from django.utils.translation import gettext as _

from django_signal_audit.events.keys import object_id
from django_signal_audit.management.base import ReportCommand
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.tenants import current_tenant
from django_signal_audit.reports.arguments import EventFilter, parse_key, parse_model, parse_moment
from django_signal_audit.reports.base import Report, WrongArgument
from django_signal_audit.reports.formatter import show_time
from django_signal_audit.reports.history import life, state
from django_signal_audit.rules.patterns import find_model
from django_signal_audit.rules.tenants import mapping


class Command(ReportCommand):
    """Prints the life of one object."""

    help = "Print the history of an object (also of a deleted one), or its state at a given time."
    exit_codes = "Exit codes: 0 printed, 1 a wrong argument or an object without recorded history, 2 a wrong option."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the object and the moment."""
        parser.add_argument("model", metavar="MODEL", help="Its model: app_label.Model.")
        parser.add_argument("pk", metavar="PK", help="Its primary key; a composite one as a JSON list.")
        parser.add_argument(
            "--at",
            metavar="TIME",
            help="Print its recorded state at this time instead: 12h, 7d or 2w ago, a date (midnight), "
            "or a date and time.",
        )
        parser.add_argument("--tenant", help="Only its events of this tenant.")
        super().add_arguments(parser)

    def make_report(self, options: dict[str, Any]) -> Report:
        """Return the object's life, or its state at a moment."""
        using = options["database"]
        label = parse_model(options["model"], using)
        key = parse_key(label, options["pk"])
        events = EventFilter(model=label, object_id=object_id(key)).find(using).order_by("id")
        newest = events.last()
        if newest is None:
            raise WrongArgument(_nothing_known(label, options["pk"], key))
        name = f"{label} {newest.object_id} ({newest.object_repr})"
        if options["at"] is None:
            return life(name, events)
        return _state_at(newest, key, name, parse_moment(options["at"], utc_now()))


def _nothing_known(label: str, text: str, key: object) -> str:
    msg = f"No events are recorded for {label} {text!r}."
    model = find_model(label)
    parts = model._meta.pk_fields if model else ()
    if len(parts) < 2 or isinstance(key, tuple):
        return msg
    names = ", ".join(f'"{field.name}"' for field in parts)
    return f"{msg} Write its primary key as a JSON list with the values of {names}."


def _values_at(newest: AuditEvent, model: type[Model], key: object, moment: dt.datetime) -> dict[str, object] | None:
    """Return what the object held, None if there was none or it was another tenant's then."""
    if not mapping():
        return AuditEvent.objects.using(newest._state.db).state_of(model, key, moment)
    # The row may have been another tenant's before: its state is made of the events of both.
    events = AuditEvent.of_all_tenants.using(newest._state.db)
    tenant = current_tenant()
    told = events.for_key(model, key).filter(recorded_at__lte=moment).order_by("-id").values_list("tenant", flat=True)
    return events.state_of(model, key, moment) if tenant in ("", told.first()) else None


def _state_at(newest: AuditEvent, key: object, name: str, moment: dt.datetime) -> Report:
    model = newest.model_class
    if model is None:
        msg = f"The model {newest.model!r} is gone from the project. Leave out --at to print its events."
        raise WrongArgument(msg)
    values = _values_at(newest, model, key, moment)
    names = {"name": name, "when": show_time(moment)}
    if values is None:
        return state(
            name, newest, {}, empty=_("At %(when)s %(name)s did not exist yet, or has no recorded history.") % names
        )
    return state(_("%(name)s at %(when)s") % names, newest, values)
