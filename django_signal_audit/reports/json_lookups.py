"""Asking the database whether a JSON list holds a text, on SQLite, PostgreSQL, MySQL and MariaDB."""

from __future__ import annotations

import json
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Lookup
from django.db.models.sql.compiler import SQLCompiler


class HasItem(Lookup):
    """True where the JSON list on the left holds the text on the right.

    Django's own ``contains`` does not exist on SQLite, and searching the list's text would depend on how each
    database writes a quote or an umlaut. Use it as an expression: ``filter(HasItem(F("rules"), "price-drop"))``.
    """

    lookup_name = "has_item"
    prepare_rhs = False

    def _sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, template: str, item: str) -> object:
        left, params = self.process_lhs(compiler, connection)
        return template % left, (*params, item)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of SQLite."""
        template = "EXISTS (SELECT 1 FROM json_each(%s) WHERE value = %%s)"
        return self._sql(compiler, connection, template, self.rhs)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of PostgreSQL."""
        return self._sql(compiler, connection, "%s @> %%s::jsonb", json.dumps([self.rhs]))

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        """Return the SQL of MySQL and MariaDB."""
        return self._sql(compiler, connection, "JSON_CONTAINS(%s, %%s)", json.dumps(self.rhs))
