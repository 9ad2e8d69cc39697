"""PostgreSQL: the change of rows and their events in one statement.

Django's statement becomes a CTE that returns the rows, and the events are inserted from that: their moments and uids
are taken after the rows are locked. An UPDATE reads the old values first, under the lock that it takes anyway. Where a
value needs more than SQL can tell, such as the tag of a secret, the statement finds that out before it writes, and
writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import connections, models
from django.utils.translation import gettext as _

from django_signal_audit.capture.compilers import DeleteStatement, InsertStatement, UpdateStatement
from django_signal_audit.capture.scope import DoomedObject, Identity, SaveScope
from django_signal_audit.capture.tables import is_formatted, table_of
from django_signal_audit.capture.through_rows import M2MRelation
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.secret_fields import has_secret_key
from django_signal_audit.events.values import plain_field
from django_signal_audit.rules.plans import ModelPlan

from .columns import INTEGERS, tenant_sql
from .rows import add_members, delete, insert, update
from .sets import update_many
from .statements import PARTS


class Engine:
    """Writes saves of one row: INSERTs whose values are certain, UPDATEs whose old values SQL can tell."""

    writes_saves = True
    writes_sets = True

    def refusal(self, plan: ModelPlan, kind: type[models.Model], using: str, *, is_many: bool = False) -> str:
        """Return why writes of objects of a class are left to the portable way; empty if they are not."""
        keys = plan.model._meta.pk_fields
        key = plain_field(keys[0])
        wrong = {
            _("a driver other than psycopg 3"): not _has_psycopg3(using),
            _("times without a zone"): not settings.USE_TZ or bool(connections[using].settings_dict.get("TIME_ZONE")),
            _("a primary key other than one number or UUID"): len(keys) > 1
            or not isinstance(key, (*INTEGERS, models.UUIDField)),
            _("a primary key that is a secret"): has_secret_key(plan.model),
            _("the rule key include"): any(rule.include for rule in plan.rules),
            _("a tenant that another table names"): tenant_sql(plan, using) is None,
            _("conditions"): bool(plan.conditional & {EventType.CREATE, EventType.UPDATE}),
            _("generated columns"): bool(plan.generated),
            _("columns that a SELECT formats"): is_formatted(plan.model),
            _("triggers, rules, or no plain table"): not table_of(plan.model, using).is_plain,
            _("row-level security, or no right to read the table"): not table_of(plan.model, using).is_readable,
            _("a table that is called as a part of the statement"): plan.model._meta.db_table in PARTS,
        }
        return next((reason for reason, holds in wrong.items() if holds), "")

    def run(self, statement: InsertStatement | UpdateStatement, save: SaveScope) -> Any:
        """Run the statement of a save, write its event with it, and return what Django wants of it; or LEFT."""
        [plan] = save.plans or ()
        if isinstance(statement, InsertStatement):
            return insert(statement, plan, save) if plan.by_event[EventType.CREATE] else statement.execute()
        return update(statement, plan, save) if plan.by_event[EventType.UPDATE] else statement.execute()

    def run_many(self, statement: UpdateStatement, plan: ModelPlan, source: Source) -> Any:
        """Run an UPDATE of many rows, write their events with it, and return what Django wants of it; or LEFT."""
        return update_many(statement, plan, source)

    def delete(self, statement: DeleteStatement, plan: ModelPlan, doomed: Mapping[Identity, DoomedObject]) -> Any:
        """Delete a row whose object is known, write its event with it, and return the number of rows; or LEFT."""
        return delete(statement, plan, doomed)

    def add_members(self, statement: InsertStatement, relation: M2MRelation, instance: models.Model) -> Any:
        """Insert the pairs of a manager's call, write their event with them, and return Django's result; or LEFT."""
        return add_members(statement, relation, instance)


def _has_psycopg3(using: str) -> bool:
    connections[using].ensure_connection()
    return hasattr(connections[using].connection, "pgconn")
