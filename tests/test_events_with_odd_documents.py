"""Events whose JSON columns hold what this package never writes, as SQL can: one of them stops nothing."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from django_signal_audit.evidence.sealing import Sealer
from django_signal_audit.models import AuditEvent, AuditLeaf

from .app.models import Tag
from .conftest import Audit, last

pytestmark = pytest.mark.django_db(transaction=True)

ODD = [
    *(("changes", value) for value in ([], 1, "x", None, {"name": None}, {"name": []}, {"name": [1, 2, 3]})),
    *(("changes", value) for value in ({"name": {"added": None}}, {"name": {"added": [[]], "removed": [{}]}})),
    *(("context", value) for value in ([], 1, "x", None, {"request": 1}, {"impersonator": [1]}, {"reason": {}})),
    *(("data", value) for value in ([], 1, "x", None, {"credentials": "x"})),
    *(("rules", value) for value in ({}, 1, "x", None, [1], [True], [[]])),
]


@pytest.fixture
def tag(audit: Audit) -> Tag:
    audit({"name": "tags", "model": "app.Tag", "personal": ["name"]})
    return Tag.objects.create(name="before")


def overwrite(column: str, value: object) -> AuditEvent:
    """Have SQL write another value into the last event, and record one more after it."""
    event = last()
    with connection.cursor() as cursor:
        table = AuditEvent._meta.db_table
        cursor.execute(f"UPDATE {table} SET {column} = %s WHERE id = %s", [json.dumps(value), event.pk])
    Tag.objects.create(name="another")
    return event


def run(*arguments: str) -> str:
    out = io.StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=out)
    except (CommandError, SystemExit) as error:
        out.write(str(error))
    return out.getvalue()


@pytest.mark.parametrize(("column", "value"), ODD)
def test_histories_reports_and_exports_have_them(tag: Tag, column: str, value: Any) -> None:
    overwrite(column, value)
    assert "create" in run("audit_history", "app.Tag", str(tag.pk))
    assert "2" in run("audit_report", "--by", "model")
    for name in ("jsonl", "ocsf", "cloudevents"):
        count = AuditEvent.objects.count()
        assert len(run("audit_export", "--format", name).splitlines()) == count
    stored = [line["unmapped"] for line in map(json.loads, run("audit_export", "--format", "ocsf").splitlines())]
    assert column == "changes" or value in [line[column] for line in stored]


@pytest.mark.parametrize("kind", ["login_failed", "request"])
def test_exports_of_events_about_no_object(audit: Audit, kind: str) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    Tag.objects.create(name="a")
    with connection.cursor() as cursor:
        table = AuditEvent._meta.db_table
        cursor.execute(f"UPDATE {table} SET event_type = %s, model = %s, data = %s", [kind, "", '{"credentials": [1]}'])
    assert json.loads(run("audit_export", "--format", "ocsf").splitlines()[0])["activity_name"] == kind


@pytest.mark.parametrize(("column", "value"), ODD)
def test_they_are_sealed_as_they_are_and_proved(tag: Tag, column: str, value: Any) -> None:
    event = overwrite(column, value)
    Sealer("default").run()
    assert AuditLeaf.objects.count() == AuditEvent.objects.count()
    found = run("audit_verify")
    assert "isn't what was sealed" not in found
    assert json.loads(run("audit_prove", str(event.uid)))["leaf"]


def test_a_change_of_their_shape_after_the_sealing_is_found(tag: Tag) -> None:
    Sealer("default").run()
    event = overwrite("rules", "tags")
    assert f"Event {event.pk} isn't what was sealed" in run("audit_verify")


def test_one_letter_is_not_the_list_of_it(audit: Audit) -> None:
    audit({"name": "t", "model": "app.Tag"})
    Tag.objects.create(name="a")
    Sealer("default").run()
    event = overwrite("rules", "t")
    assert f"Event {event.pk} isn't what was sealed" in run("audit_verify")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the servers refuse such a text in JSON")
def test_a_lone_surrogate_is_sealed_as_sql_wrote_it_and_its_edit_is_named(tag: Tag) -> None:
    event = overwrite("changes", {"name": [None, "\ud800"]})
    Sealer("default").run()
    assert AuditLeaf.objects.count() == AuditEvent.objects.count()
    assert "0 differences" in run("audit_verify")
    with connection.cursor() as cursor:
        changes = json.dumps({"name": [None, "\ud801"]})
        cursor.execute(f"UPDATE {AuditEvent._meta.db_table} SET changes = %s WHERE id = %s", [changes, event.pk])
    assert f"Event {event.pk} isn't what was sealed" in run("audit_verify")


@pytest.mark.parametrize(("column", "value"), ODD)
def test_personal_data_is_erased_beside_them(tag: Tag, admin_client: Client, column: str, value: Any) -> None:
    overwrite(column, value)
    page = f"/admin/django_signal_audit/auditevent/history/app.tag/{tag.pk}/erase/"
    assert admin_client.get(page).status_code == 200
    assert "Error" not in run("audit_erase", "--subject", "app.Tag", str(tag.pk))
    assert "before" not in json.dumps(list(AuditEvent.objects.values("changes", "object_repr")), default=str)
