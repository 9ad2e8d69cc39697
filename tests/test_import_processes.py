"""Imports that are killed, while the application writes: the audit log is complete, and replays to the tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .small_project import ROOT, SmallProject

pytestmark = [pytest.mark.slow, pytest.mark.django_db]

MODELS = """
class Product(models.Model):
    name = models.CharField(max_length=20)
    price = models.IntegerField(default=0)

class Ledger(models.Model):
    product_id = models.IntegerField(db_index=True)
    price = models.IntegerField()
    noted = models.DateTimeField()
"""
TABLES = """
migrations.CreateModel("Product", [
    ("id", models.BigAutoField(primary_key=True)),
    ("name", models.CharField(max_length=20)),
    ("price", models.IntegerField(default=0)),
]),
migrations.CreateModel("Ledger", [
    ("id", models.BigAutoField(primary_key=True)),
    ("product_id", models.IntegerField(db_index=True)),
    ("price", models.IntegerField()),
    ("noted", models.DateTimeField()),
])
"""
SOURCE = """
import os
import signal
from django.db.models import QuerySet
from django_signal_audit.importing.base import Entry, ImportSource
from django_signal_audit.importing.tables import TableHistory
from shop.models import Ledger

class Source(ImportSource):
    name = "ledger"
    rows = 0
    def histories(self):
        rows = QuerySet(Ledger, using=self.using)
        return [TableHistory("shop.product", rows, key=["product_id"], order=["noted", "id"], entry=self.entry)]
    def entry(self, row):
        self.rows += 1
        if self.rows == int(os.environ.get("KILLED_AFTER", "0")):
            os.kill(os.getpid(), signal.SIGKILL)
        kind = "create" if row.price == 0 else "update"
        values = {"name": f"p{row.product_id}", "price": row.price}
        return Entry(key=str(row.pk), at=row.noted, event_type=kind, object_id=row.product_id, snapshot=values)
"""
PRODUCTS, PRICES = 100, 40
FILL = f"""
import datetime as dt
start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
from django_signal_audit import suspend_auditing
with suspend_auditing(reason="older than the audit"):
    products = [Product.objects.create(name="x", price={PRICES - 1}) for _ in range({PRODUCTS})]
    for product in products:
        Product.objects.filter(pk=product.pk).update(name=f"p{{product.pk}}")
Ledger.objects.bulk_create(
    Ledger(product_id=product.pk, price=price, noted=start + dt.timedelta(minutes=price))
    for price in range({PRICES}) for product in products
)
"""
WRITER = """
import random, sys, time
import django; django.setup()
from shop.models import Product
keys = list(Product.objects.values_list("pk", flat=True))
until = time.monotonic() + 60
while time.monotonic() < until and sys.stdin.read(1) == "w":
    product = Product.objects.get(pk=random.choice(keys))
    product.price += 1
    product.save()
    sys.stdout.write("."); sys.stdout.flush()
"""
COUNT = "print(AuditEvent.objects.filter(id__lt=0).count())"


def begin(project: SmallProject, *command: str, **variables: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        **variables,
        "DJANGO_SETTINGS_MODULE": "project",
        "PYTHONPATH": os.pathsep.join([str(project.path), str(ROOT)]),
    }
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=project.path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_import_that_is_killed_while_others_write(
    small_project: Callable[..., SmallProject], tmp_path: Path
) -> None:
    project = small_project(MODELS, TABLES, more='SIGNAL_AUDIT["EXCLUDE_MODELS"] = ["shop.Ledger"]')
    project.write(
        "project.py", (tmp_path / "project.py").read_text().replace('"model": "shop.*"', '"model": "shop.Product"')
    )
    project.write("shop/ledger.py", SOURCE)
    project.run("migrate", "--verbosity", "0")
    project.python(FILL)
    writer = begin(project, "-c", WRITER)
    assert writer.stdin is not None
    assert writer.stdout is not None
    counts = [0]
    try:
        for rows in (1500, 2500, 3500):
            importing = begin(project, "-m", "django", "audit_import", "shop.ledger.Source", KILLED_AFTER=str(rows))
            while importing.poll() is None:
                writer.stdin.write("w")
                writer.stdin.flush()
                writer.stdout.read(1)
            importing.communicate()
            assert importing.returncode == -signal.SIGKILL
            counts.append(int(project.python(COUNT)))
    finally:
        writer.communicate("stop")
    assert 0 < counts[1] < counts[2] < counts[3] < PRODUCTS * PRICES
    project.run("audit_import", "shop.ledger.Source")
    project.run("audit_replay", "--check")
    total = int(project.python(COUNT))
    assert PRODUCTS * PRICES <= total <= PRODUCTS * (PRICES + 1)
    assert "0 events written" in project.run("audit_import", "shop.ledger.Source")
    assert int(project.python(COUNT)) == total
