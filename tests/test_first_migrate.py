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


CHANGE = """
def change(apps, schema_editor):
    Plan = apps.get_model("shop", "Plan")
    plan = Plan.objects.get()
    plan.name = "basic plan"
    plan.save()
"""


def test_a_row_that_a_later_migration_changed_has_no_starting_point_for_that(
    small_project: Callable[..., SmallProject],
) -> None:
    project = make(small_project)
    project.add_migration(3, "migrations.RunPython(change)", CHANGE)
    file = project.path / "shop/migrations/m3.py"
    file.write_text(
        file.read_text().replace("[('shop', 'm2')]", "[('shop', 'm2'), ('django_signal_audit', '__latest__')]")
    )
    project.run("migrate", "shop", "m2", "--verbosity", "0")
    assert "rows without recorded history: shop.Plan.\n" in project.run("migrate")
    project.run("audit_baseline")
    project.run("audit_replay", "--check")


def test_rows_with_secret_keys_are_known_by_their_names_in_the_log(
    small_project: Callable[..., SmallProject],
) -> None:
    project = small_project(
        "class ApiToken(models.Model):\n    token = models.CharField(max_length=20, primary_key=True)\n"
        "    name = models.CharField(max_length=20)\n",
        """migrations.CreateModel("ApiToken", [
            ("token", models.CharField(max_length=20, primary_key=True)), ("name", models.CharField(max_length=20)),
        ])""",
    )
    project.add_migration(
        2,
        "migrations.RunPython(fill)",
        """
def fill(apps, schema_editor):
    apps.get_model("shop", "ApiToken").objects.create(token="a-secret", name="mine")
""",
    )
    file = project.path / "shop/migrations/m2.py"
    file.write_text(
        file.read_text().replace("[('shop', 'm1')]", "[('shop', 'm1'), ('django_signal_audit', '__latest__')]")
    )
    assert DUE not in project.run("migrate")
    project.run("audit_replay", "--check")


def test_verbosity_is_respected(small_project: Callable[..., SmallProject]) -> None:
    project = make(small_project)
    project.run("migrate", "shop", "--verbosity", "0")
    assert project.run("migrate", "--verbosity", "0") == ""
