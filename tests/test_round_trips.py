"""How often a write talks to the database: each statement is a round trip, and so are BEGIN and COMMIT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from django_signal_audit.capture.tables import QUESTIONS

from .app.models import Product, Tag
from .conftest import SAVES_ARE_ONE_STATEMENT, Audit, events

pytestmark = pytest.mark.django_db(transaction=True)


def update_stock(row: Product, write: Callable[[], Any]) -> None:
    row.stock += 1
    write()


# What is done with a row, and with the tags.
WRITES: dict[str, Callable[[Product, list[Tag]], Any]] = {
    "create": lambda row, _: Product.objects.create(name=row.name),
    "create without a secret": lambda row, _: Tag.objects.create(name=row.name),
    "save": lambda row, _: Product(pk=row.pk, name=row.name, stock=7).save(),
    "update_fields": lambda row, _: update_stock(row, lambda: row.save(update_fields=["stock"])),
    "save of nothing": lambda row, _: row.save(update_fields=["stock"]),
    "delete": lambda row, _: row.delete(),
    "m2m add": lambda row, tags: row.tags.add(*tags),
    "bulk_create": lambda row, _: Product.objects.bulk_create([Product(name="x"), Product(name="y")]),
    "bulk_update": lambda row, _: update_stock(row, lambda: Product.objects.bulk_update([row], ["stock"])),
    "update": lambda row, _: Product.objects.filter(pk=row.pk).update(stock=F("stock") + 1),
    "update of nothing": lambda row, _: Product.objects.filter(name="nobody").update(stock=3),
    "queryset delete": lambda row, _: Product.objects.filter(pk=row.pk).delete(),
}
# In autocommit, with BEGIN and COMMIT, and inside a transaction.
PORTABLE = {
    "create": (5, 3),
    "create without a secret": (4, 2),
    "save": (6, 4),
    "update_fields": (5, 3),
    "save of nothing": (4, 2),
    "delete": (7, 5),
    "m2m add": (4, 2),
    "bulk_create": (4, 2),
    "bulk_update": (6, 4),
    "update": (6, 4),
    "update of nothing": (3, 1),
    "queryset delete": (8, 6),
}
# An UPDATE returns what it leaves, and is not left out where there is nothing to do.
RETURNING = {**PORTABLE, "bulk_update": (5, 3), "update": (5, 3), "update of nothing": (4, 2)}
# BEGIN travels with the first statement.
LATE = {name: (alone - 1, inside) for name, (alone, inside) in PORTABLE.items()}
EXPECTED = {
    "mysql": {
        **LATE,
        # One more for a value that only the database knows, and that is read.
        "create": (3, 3),
        "save": (3, 3),
        "create without a secret": (1, 1),
        "update_fields": (2, 2),
        "save of nothing": (2, 1),
    },
    "sqlite": RETURNING,
    "postgresql": {
        **RETURNING,
        "create without a secret": (1, 1),
        "save": (1, 1),
        "update_fields": (1, 1),
        "save of nothing": (1, 1),
        "delete": (6, 4),
        "m2m add": (3, 1),
        "bulk_update": (3, 1),
        "update": (1, 1),
        "update of nothing": (1, 1),
        "queryset delete": (7, 5),
    },
}


def counts(name: str) -> tuple[int, int]:
    """Return the statements in autocommit, and inside a transaction, of a write that was done before."""
    tags = Tag.objects.bulk_create([Tag(name="s"), Tag(name="t")])
    rows = Product.objects.bulk_create([Product(name=str(number), stock=1) for number in range(3)])
    first, second, third = (Product.objects.get(pk=row.pk) for row in rows)
    WRITES[name](first, tags)
    with CaptureQueriesContext(connection) as alone:
        WRITES[name](second, tags)
    with transaction.atomic():
        Tag.objects.exists()
        with CaptureQueriesContext(connection) as inside:
            WRITES[name](third, tags)
    return len(alone), len(inside)


@pytest.mark.skipif(
    connection.vendor == "postgresql" and not SAVES_ARE_ONE_STATEMENT, reason="with psycopg 2 saves go the portable way"
)
def test_each_write_takes_as_many_statements_as_are_written_here(audit: Audit) -> None:
    audit()
    found = {name: counts(name) for name in WRITES}
    assert events()
    assert found == EXPECTED[connection.vendor]


@pytest.mark.skipif(connection.vendor != "mysql", reason="MariaDB reads each table's file for its catalog")
def test_the_question_about_a_table_reads_the_files_of_no_other() -> None:
    """The first write to each table of a process asks it: with a hundred tables, it took a tenth of a second."""
    question = QUESTIONS["mysql"]
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + question, ["app_product"] * question.count("%s"))
        plan = str(cursor.fetchall())
    assert "Scanned 0 databases" in plan
    assert "Scanned all databases" not in plan
    assert "Scanned 1 database" not in plan
