"""``manage.py audit_hold``: keeps the events of one object from being pruned, and lets them go again."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, models

from django_signal_audit.context.scopes import audit_context, context_scope
from django_signal_audit.events.keys import row_id
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.management.base import AuditCommand
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.models.renames import former_labels
from django_signal_audit.reports.arguments import check_database, parse_key, parse_object
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.retention.holds import held_objects, hold, release


class Command(AuditCommand):
    """Holds and releases objects; without an object, lists those that are held."""

    help = "Keep all events about one object until it is released. Without an object: list those on hold."
    database_code = 2
    exit_codes = (
        "Exit codes: 0 done (or it was so before), 1 that could not be recorded, 2 a wrong option, model or database."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add which object, why, and who says so."""
        parser.add_argument("object", nargs="*", metavar="MODEL PK", help="The object: shop.Customer 3.")
        parser.add_argument("--release", action="store_true", help="End the hold.")
        parser.add_argument("--reason", default="", help="Why, such as the number of the case.")
        parser.add_argument("--actor", default="", help="Who says so, as the event names them.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help='Alias of the database (default: "default").')

    def handle(self, *args: Any, **options: Any) -> None:
        """Hold, release or list."""
        try:
            check_database(options["database"])
            if not options["object"]:
                self._list(options["database"])
                return
            model, pk = _object(options["object"], options["database"])
            with context_scope(command="audit_hold"), audit_context(actor=options["actor"] or None):
                self._note(model, pk, options)
        except EventNotWritten as error:
            raise CommandError(str(error), returncode=1) from error
        except WrongArgument as error:
            raise CommandError(str(error), returncode=2) from error

    def _list(self, using: str) -> None:
        held = {(event.model, event.object_id): event for event in held_objects(using).values()}
        for (label, name), event in held.items():
            self.stdout.write(f"{label} {name}: {event.data.get('reason') or 'no reason given'}")
        if not held:
            self.stdout.write("No object is on hold.")

    def _note(self, model: type[models.Model], pk: str, options: dict[str, Any]) -> None:
        if not options["release"]:
            _require_known(model, pk, options["database"])
        change = release if options["release"] else hold
        is_new = change(model, pk, options["reason"], using=options["database"])
        said = {
            True: "is released" if is_new else "isn't on hold",
            False: "is on hold" if is_new else "is on hold already",
        }
        concrete = model._meta.concrete_model or model
        self.stdout.write(f"{concrete._meta.label_lower} {row_id(concrete, pk)} {said[options['release']]}.")


def _require_known(model: type[models.Model], pk: str, using: str) -> None:
    """Refuse a key that nothing has: a hold with a typing error in it would keep nothing."""
    concrete = model._meta.concrete_model or model
    labels = [*labels_including_children(concrete), *former_labels(concrete._meta.label_lower)]
    events = AuditEvent.of_all_tenants.using(using).filter(model__in=labels, object_id=row_id(concrete, pk))
    key = parse_key(model._meta.label_lower, pk)
    if events.exists() or model._base_manager.using(using).filter(pk=key).exists():
        return
    msg = f"There is no {model._meta.label} {pk!r}, and no event of it."
    raise WrongArgument(msg)


def _object(given: list[str], using: str) -> tuple[type[models.Model], str]:
    if len(given) != 2:
        msg = "Name one object by its model and its primary key: audit_hold shop.Customer 3."
        raise WrongArgument(msg)
    return parse_object(given[0], given[1], using)
