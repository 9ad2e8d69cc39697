"""Columns that a migration altered: equal values are equal, and what really differs can be repaired."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from .small_project import SmallProject

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.django_db]

FIRST = """migrations.CreateModel("Item", [
    ("id", models.BigAutoField(primary_key=True)),
    ("price", models.DecimalField(max_digits=10, decimal_places=2)),
    ("secret_price", models.DecimalField(max_digits=10, decimal_places=2)),
    ("count", models.IntegerField()),
    ("ratio", models.FloatField()),
    ("name", models.CharField(max_length=20)),
    ("number", models.IntegerField()),
    ("flag", models.BooleanField()),
    ("day", models.DateField()),
    ("note", models.CharField(max_length=20, null=True)),
])"""
FIRST_MODEL = """
class Item(models.Model):
    price = models.DecimalField(max_digits=10, decimal_places=2)
    secret_price = models.DecimalField(max_digits=10, decimal_places=2)
    count = models.IntegerField()
    ratio = models.FloatField()
    name = models.CharField(max_length=20)
    number = models.IntegerField()
    flag = models.BooleanField()
    day = models.DateField()
    note = models.CharField(max_length=20, null=True)
"""
SECOND = """
    migrations.AlterField("item", "price", models.DecimalField(max_digits=12, decimal_places=4)),
    migrations.AlterField("item", "secret_price", models.DecimalField(max_digits=12, decimal_places=4)),
    migrations.AlterField("item", "count", models.DecimalField(max_digits=12, decimal_places=3)),
    migrations.AlterField("item", "ratio", models.DecimalField(max_digits=12, decimal_places=3)),
    migrations.AlterField("item", "name", models.TextField()),
    migrations.AlterField("item", "number", models.CharField(max_length=20)),
    migrations.AlterField("item", "flag", models.BooleanField(null=True)),
    migrations.AlterField("item", "day", models.DateTimeField()),
"""
SECOND_MODEL = """
class Item(models.Model):
    price = models.DecimalField(max_digits=12, decimal_places=4)
    secret_price = models.DecimalField(max_digits=12, decimal_places=4)
    count = models.DecimalField(max_digits=12, decimal_places=3)
    ratio = models.DecimalField(max_digits=12, decimal_places=3)
    name = models.TextField()
    number = models.CharField(max_length=20)
    flag = models.BooleanField(null=True)
    day = models.DateTimeField()
    note = models.CharField(max_length=20, {note})
"""
THIRD = 'migrations.AlterField("item", "note", models.CharField(max_length=20, default="none"))'
CREATE = """
    Item.objects.create(
        price="1.5", secret_price="2.25", count=3, ratio=0.5, name="a", number=7, flag=True,
        day="2026-01-31", note={note},
    )
"""


def test_equal_values_are_equal_and_others_are_repaired(small_project: Callable[..., SmallProject]) -> None:
    project = small_project(FIRST_MODEL, FIRST)
    project.run("migrate")
    project.python(CREATE.format(note="None") + CREATE.format(note="'n'").replace("1.5", "1.25"))
    assert project.run("audit_replay", "--check")

    project.add_migration(2, SECOND)
    project.write("shop/models.py", f"from django.db import models\n{SECOND_MODEL.format(note='null=True')}")
    project.run("migrate")
    assert "2 rows compared with their recorded history, 0 differences." in project.run("audit_replay", "--check")
    assert "baseline recorded for 0 of 2 rows (0 of them differed)" in project.run("audit_baseline", "--repair")

    project.add_migration(3, THIRD)
    text = SECOND_MODEL.format(note="default='none'")
    project.write("shop/models.py", f"from django.db import models\n{text}")
    project.run("migrate")
    found = json.loads(project.run("audit_replay", "--check", "--format", "json", code=1))["differences"]
    assert [(item["field"], item["recorded"], item["actual"]) for item in found] == [("note", None, "none")]
    project.run("audit_baseline")
    project.run("audit_replay", "--check", code=1)
    assert "baseline recorded for 1 of 2 rows (1 of them differed)" in project.run("audit_baseline", "--repair")
    project.run("audit_replay", "--check")
    event = project.python("""
        event = AuditEvent.objects.filter(source="baseline").get()
        print([event.event_type, event.changes, event.data["repair"]["reason"], event.data["repair"]["fields"]])
    """)
    expected = ["baseline", {"note": [None, "none"]}, "differs", ["note"]]
    assert event == str(expected)
    assert "baseline recorded for 0 of 2 rows (0 of them differed)" in project.run("audit_baseline", "--repair")
