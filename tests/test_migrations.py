"""The migrations of the package, from an empty database and from each earlier schema with rows in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import django_signal_audit

from .conftest import in_test_all
from .small_project import SmallProject

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.django_db]

MODELS = """
class Product(models.Model):
    name = models.CharField(max_length=20)
"""
TABLE = """migrations.CreateModel("Product", [
    ("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=20)),
])"""
CHANNELS = """
SIGNAL_AUDIT["CHANNELS"] = {"log": {"BACKEND": "django_signal_audit.channels.log.LogChannel"}}
SIGNAL_AUDIT["RULES"] = [{"name": "shop", "model": "shop.*", "notify": ["log"]}]
ROOT_URLCONF = "django_signal_audit.urls"
"""
# Rows as the code of then wrote them: with the models that the migrations make, and nothing of today's.
FILL = """
from uuid import UUID
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

executor = MigrationExecutor(connection)
applied = list(executor.loader.applied_migrations)
apps = executor.loader.project_state(applied).apps
get = lambda name: apps.get_model("django_signal_audit", name)
connection.cursor().execute("INSERT INTO shop_product (name) VALUES ('Tea')")
for number, changes in enumerate([{"name": [None, "Oil"]}, {"name": ["Oil", "Tea"]}]):
    get("AuditEvent")._base_manager.create(
        uid=UUID(int=(7 << 76) + (2 << 62) + number), event_type="update" if number else "create", source="orm",
        level="info", rules=["shop"], model="shop.product", object_id="1", object_repr="Tea", changes=changes,
        correlation_id="c", signature=number,
    )
get("Notification")._base_manager.create(
    event=UUID(int=(7 << 76) + (2 << 62)), rule="shop", channel="log", recipient="", status="pending", message_id="m",
)
if ("django_signal_audit", "0008_preferences") in applied:
    for key in "12":
        get("Mute")._base_manager.create(user="1", model="shop.product", object_id=key)
"""
TOLD = "print([(e.event_type, e.changes, str(e.uid)[-1]) for e in AuditEvent.objects.order_by('id')])"
NAMES = sorted(file.stem for file in (Path(django_signal_audit.__file__).parent / "migrations").glob("[0-9]*.py"))


def test_an_empty_database_gets_all_tables_and_no_model_lacks_a_migration(
    small_project: Callable[..., SmallProject],
) -> None:
    project = small_project(MODELS, TABLE)
    project.run("migrate", "--verbosity", "0")
    project.run("makemigrations", "--check", "--dry-run", "django_signal_audit")
    project.run("check", "--database", "default")
    assert project.python("Product.objects.create(name='Tea'); print(AuditEvent.objects.count())") == "1"


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=in_test_all) for name in NAMES[1:-1])])
def test_rows_of_an_earlier_schema_are_what_they_were(small_project: Callable[..., SmallProject], name: str) -> None:
    project = small_project(MODELS, TABLE, more=CHANNELS)
    project.run("migrate", "shop", "--verbosity", "0")
    project.run("migrate", "contenttypes", "--verbosity", "0")
    project.run("migrate", "django_signal_audit", name, "--verbosity", "0")
    done = project.start("-c", f"import django; django.setup()\n{FILL}")
    assert done.returncode == 0, done.stderr
    project.run("migrate", "--verbosity", "0")
    assert (
        project.python(TOLD) == "[('create', {'name': [None, 'Oil']}, '0'), ('update', {'name': ['Oil', 'Tea']}, '1')]"
    )
    project.run("audit_replay", "--check")
    project.run("audit_deliver", "--once")
    assert project.python("print([(n.status, n.message_id) for n in Notification.objects.all()])") == "[('sent', 'm')]"
    project.python("tea = Product.objects.get(); tea.name = 'Green tea'; tea.save()")
    project.run("audit_replay", "--check")
    project.run("audit_prune", "--keep-last", "1")
    project.run("audit_replay", "--check")
    project.run("migrate", "django_signal_audit", "zero", "--verbosity", "0")
