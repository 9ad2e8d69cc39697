"""What a rule for everything leaves out: queues, histories and other tables that machines write."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import models
from django_tasks_db.models import DBTaskResult

from django_signal_audit.conf import DEFAULT_EXCLUDE_MODELS
from django_signal_audit.rules.patterns import is_history, means, resolve

from .app.models import Tag
from .conftest import Audit, events

pytestmark = pytest.mark.django_db

EVERYTHING = {"name": "everything", "model": "*"}


@pytest.fixture
def make_model() -> Iterator[Any]:
    """Define models of other packages, by their labels."""
    made: list[type[models.Model]] = []

    def make(label: str, bases: tuple[type, ...] = (models.Model,), **attributes: Any) -> type[models.Model]:
        app_label, name = label.split(".")
        meta = type("Meta", (), {"app_label": app_label})
        model = type(name, bases, {"__module__": __name__, "Meta": meta, **attributes})
        made.append(model)
        return model

    yield make
    for model in made:
        del apps.all_models[model._meta.app_label][model._meta.model_name]
    apps.clear_cache()


def is_left_out(model: type[models.Model]) -> bool:
    return model not in resolve("*")


def enqueue() -> DBTaskResult:
    return DBTaskResult.objects.create(
        args_kwargs={"args": ["hunter2"], "kwargs": {}}, task_path="a.b", backend_name="default", priority=0
    )


def test_tasks_and_their_arguments_are_not_recorded(audit: Audit) -> None:
    audit(EVERYTHING)
    result = enqueue()
    result.delete()
    assert events() == []


def test_no_setting_brings_the_tables_of_queues_back(audit: Audit) -> None:
    audit(EVERYTHING, EXCLUDE_MODELS=[])
    enqueue()
    assert events() == []


def test_a_rule_that_names_them_audits_them(audit: Audit) -> None:
    audit({"name": "tasks", "model": "django_tasks_database.DBTaskResult", "exclude": ["args_kwargs"]})
    enqueue()
    assert [event.event_type for event in events()] == ["create"]


def test_the_permissions_that_migrate_makes_are_not_recorded(audit: Audit) -> None:
    audit(EVERYTHING)
    Permission.objects.all().delete()
    create_permissions(apps.get_app_config("app"), verbosity=0)
    assert Permission.objects.exists()
    assert events() == []


def test_what_a_project_writes_itself_is_recorded(audit: Audit) -> None:
    audit(EVERYTHING)
    Tag.objects.create(name="a")
    assert [event.model for event in events()] == ["app.tag"]


@pytest.mark.parametrize("table", ["sessions.session", "admin.logentry", "auth.permission", "silk.*", "axes.*"])
def test_tables_are_left_out_by_default(table: str) -> None:
    assert table in DEFAULT_EXCLUDE_MODELS


def test_histories_that_other_packages_keep_beside_a_model_are_left_out(make_model: Any) -> None:
    descriptor = type("HistoricalObjectDescriptor", (), {"__module__": "simple_history.models"})()
    historical = make_model("app.HistoricalThing", history_object=descriptor)
    mixin = type("Event", (), {"__module__": "pghistory.models"})
    event = make_model("app.ThingEvent", (mixin, models.Model))
    ordinary = make_model("app.ThingHistory", history_object=models.CharField(max_length=5))
    assert is_history(historical)
    assert is_history(event)
    assert not is_history(ordinary)
    assert is_left_out(historical)
    assert is_left_out(event)
    assert not is_left_out(ordinary)
    # The app of the model is no name of the table beside it.
    assert ordinary in resolve("app.*")
    assert historical not in resolve("app.*")
    assert event not in resolve("app.*")
    assert [means(["app.*"], model) for model in (ordinary, historical, event)] == [True, False, False]
    # A rule that names one audits it.
    assert resolve("app.ThingEvent") == [event]
    assert means(["app.thingevent"], event)


def test_explain_says_that_a_wildcard_leaves_out_history_tables(audit: Audit, make_model: Any) -> None:
    make_model("app.ThingEvent", (type("Event", (), {"__module__": "pghistory.models"}), models.Model))
    audit({"name": "app", "model": "app.*"}, {"name": "tags", "model": "app.Tag"})
    out = io.StringIO()
    call_command("audit_rules", "--explain", "app.ThingEvent", "create", "--format", "json", stdout=out)
    assert [(rule["rule"], rule["matches"], rule["why"]) for rule in json.loads(out.getvalue())["rules"]] == [
        ("app", False, "a history table of another package"),
        ("tags", False, "it audits other models"),
    ]


def test_check_has_nothing_to_say_of_packages_that_are_not_installed(audit: Audit) -> None:
    audit(EVERYTHING, EXCLUDE_MODELS=list(DEFAULT_EXCLUDE_MODELS))
    call_command("check", tags=["signals"], fail_level="ERROR")
