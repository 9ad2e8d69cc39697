"""The index of the leaves' numbers is filled up on PostgreSQL: a number is always larger than all before it."""

from typing import Any

from django.db import migrations


def fill(apps: Any, schema_editor: Any) -> None:
    """Say so of the pages that are still to be written; this rewrites nothing and stops no writer."""
    _alter(apps, schema_editor, "SET (fillfactor = 100)")


def reset(apps: Any, schema_editor: Any) -> None:
    """Leave room in each page again."""
    _alter(apps, schema_editor, "RESET (fillfactor)")


def _alter(apps: Any, schema_editor: Any, what: str) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    table = schema_editor.quote_name(apps.get_model("django_signal_audit", "AuditLeaf")._meta.db_table)
    with schema_editor.connection.cursor() as cursor:
        sql = "SELECT indexrelid::regclass::text FROM pg_index WHERE indisprimary AND indrelid = to_regclass(%s)"
        cursor.execute(sql, [table])
        for (name,) in cursor.fetchall():
            schema_editor.execute(f"ALTER INDEX {name} {what}")


class Migration(migrations.Migration):

    dependencies = [
        ("django_signal_audit", "0015_rollup"),
    ]

    operations = [migrations.RunPython(fill, reset)]
