"""Engines: they write a row and its event in one statement, where a database can.

What an engine does not hold exactly goes the portable way: read under lock, write, compare, record. The module of an
engine has the name of the database's vendor, or ``mariadb``, and in it a class ``Engine``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from django.db import connections, models
from django.utils.translation import gettext as _

from django_signal_audit.conf import get_settings
from django_signal_audit.enums import Source
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.tables import is_ready
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.signals import event_recorded

if TYPE_CHECKING:
    from django_signal_audit.capture.compilers import DeleteStatement, InsertStatement, UpdateStatement
    from django_signal_audit.capture.scope import DoomedObject, Identity, SaveScope
    from django_signal_audit.capture.through_rows import M2MRelation

# What an engine returns for a statement that it leaves to the portable way; it has written nothing then.
LEFT: Final = object()


class Engine(Protocol):
    """What one database offers for the statements of saves."""

    # Whether it writes saves, and UPDATEs of many rows.
    writes_saves: bool
    writes_sets: bool

    def refusal(self, plan: ModelPlan, kind: type[models.Model], using: str, *, is_many: bool = False) -> str:
        """Return why writes of objects of a class are left to the portable way; empty if they are not.

        Args:
            plan: What is audited of the model.
            kind: The class of the objects.
            using: The database.
            is_many: Whether UPDATEs of many rows are meant, and not saves.

        """

    def run(self, statement: InsertStatement | UpdateStatement, save: SaveScope) -> Any:
        """Run the statement of a save, write its event with it, and return what Django wants of it; or LEFT."""

    def run_many(self, statement: UpdateStatement, plan: ModelPlan, source: Source) -> Any:
        """Run an UPDATE of many rows, write their events with it, and return what Django wants of it; or LEFT."""


@runtime_checkable
class OneRowEngine(Protocol):
    """What an engine may offer besides: deletions of one object, and related objects that a manager adds to one."""

    def delete(self, statement: DeleteStatement, plan: ModelPlan, doomed: Mapping[Identity, DoomedObject]) -> Any:
        """Delete a row whose object is known, write its event with it, and return the number of rows; or LEFT."""

    def add_members(self, statement: InsertStatement, relation: M2MRelation, instance: models.Model) -> Any:
        """Insert the pairs of a manager's call, write their event with them, and return Django's result; or LEFT."""


def one_row_engine(plan: ModelPlan, kind: type[models.Model], using: str) -> OneRowEngine | None:
    """Return the engine for other writes of one row than saves, of objects of a class; None if there is none."""
    engine = engine_of(plan, kind, using)
    return engine if isinstance(engine, OneRowEngine) else None


def _engine(using: str) -> Engine | None:
    connection: Any = connections[using]
    if connection.vendor != "mysql":
        return _engine_named(connection.vendor)
    # Django learns which one it is as it connects.
    connection.ensure_connection()
    return _engine_named("mariadb") if connection.mysql_is_mariadb else None


@cache
def _engine_named(name: str) -> Engine | None:
    module = f"{__name__}.{name}"
    engine: Engine | None = import_module(module).Engine() if find_spec(module) is not None else None
    return engine


def engine_for(save: SaveScope) -> Engine | None:
    """Return the engine that may write a save; None if it goes the portable way."""
    if save.raw or save.writes_more or save.plans is None or len(save.plans) != 1:
        return None
    [plan] = save.plans
    engine = _engine(save.using)
    if engine is None or not engine.writes_saves:
        return None
    return engine_of(plan, type(save.instance), save.using)


def engine_of(plan: ModelPlan, kind: type[models.Model], using: str, *, is_many: bool = False) -> Engine | None:
    """Return the engine that may write the rows of a plan, of objects of a class; None if there is none."""
    engine = _engine(using)
    if engine is None or get_settings().engine != "auto" or event_recorded.has_listeners(AuditEvent):
        return None
    key = ("engine", kind, using, is_many)
    reason = plan.certainties.get(key)
    if reason is None:
        reason = plan.certainties[key] = _refusal(engine, plan, kind, using, is_many=is_many)
    return None if reason else engine


def _refusal(engine: Engine, plan: ModelPlan, kind: type[models.Model], using: str, *, is_many: bool) -> str:
    if get_settings().on_error != "raise":
        return _("the setting ON_ERROR")
    if not get_settings().capture_queries:
        return _("the setting CAPTURE_QUERIES")
    if not is_ready(using):
        return _("the tables of the audit log don't exist")
    if kind._meta.concrete_model is not plan.model or plan.model._meta.parents or plan.descendants:
        return _("multi-table inheritance")
    return engine.refusal(plan, kind, using, is_many=is_many)


def why_portable(plan: ModelPlan, using: str, *, is_many: bool = False) -> str:
    """Return why writes of a model's rows go the portable way on a database; empty if an engine may write them.

    Args:
        plan: What is audited of the model.
        using: The database.
        is_many: Whether UPDATEs of many rows are meant, and not saves.

    """
    engine = _engine(using)
    if engine is None:
        return _("%(database)s has no engine") % {"database": connections[using].display_name}
    if not (engine.writes_saves or is_many):
        return _("its engine writes bulk updates only")
    if is_many and not engine.writes_sets:
        return _("its engine writes saves only")
    if get_settings().engine != "auto":
        return _("the setting ENGINE")
    return _refusal(engine, plan, plan.model, using, is_many=is_many)
