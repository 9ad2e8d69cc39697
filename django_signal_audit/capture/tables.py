"""What a database really has behind a model: its columns and their types, triggers, and whether rows can be locked.

A table may have been made or altered without Django, be a view, or wait for a migration. Each table is asked about
once, and again after the settings changed or a migration ran.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.db import connections, models
from django.db.models.signals import post_migrate

from django_signal_audit.conf import on_settings_changed
from django_signal_audit.models.tables import is_ready

from .transactions import lock_database


class Table(NamedTuple):
    """What is known of one table or view."""

    # The types of the columns by name, in lower case; empty if there is no such table.
    columns: Mapping[str, str] = {}
    # Is it a plain table without triggers, so that a row holds what was written?
    is_plain: bool = False
    # May its rows be read with FOR UPDATE? A view with GROUP BY refuses that.
    is_lockable: bool = True
    # Has it PostgreSQL's system columns? Partitioned tables and views give none in RETURNING.
    has_system_columns: bool = False


_tables: dict[tuple[str, str, str], Table] = {}
# The models, with a database, whose columns are all there.
_complete: set[tuple[type[models.Model], str, str]] = set()


@on_settings_changed
def _forget(**_: Any) -> None:
    _tables.clear()
    _complete.clear()


post_migrate.connect(_forget, dispatch_uid="django_signal_audit.capture.tables")


def table_of(model: type[models.Model], using: str) -> Table:
    """Return what is known of the model's own table."""
    connection = connections[using]
    name = model._meta.db_table
    key = (using, str(connection.settings_dict["NAME"]), name)
    found = _tables.get(key)
    if found is None:
        found = _ask(connection, name)
        # What lacks a column of the model is about to get it by a migration, maybe of another process.
        if all(column in found.columns for column in _columns(model)):
            _tables[key] = found
    return found


def _columns(model: type[models.Model]) -> list[str]:
    return [_column(field) for field in model._meta.local_concrete_fields if field.column]


def _column(field: models.Field[Any, Any]) -> str:
    return str(field.column).lower()


_NOTHING: frozenset[Any] = frozenset()


def missing_columns(model: type[models.Model], using: str) -> frozenset[Any]:
    """Return the fields of a model whose columns are not there: their migration has yet to run."""
    if not using or (key := (model, using, str(connections[using].settings_dict["NAME"]))) in _complete:
        return _NOTHING
    tables = [(one, table_of(one, using).columns) for one in (model, *model._meta.get_parent_list())]
    missing = frozenset(
        field
        for one, columns in tables
        for field in one._meta.local_concrete_fields
        if columns and field.column and _column(field) not in columns
    )
    if not missing and all(columns for _, columns in tables):
        _complete.add(key)
    return missing


def is_lockable(model: type[models.Model], using: str) -> bool:
    """Return whether rows of the model can be locked as they are read."""
    if connections[using].vendor != "postgresql":
        return True
    return all(table_of(one, using).is_lockable for one in (model, *model._meta.get_parent_list()))


def is_as_declared(field: models.Field[Any, Any], using: str) -> bool:
    """Return whether the field's column is what Django would have made, in a table that nobody else has a say in."""
    if not field.model._meta.managed:
        return False
    table = table_of(field.model, using)
    actual = table.columns.get(_column(field))
    if not table.is_plain or actual is None:
        return False
    connection = connections[using]
    declared = field.db_type(connection)
    if declared is None:
        return False
    normal = _NORMAL[connection.vendor]
    actual, declared = normal(actual), normal(declared)
    return actual == declared or _is_longer(actual, declared)


_TEXT = re.compile(r"(character varying|varchar)\((\d+)\)")


def _is_longer(actual: str, declared: str) -> bool:
    """Return whether the column takes longer texts than declared, which it keeps as they are."""
    limit, real = _TEXT.fullmatch(declared), _TEXT.fullmatch(actual)
    if limit is None:
        return False
    return actual in ("character varying", "text", "longtext") or (real is not None and int(real[2]) >= int(limit[2]))


