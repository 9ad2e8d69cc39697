"""The audit log in partitions, made by the script that the docs give for very large logs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from django_signal_audit import history_of
from django_signal_audit.evidence.sealing import seal
from django_signal_audit.models import AuditEvent

from .app.models import Product
from .conftest import Audit

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="the script is for PostgreSQL"),
]

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "keep-and-prune.md"
TABLE = "django_signal_audit_auditevent"


@pytest.fixture
def partitioned(audit: Audit) -> Product:
    """Run the script on a log with events, within the transaction of the test."""
    audit()
    product = Product.objects.create(name="Tea", stock=1)
    [script] = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert script.startswith("BEGIN;")
    with connection.cursor() as cursor:
        # What the transaction of the test has deferred is in the way of ALTER TABLE.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(script.removeprefix("BEGIN;").rstrip().removesuffix("COMMIT;"))
    return product


def test_events_go_on_where_they_ended(partitioned: Product) -> None:
    partitioned.stock = 2
    partitioned.save()
    Product.objects.update(stock=3)
    Product.objects.bulk_create([Product(name=f"{number}") for number in range(60)])
    assert [version.values["stock"] for version in history_of(partitioned)] == [1, 2, 3]
    ids = list(AuditEvent.objects.order_by("id").values_list("id", flat=True))
    assert len(set(ids)) == len(ids) == 63
    assert AuditEvent.objects.get(uid=AuditEvent.objects.latest("id").uid).pk == ids[-1]
    call_command("audit_replay", "--check", verbosity=0)


def test_the_indexes_keep_their_names(partitioned: Product) -> None:
    names = {index.name for index in AuditEvent._meta.indexes}
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = %s", [TABLE])
        found = {name for (name,) in cursor.fetchall()}
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = %s::regclass", [TABLE])
        assert cursor.fetchone() == (25,)
    assert names <= found


def test_a_months_events_are_in_its_partition(partitioned: Product) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_uid(date_trunc('month', now() + interval '5 months') + interval '3 days')")
        [uid] = cursor.fetchone()
        cursor.execute("SELECT to_char(now() + interval '5 months', 'YYYY_MM')")
        [month] = cursor.fetchone()
        AuditEvent.objects.create(uid=uid, event_type="login", source="signal")
        cursor.execute(f"SELECT event_type FROM audit_{month}")
        assert cursor.fetchall() == [("login",)]
        cursor.execute(f"ALTER TABLE {TABLE} DETACH PARTITION audit_{month}")
    assert not AuditEvent.objects.filter(event_type="login").exists()


def test_pruning_and_sealing_work_as_in_one_table(partitioned: Product) -> None:
    seal("default")
    partitioned.stock = 5
    partitioned.save()
    assert AuditEvent.objects.filter(event_type="create").prune() == 1
    seal("default")
    call_command("audit_verify", verbosity=0)
    assert AuditEvent.objects.state_of(Product, partitioned.pk)["stock"] == 5
