"""What a database really has behind a model: its columns and their types, triggers, and whether rows can be locked.

A table may have been made or altered without Django, be a view, or wait for a migration. Each table is asked about
once, and again after the settings changed or a migration ran.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from django.db import connections, models
from django.db.models.query import ValuesListIterable
from django.db.models.signals import post_migrate

from django_signal_audit.capture.transactions import lock_database
from django_signal_audit.conf import on_settings_changed
from django_signal_audit.events.values import is_djangos
from django_signal_audit.models.tables import is_ready


class Table(NamedTuple):
    """What is known of one table or view."""

    # The types of the columns by name, in lower case; empty if there is no such table.
    columns: Mapping[str, str] = {}
    # Whether it is a plain table, without triggers and columns that set themselves: a row holds what was written.
    is_plain: bool = False
    # Whether its rows may be read with FOR UPDATE. A view with GROUP BY refuses that.
    is_lockable: bool = True
    # Whether it has PostgreSQL's system columns. Partitioned tables and views give none in RETURNING.
    has_system_columns: bool = False
    # Whether every row that is written may be read. Without that right, or with row-level security, RETURNING fails.
    is_readable: bool = True
    # Whether its UPDATE and DELETE can have a RETURNING. Those of SQLite's virtual tables can't.
    can_return: bool = True


_tables: dict[tuple[str, str, str], Table] = {}
# The models, with a database, whose columns are all there.
_complete: set[tuple[type[models.Model], str, str]] = set()


@on_settings_changed
def _forget(**_: object) -> None:
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


def _column(field: models.Field[object, object]) -> str:
    return str(field.column).lower()


_NOTHING: frozenset[Any] = frozenset()


def missing_columns(model: type[models.Model], using: str) -> frozenset[object]:
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


def is_as_declared(field: models.Field[object, object], using: str) -> bool:
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

QUESTIONS = {
    "postgresql": """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod),
               c.relkind::text = 'r'
                   AND NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
                   AND NOT EXISTS (SELECT 1 FROM pg_rewrite w WHERE w.ev_class = c.oid),
               c.relkind::text IN ('r', 'p', 'f') OR (pg_relation_is_updatable(c.oid, false) & 24) <> 0,
               c.relkind::text = 'r',
               NOT c.relrowsecurity AND has_table_privilege(c.oid, 'SELECT'),
               true
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.oid = to_regclass(%s)
    """,
    # Each view is given the table's name: MariaDB opens the files of all tables for a name that another view gives.
    "mysql": """
        SELECT c.column_name, CONCAT(c.column_type, IF(c.extra LIKE '%%auto_increment%%', ' auto_increment', '')),
               t.table_type = 'BASE TABLE' AND NOT EXISTS (
                   SELECT 1 FROM information_schema.triggers g
                   WHERE g.event_object_schema = DATABASE() AND g.event_object_table = %s)
                   AND NOT EXISTS (
                   SELECT 1 FROM information_schema.columns u
                   WHERE u.table_schema = DATABASE() AND u.table_name = %s
                       AND u.extra LIKE '%%on update%%'),
               1, 0, 1, 1
        FROM information_schema.columns c
        JOIN information_schema.tables t ON t.table_schema = DATABASE() AND t.table_name = %s
        WHERE c.table_schema = DATABASE() AND c.table_name = %s
    """,
    "sqlite": """
        SELECT c.name, c.type,
               made.type = 'table' AND made.sql NOT LIKE 'CREATE VIRTUAL %'
                   AND NOT EXISTS (SELECT 1 FROM sqlite_master g
                                   WHERE g.type = 'trigger' AND g.tbl_name = asked.name COLLATE NOCASE),
               1, 0, 1, made.sql IS NULL OR made.sql NOT LIKE 'CREATE VIRTUAL %'
        FROM (SELECT ? AS name) asked
        JOIN pragma_table_xinfo(asked.name) c
        LEFT JOIN sqlite_master made ON made.type IN ('table', 'view') AND made.name = asked.name COLLATE NOCASE
    """,
}


def _ask(connection: Any, name: str) -> Table:
    question = QUESTIONS.get(connection.vendor)
    if question is None:
        return Table()
    connection.ensure_connection()
    if connection.vendor == "sqlite" and connection.in_atomic_block and is_ready(connection.alias):
        lock_database(connection.alias)  # a transaction that begins by reading may never write there
    # Asked past Django's cursors: a project that counts its queries must count the same, whichever wrote first.
    cursor = connection.connection.cursor()
    try:
        with connection.wrap_database_errors:
            cursor.execute(question, [_as_asked_for(connection, name)] * max(question.count("%s"), 1))
            rows = cursor.fetchall()
    finally:
        cursor.close()
    if not rows:
        return Table()
    columns = {str(column).lower(): _text(kind) for column, kind, *_ in rows}
    if connection.vendor == "sqlite":
        columns = {**dict.fromkeys(("rowid", "oid", "_rowid_"), "integer"), **columns}  # which every table has
    return Table(columns, *map(bool, rows[0][2:]))


def _as_asked_for(connection: Any, name: str) -> str:
    if connection.vendor == "postgresql":
        return str(connection.ops.quote_name(name))
    return name.strip('"`')


def _text(kind: object) -> str:
    return kind.decode() if isinstance(kind, bytes) else str(kind)


Field: TypeAlias = "models.Field[Any, Any]"
Converter: TypeAlias = Callable[[Any, Any, Any], Any]
Q = TypeVar("Q", bound="models.QuerySet[Any, Any]")


def _document(value: object, *_: object) -> object:
    """Return a JSON document as any reader finds it, without the field's decoder."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _text_of(field: Field, value: object) -> object:
    """Return what the driver gives for a stored value: the text of a document, the same for all else."""
    if value is None:
        return None
    base = getattr(field, "base_field", None)
    if isinstance(base, models.Field) and isinstance(value, list):
        return [_text_of(base, item) for item in value]
    return json.dumps(value) if _is_document(field) else value