_POSTGRESQL_NAMES = {
    "serial": "integer",
    "bigserial": "bigint",
    "smallserial": "smallint",
    "time": "time without time zone",
    "varchar": "character varying",
}


def _postgresql_type(name: str) -> str:
    name = re.sub(r",\s+", ",", name.lower())
    word, _, rest = name.partition("(")
    return _POSTGRESQL_NAMES.get(word, word) + (f"({rest}" if rest else "")


_MYSQL_NAMES = {"integer": "int", "bool": "tinyint", "numeric": "decimal", "double precision": "double"}


def _mysql_type(name: str) -> str:
    name = re.sub(r",\s+", ",", name.lower().removesuffix(" auto_increment"))
    # The display width of integers means nothing.
    name = re.sub(r"int\(\d+\)", "int", name)
    name = "longtext" if name == "json" else name
    word = re.match(r"double precision|\w+", name)
    return name if word is None else _MYSQL_NAMES.get(word[0], word[0]) + name[word.end() :]


_AFFINITIES = (("INT", "integer"), ("CHAR|CLOB|TEXT", "text"), ("BLOB", "blob"), ("REAL|FLOA|DOUB", "real"))


def _sqlite_type(name: str) -> str:
    """Return the affinity of a type: SQLite takes no notice of the rest."""
    found = (affinity for pattern, affinity in _AFFINITIES if re.search(pattern, name.upper()))
    return next(found, "numeric") if name else "blob"


_NORMAL = {"postgresql": _postgresql_type, "mysql": _mysql_type, "sqlite": _sqlite_type}

_QUESTIONS = {
    "postgresql": """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod),
               c.relkind::text = 'r'
                   AND NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
                   AND NOT EXISTS (SELECT 1 FROM pg_rewrite w WHERE w.ev_class = c.oid),
               c.relkind::text IN ('r', 'p', 'f') OR (pg_relation_is_updatable(c.oid, false) & 24) <> 0,
               c.relkind::text = 'r'
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.oid = to_regclass(%s)
    """,
    "mysql": """
        SELECT c.column_name, c.column_type,
               t.table_type = 'BASE TABLE' AND NOT EXISTS (
                   SELECT 1 FROM information_schema.triggers g
                   WHERE g.event_object_schema = c.table_schema AND g.event_object_table = c.table_name),
               1, 0
        FROM information_schema.columns c
        JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
        WHERE c.table_schema = DATABASE() AND c.table_name = %s
    """,
    "sqlite": """
        SELECT c.name, c.type,
               EXISTS (SELECT 1 FROM sqlite_master t WHERE t.type = 'table' AND t.name = asked.name COLLATE NOCASE)
                   AND NOT EXISTS (SELECT 1 FROM sqlite_master g
                                   WHERE g.type = 'trigger' AND g.tbl_name = asked.name COLLATE NOCASE),
               1, 0
        FROM (SELECT ? AS name) asked, pragma_table_xinfo(asked.name) c
    """,
}


def _ask(connection: Any, name: str) -> Table:
    question = _QUESTIONS.get(connection.vendor)
    if question is None:
        return Table()
    connection.ensure_connection()
    if connection.vendor == "sqlite" and connection.in_atomic_block and is_ready(connection.alias):
        lock_database(connection.alias)  # a transaction that begins by reading may never write there
    # Asked past Django's cursors: a project that counts its queries must count the same, whoever wrote first.
    cursor = connection.connection.cursor()
    try:
        with connection.wrap_database_errors:
            cursor.execute(question, [_as_asked_for(connection, name)])
            rows = cursor.fetchall()
    finally:
        cursor.close()
    if not rows:
        return Table()
    columns = {str(column).lower(): _text(kind) for column, kind, *_ in rows}
    return Table(columns, *map(bool, rows[0][2:]))


def _as_asked_for(connection: Any, name: str) -> str:
    if connection.vendor == "postgresql":
        return str(connection.ops.quote_name(name))
    return name.strip('"`')


def _text(kind: Any) -> str:
    return kind.decode() if isinstance(kind, bytes) else str(kind)
