"""The first ``migrate`` of a fresh database, whose data migrations may come before the audit tables."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .small_project import SmallProject

pytestmark = [pytest.mark.slow, pytest.mark.django_db]

MODELS = """
class Plan(models.Model):
    name = models.CharField(max_length=20)


class Empty(models.Model):
    name = models.CharField(max_length=20)
"""
TABLES = """
    migrations.CreateModel("Plan", [
        ("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=20)),
    ]),
    migrations.CreateModel("Empty", [
        ("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=20)),
    ]),
"""
FILL = """
def fill(apps, schema_editor):
    apps.get_model("shop", "Plan").objects.create(name="basic")
"""
DUE = "audit_baseline"


def make(small_project: Callable[..., SmallProject]) -> SmallProject:
    project = small_project(MODELS, TABLES)
    project.add_migration(2, "migrations.RunPython(fill)", FILL)
    return project


def test_it_says_which_rows_have_no_history(small_project: Callable[..., SmallProject]) -> None:
    project = make(small_project)
    project.run("migrate", "shop", "--verbosity", "0")
    out = project.run("migrate")
    assert "These audited models have rows without recorded history: shop.Plan.\n" in out
    assert out.count(DUE) == 1
    project.run("audit_replay", "--check", code=1)
    project.run("audit_baseline")
    project.run("audit_replay", "--check")
    assert DUE not in project.run("migrate")


def test_it_is_silent_where_nothing_is_due_or_wanted(small_project: Callable[..., SmallProject]) -> None:
    project = make(small_project)
    # The tables come first: the data migration is recorded like every write.
    assert DUE not in project.run("migrate", "django_signal_audit")
    assert DUE not in project.run("migrate")
    project.run("audit_replay", "--check")
    assert project.python("print(AuditEvent.objects.get().changes)") == "{'name': [None, 'basic']}"


def test_verbosity_is_respected(small_project: Callable[..., SmallProject]) -> None:
    project = make(small_project)
    project.run("migrate", "shop", "--verbosity", "0")
    assert project.run("migrate", "--verbosity", "0") == ""
