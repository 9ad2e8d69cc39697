"""MariaDB: the rows of a save and its event in as few packets as can be, and the events of many rows made by SQL."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.conf import settings
from django.db import connections, models
from django.utils.translation import gettext as _

from django_signal_audit.capture.compilers import InsertStatement, UpdateStatement
from django_signal_audit.capture.engines import LEFT
from django_signal_audit.capture.hooks import is_plain
from django_signal_audit.capture.packets import takes_packets
from django_signal_audit.capture.scope import SaveScope
from django_signal_audit.capture.tables import is_formatted, table_of
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.secret_fields import has_secret_key, masked_fields
from django_signal_audit.events.values import plain_field
from django_signal_audit.rules.plans import ModelPlan

from .saves import insert, record, update
from .sets import INTEGERS, update_many


class Engine:
    """Writes saves of one row, and UPDATEs of many."""

    writes_saves = True
    writes_sets = True

    def refusal(self, plan: ModelPlan, kind: type[models.Model], using: str, *, is_many: bool = False) -> str:
        """Return why writes of objects of a class are left to the portable way; empty if they are not."""
        if not takes_packets(connections[using]):
            return _("a connection without multi_statements")
        return _refusal_of_many(plan, using) if is_many else ""

    def run(self, statement: InsertStatement | UpdateStatement, save: SaveScope) -> Any:
        """Run the statement of a save, write its event with it, and return what Django wants of it; or LEFT."""
        if save.transaction is None or not _is_managed(save.using):
            return LEFT
        [plan] = save.plans or ()
        save.record = partial(record, plan, save.transaction)
        if isinstance(statement, InsertStatement):
            return insert(statement, plan, save) if plan.by_event[EventType.CREATE] else statement.execute()
        return update(statement, plan, save) if plan.by_event[EventType.UPDATE] else statement.execute()

    def run_many(self, statement: UpdateStatement, plan: ModelPlan, source: Source) -> Any:
        """Run an UPDATE of many rows, write their events, and return what Django wants of it; or LEFT."""
        return update_many(statement, plan, source) if _is_managed(statement.using) else LEFT


def _is_managed(using: str) -> bool:
    """Return whether a connection takes packets now, and Django knows whether a transaction is open."""
    connection = connections[using]
    return (connection.in_atomic_block or connection.get_autocommit()) and takes_packets(connection)


def _refusal_of_many(plan: ModelPlan, using: str) -> str:
    keys = plan.model._meta.pk_fields
    wrong = {
        _("times without a zone"): not settings.USE_TZ or bool(connections[using].settings_dict.get("TIME_ZONE")),
        _("a primary key other than one number"): len(keys) > 1 or not isinstance(plain_field(keys[0]), INTEGERS),
        _("a primary key that is a secret"): has_secret_key(plan.model) or bool(masked_fields(plan.model)),
        _("the rule key include"): bool(plan.included),
        _("a tenant that another table names"): plan.tenant is not None,
        _("conditions"): EventType.UPDATE in plan.conditional,
        _("generated columns"): bool(plan.generated),
        _("columns that a SELECT formats"): is_formatted(plan.model) or not is_plain(plan.model),
        _("triggers, rules, or no plain table"): not table_of(plan.model, using).is_plain,
    }
    return next((reason for reason, holds in wrong.items() if holds), "")
