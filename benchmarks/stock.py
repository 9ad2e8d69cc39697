"""Rows to work on, put in place and removed by SQL that no contender records."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Model

from .shop.models import Category, Product, Supply, Tag

TAGS = 50


def values(number: int) -> dict[str, Any]:
    """Return the twelve values of one row."""
    return {
        "name": f"Product number {number}",
        "sku": f"SKU-{number:08}",
        "description": "Ground slowly from whole beans and packed the same day. " * 3,
        "price": Decimal("19.9000") + number % 100,
        "cost": Decimal("11.2500"),
        "stock": number % 500,
        "weight": 0.25,
        "is_active": True,
        "released": date(2020, 1, 1 + number % 28),
        "available_from": datetime(2020, 1, 1, 12, 30, number % 60, 123456, tzinfo=UTC),
        "attributes": {"colour": "brown", "sizes": [250, 500, 1000], "origin": {"country": "PE", "farm": number}},
        "category_id": 1 + number % 5,
    }


def lay_in() -> None:
    """Fill the tables that the products refer to."""
    Category.objects.bulk_create(Category(pk=number, name=f"Category {number}") for number in range(1, 6))
    Tag.objects.bulk_create(Tag(pk=number, name=f"Tag {number}") for number in range(1, TAGS + 1))


def clear(model: type[Model]) -> None:
    """Empty the table of the model and of its tags."""
    tables = [model.tags.through._meta.db_table, model._meta.db_table]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"TRUNCATE {', '.join(tables)} CASCADE")
        else:
            for table in tables:
                cursor.execute(f"DELETE FROM {table}")


def fill(model: type[Model], rows: int) -> None:
    """Leave the table of the model with that many rows, copied from the supply."""
    clear(model)
    in_supply = Supply.objects.count()
    Supply.objects.bulk_create(Supply(**values(number)) for number in range(in_supply, rows))
    columns = ", ".join(field.column for field in Product._meta.local_concrete_fields if not field.primary_key)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {model._meta.db_table} ({columns})"
            f" SELECT {columns} FROM {Supply._meta.db_table} ORDER BY id LIMIT %s",
            [rows],
        )


def settle() -> None:
    """Let the server do now what the preparation has left to do, so that it does not fall into the timed calls."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE" if connection.vendor == "postgresql" else "PRAGMA wal_checkpoint(TRUNCATE)")