def _is_document(field: Field) -> bool:
    return field.get_internal_type() == "JSONField"


def _plain(field: Field, convert: Converter) -> Converter | None:
    """Return what gives the column's value instead of a converter of the field; the same one if that does."""
    base = getattr(field, "base_field", None)
    if isinstance(base, models.Field):
        items = getattr(base, "from_db_value", None)
        plain = items and _plain(base, items)
        return convert if items is None or plain == items else partial(_each, plain)
    if _is_document(field):
        return convert if is_djangos(convert) and getattr(field, "decoder", None) is None else _document
    return convert if is_djangos(convert) else None


def _each(plain: Converter | None, value: Any, expression: object, connection: object) -> object:
    if plain is None or value is None:
        return value
    return [None if item is None else plain(item, expression, connection) for item in value]


def _is_key(field: Field) -> bool:
    return field.is_relation or field.primary_key or field in field.model._meta.pk_fields


def stored_converters(compiler: Any, expressions: Sequence[object]) -> dict[int, tuple[Sequence[Converter], object]]:
    """Return the converters of a compiler's columns, without what the project's own fields make of the values."""
    converters: dict[int, tuple[Sequence[Converter], Any]] = compiler.get_converters(expressions)
    for position, (functions, expression) in list(converters.items()):
        target = getattr(expression, "target", None)
        if target is None or _is_key(target):
            continue
        own = expression.get_db_converters(compiler.connection)
        plain = [_plain(expression.output_field, convert) for convert in own]
        if plain != own:
            backend = functions[: len(functions) - len(own)]
            converters[position] = [*backend, *filter(None, plain)], expression
    return converters


class _StoredValues(ValuesListIterable):  # type: ignore[type-arg]  # it takes none at run time
    def __iter__(self) -> Any:
        rows: Any = self.queryset
        compiler = rows.query.get_compiler(rows.db)
        kind = type(compiler)
        compiler.get_converters = partial(stored_converters, _Original(kind, compiler))
        return compiler.results_iter(tuple_expected=True, chunked_fetch=self.chunked_fetch, chunk_size=self.chunk_size)


class _Original:
    """A compiler with the ``get_converters`` of its class."""

    def __init__(self, kind: type, compiler: Any) -> None:
        self.connection = compiler.connection
        self.get_converters = partial(kind.get_converters, compiler)  # type: ignore[attr-defined]


def stored(rows: Q) -> Q:
    """Return a queryset of ``values_list`` that gives what the columns hold."""
    rows = rows.all()
    rows._iterable_class = _StoredValues  # noqa: SLF001  # as values_list() sets it
    return rows


def is_converted(field: Field, using: str) -> bool:
    """Return whether objects have something else for the field than what the column holds."""
    if _is_key(field) or not field.column:
        return False
    column: Any = field.cached_col
    own = column.get_db_converters(connections[using])
    return bool([_plain(column.output_field, convert) for convert in own] != own)


def converted(field: Field, value: object, using: str) -> Any:
    """Return what objects have for a value that the column holds; the same value if the field refuses it."""
    column: Any = field.cached_col
    connection = connections[using]
    found = _text_of(column.output_field, value)
    try:
        for convert in column.get_db_converters(connection):
            found = convert(found, column, connection)
    except Exception:  # noqa: BLE001  # the project's code, which cannot read what is in its column
        return value
    return found


@lru_cache(1024)
def is_formatted(model: type[models.Model]) -> bool:
    """Return whether a SELECT of some column is another expression than the column, which is what RETURNING gives.

    Columns of GeoDjango are an example.
    """
    return any(type(field).select_format is not models.Field.select_format for field in model._meta.concrete_fields)


def converted_fields(fields: Iterable[Field], using: str) -> Mapping[int, Field]:
    """Return the fields whose values in objects differ from what the column holds, by position."""
    return {position: field for position, field in enumerate(fields) if is_converted(field, using)}


def assignable(field: Field, value: object, using: str) -> object:
    """Return what an object has to be given so that its column gets a value again."""
    # A decoder may make of a document what cannot be saved again; the document itself always can.
    if not is_converted(field, using) or (_is_document(field) and is_djangos(getattr(field, "from_db_value", None))):
        return value
    return converted(field, value, using)


def stored_value(instance: models.Model, field: Field) -> object:
    """Return what the column of an object's row holds; it is read only where the object does not tell."""
    using = instance._state.db
    if using is None or not is_converted(field, using):
        return getattr(instance, field.attname)
    rows: models.QuerySet[Any] = models.QuerySet(type(instance), using=using).filter(pk=instance.pk)
    if connections[using].vendor == "mysql" and connections[using].in_atomic_block:
        rows = rows.select_for_update()  # all other reads are of the past there
    return next((value for (value,) in stored(rows.values_list(field.attname))), None)
