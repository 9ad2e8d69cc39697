"""Names are found by their beginning, in whatever case: what the search compares, and the index for it."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler


class Lowered(models.Func):
    """A column of names as the search compares it: in lower case, in the order of its characters' codes.

    MySQL and MariaDB compare without regard to case already, and MariaDB has no indexes on expressions: there it is the
    column itself.
    """

    function = "LOWER"
    output_field = models.CharField()

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return the expression in an order in which all names with one beginning stand together."""
        return self.as_sql(compiler, connection, template='%(function)s(%(expressions)s) COLLATE "C"', **extra)

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return the column."""
        return self.as_sql(compiler, connection, template="%(expressions)s", **extra)


class NameIndex(models.Index):
    """An index on a column of names and others, by which names are found by their beginning, in whatever case."""

    def create_sql(self, model: type[models.Model], schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        """Return the statement that creates it."""
        if schema_editor.connection.vendor == "mysql":
            return super().create_sql(model, schema_editor, using, **kwargs)
        name, *others = self.fields
        on_expression = models.Index(Lowered(name), *others, name=self.name)
        return on_expression.create_sql(model, schema_editor, using, **kwargs)


class TenantIndex(models.Index):
    """An index on tenants and others. Events without a tenant aren't in it where the database has partial indexes."""

    def create_sql(self, model: type[models.Model], schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        """Return the statement that creates it."""
        if schema_editor.connection.vendor == "mysql":
            return super().create_sql(model, schema_editor, using, **kwargs)
        partial = models.Index(fields=self.fields, name=self.name, condition=models.Q(tenant__gt=""))
        return partial.create_sql(model, schema_editor, using, **kwargs)
