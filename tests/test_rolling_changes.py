"""Two versions of a project beside each other, as in a rolling deployment: nothing fails, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent

import pytest

from .conftest import in_test_all
from .small_project import SmallProject

pytestmark = [pytest.mark.slow, pytest.mark.django_db]

OLD = """
class Product(models.Model):
    name = models.CharField(max_length=20)
    price = models.IntegerField(default=0)

    def __str__(self):
        return self.name
"""
TABLES = """
    migrations.CreateModel("Product", [
        ("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=20)),
        ("price", models.IntegerField(default=0)),
    ]),
"""
# The new version has a column and a model more.
NEW = (
    OLD.replace("    def", "    color = models.CharField(max_length=20, null=True)\n\n    def", 1)
    + """

class Supplier(models.Model):
    name = models.CharField(max_length=20)
"""
)
MORE = """
    migrations.AddField("Product", "color", models.CharField(max_length=20, null=True)),
    migrations.CreateModel("Supplier", [
        ("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=20)),
    ]),
"""
CHANNELS = """
"DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher",
"CHANNELS": {"log": {"BACKEND": "django_signal_audit.channels.log.LogChannel"}},
"""


class Versions:
    """A project with an old and a new version on one database."""

    def __init__(self, project: SmallProject) -> None:
        self.project = project
        self._settings = (project.path / "project.py").read_text()

    def deploy(self, models: str, *rules: str) -> None:
        """Have the commands that follow run a version of the code."""
        self.project.write("shop/models.py", "from django.db import models\n" + dedent(models))
        audit = (
            f"ROOT_URLCONF = 'django_signal_audit.urls'\nSIGNAL_AUDIT = {{'RULES': [{', '.join(rules)}], {CHANNELS}}}\n"
        )
        self.project.write("project.py", self._settings + audit)

    def old(self, *rules: str) -> None:
        self.deploy(OLD, *(rules or (EVERYTHING,)))

    def new(self, *rules: str) -> None:
        self.deploy(NEW, *(rules or (EVERYTHING,)))


EVERYTHING = '{"name": "shop", "model": "shop.*"}'
NAMES = '{"name": "shop", "model": "shop.Product", "fields": ["name"]}'
TELLS = '{"name": "told", "model": "shop.Supplier", "notify": ["log"]}'
EVENTS = "print([(e.event_type, e.model, sorted(e.changes)) for e in AuditEvent.objects.order_by('id')])"


@pytest.fixture
def versions(small_project: Callable[..., SmallProject]) -> Versions:
    found = Versions(small_project(OLD, TABLES))
    found.old()
    found.project.run("migrate", "--verbosity", "0")
    return found


def test_columns_ahead_of_the_code_and_behind_it(versions: Versions) -> None:
    project = versions.project
    project.python("Product.objects.create(name='Tea')")
    project.add_migration(2, MORE)
    # The new code runs before its migration: what plain Django can write is written and recorded.
    versions.new()
    project.python("Product.objects.filter(name='Tea').update(price=1)")
    project.python("Product.objects.only('price').get().save(update_fields=['price'])")
    project.run("migrate", "--verbosity", "0")
    # The old code goes on beside the new tables.
    versions.old()
    project.python("tea = Product.objects.get(); tea.price = 2; tea.save()")
    project.python("Product.objects.bulk_create([Product(name='Oil')]); Product.objects.filter(name='Oil').delete()")
    project.run("audit_replay", "--check")
    versions.new()
    project.python("tea = Product.objects.get(); tea.color = 'green'; tea.save()")
    versions.old()
    project.python("tea = Product.objects.get(); tea.name = 'Green tea'; tea.save()")
    versions.new()
    project.run("audit_replay", "--check")
    state = project.python("print(AuditEvent.objects.state_of(Product, 1))")
    assert state == "{'name': 'Green tea', 'price': 2, 'color': 'green'}"


@in_test_all
def test_a_field_that_only_the_new_rules_record(versions: Versions) -> None:
    project = versions.project
    versions.old(NAMES)
    project.python("Product.objects.create(name='Tea', price=1)")
    versions.old(EVERYTHING)
    project.run("audit_baseline")
    project.python("Product.objects.update(price=2)")
    versions.old(NAMES)  # an old process is still there: nobody asks it to record prices
    project.python("Product.objects.update(price=3)")
    project.python("Product.objects.update(name='Green tea', price=4)")
    versions.old(EVERYTHING)
    assert "price" in project.run("audit_replay", "--check", code=1)
    project.python("Product.objects.update(price=5)")
    # The database is asked for old values, so the next event of the new rules is true, and replay is right again.
    project.run("audit_replay", "--check")
    assert project.python(EVENTS) == str(
        [
            ("create", "shop.product", ["name"]),
            ("baseline", "shop.product", ["price"]),
            ("update", "shop.product", ["price"]),
            ("update", "shop.product", ["name"]),
            ("update", "shop.product", ["price"]),
        ]
    )
    versions.old(NAMES)
    project.python("Product.objects.update(price=6)")
    versions.old(EVERYTHING)
    project.run("audit_replay", "--check", code=1)
    project.run("audit_baseline", "--repair")
    project.run("audit_replay", "--check")


def test_a_model_that_appears_is_nothing_the_old_version_stumbles_over(versions: Versions) -> None:
    project = versions.project
    project.add_migration(2, MORE)
    versions.new(EVERYTHING, TELLS)
    project.run("migrate", "--verbosity", "0")
    project.python("Supplier.objects.create(name='Acme')")
    versions.old()
    for command in ("check", "audit_rules", "audit_replay", "audit_report", "audit_export"):
        project.run(command)
    assert "shop.supplier" in project.run("audit_report", "--by", "model")
    project.run("audit_history", "shop.supplier", "1")
    # An old worker leaves what it has no rule for to the new ones.
    project.start("-m", "django", "audit_deliver", "--once")
    assert project.python("print([n.status for n in Notification.objects.all()])") == "['pending']"
    versions.new(EVERYTHING, TELLS)
    project.run("audit_deliver", "--once")
    assert project.python("print([(n.status, n.last_error) for n in Notification.objects.all()])") == "[('sent', '')]"
    project.run("audit_replay", "--check")


@in_test_all
def test_a_model_that_goes_keeps_its_events(versions: Versions) -> None:
    project = versions.project
    project.add_migration(2, MORE)
    versions.new()
    project.run("migrate", "--verbosity", "0")
    project.python("Supplier.objects.create(name='Acme'); Product.objects.create(name='Tea')")
    # The next version has the model no more; processes of this one still write it until its table goes.
    versions.old()
    project.run("audit_replay", "--check")
    versions.new()
    project.python("Supplier.objects.update(name='Acme Ltd')")
    versions.old()
    project.add_migration(3, 'migrations.DeleteModel("Supplier"), migrations.RemoveField("Product", "color")')
    project.run("migrate", "--verbosity", "0")
    project.run("audit_replay", "--check")
    assert project.run("audit_export").count('"shop.supplier"') == 2
    assert "Acme Ltd" in project.run("audit_history", "shop.supplier", "1")
    project.run("audit_prune", "--older-than", "1d")
    project.python("AuditEvent.objects.filter(model='shop.supplier').prune()")
    assert "baseline" in project.python(EVENTS)
