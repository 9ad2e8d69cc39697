"""``audit_export``: every event of a range, in formats that others read."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import re
import stat
import sys
import tracemalloc
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from django_signal_audit import audit_context, record
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.exports.base import ExportFormat
from django_signal_audit.reports.exports.ocsf import VERSION

from .app.models import Category, Product, Tag
from .conftest import Audit, events, last
from .samples import HOSTILE, NOON, make_event

pytestmark = pytest.mark.django_db


def export(*arguments: str, **options: Any) -> str:
    """Return what ``audit_export`` prints."""
    out = io.StringIO()
    call_command("audit_export", *arguments, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


def exported(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export(*arguments).splitlines()]


class TestWhatIsExported:
    def test_every_column_oldest_first(self) -> None:
        second = make_event(changes={"name": ["Zoë", HOSTILE]}, context={"reason": "r"})
        first = make_event(recorded_at=NOON - dt.timedelta(days=1), data={"a": 1}, rules=["r"])
        found = exported()
        assert [item["uid"] for item in found] == [str(first.uid), str(second.uid)]
        assert found[1] == {
            **{field.attname: getattr(second, field.attname) for field in AuditEvent._meta.concrete_fields},
            "uid": str(second.uid),
            "recorded_at": "2026-03-10T12:00:00+00:00",
        }
        assert export().isascii()

    def test_filters_narrow_what_is_exported(self) -> None:
        make_event(actor_id="7", actor_repr="root", rules=["r"], level="warning")
        make_event(model="auth.group", object_id="8", event_type="delete", recorded_at=NOON + dt.timedelta(days=9))
        for arguments in [
            ("--model", "auth.User"),
            ("--object", "3"),
            ("--event", "update"),
            ("--actor", "root"),
            ("--rule", "r"),
            ("--level", "warning"),
            ("--until", "2026-03-11"),
        ]:
            assert [item["object_id"] for item in exported(*arguments)] == ["3"], arguments
        assert [item["object_id"] for item in exported("--since", "2026-03-11", "--model", "auth.group")] == ["8"]

    def test_many_of_one_moment(self, monkeypatch: Any) -> None:
        monkeypatch.setattr("django_signal_audit.management.commands.audit_export.PAGE", 3)
        uids = [str(make_event().uid) for _ in range(10)]
        assert [item["uid"] for item in exported()] == uids

    def test_what_is_written_meanwhile_is_not_run_after(self) -> None:
        make_event()
        make_event(recorded_at=timezone.now() + dt.timedelta(hours=1))
        assert len(exported()) == 1
        assert len(exported("--until", "2100-01-01", "--event", "update")) == 1

    @pytest.mark.django_db(databases=["default", "other"])
    def test_events_of_another_database_are_exported(self) -> None:
        make_event()
        assert exported("--database", "other") == []
        assert len(exported("--database", "other")) == 1
        assert AuditEvent.objects.using("other").count() == 2

    def test_memory_is_constant(self, monkeypatch: Any) -> None:
        monkeypatch.setattr("django_signal_audit.management.commands.audit_export.PAGE", 50)

        def peak(count: int) -> int:
            AuditEvent.objects.bulk_create(
                AuditEvent(event_type="x", source="manual", data={"text": "y" * 2000}, recorded_at=NOON)
                for _ in range(count)
            )
            export("--event", "x", "--output", "/dev/null")
            tracemalloc.start()
            export("--event", "x", "--output", "/dev/null")
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return found

        assert peak(1900) < 1.5 * peak(100) + 100_000


class TestItself:
    def test_an_export_is_an_event(self, tmp_path: Path) -> None:
        make_event()
        path = tmp_path / "events.jsonl"
        export("--model", "auth.User", "--since", "2026-01-01", "--format", "ocsf", "--output", str(path))
        event = last()
        assert (event.event_type, event.source, event.context) == (
            "events_exported",
            "manual",
            {"command": "audit_export"},
        )
        named = event.data["filter"]
        assert dt.datetime.fromisoformat(named.pop("until")) <= event.recorded_at
        assert event.data == {
            "format": "ocsf",
            "output": str(path),
            "filter": {"model": "auth.user", "since": "2025-12-31T23:00:00+00:00"},
        }

    def test_one_that_breaks_off_is_one(self) -> None:
        class Closed(io.StringIO):
            def write(self, text: str) -> int:
                msg = "no more"
                raise ValueError(msg)

        make_event()
        with pytest.raises(ValueError, match="no more"):
            call_command("audit_export", stdout=Closed())
        assert last().event_type == "events_exported"

    @pytest.mark.parametrize("on_error", ["raise", "log"])
    def test_what_cannot_be_told_does_not_happen(self, audit: Audit, monkeypatch: Any, on_error: str) -> None:
        audit(ON_ERROR=on_error)
        make_event()
        monkeypatch.setattr("django_signal_audit.recorder.insert_row", lambda *_: 1 / 0)
        out = io.StringIO()
        with pytest.raises(CommandError, match=r"The export is incomplete: .*could not be recorded"):
            call_command("audit_export", stdout=out)
        assert out.getvalue() == ""


class TestWhereTo:
    @pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
    def test_a_file_for_its_owner_alone(self, tmp_path: Path, name: str) -> None:
        uid = str(make_event().uid)
        path = tmp_path / name
        assert export("--output", str(path)) == f"1 event written to {path}\n"
        data = path.read_bytes()
        assert json.loads(gzip.decompress(data) if name.endswith(".gz") else data)["uid"] == uid
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_progress_is_shown_on_a_terminal_only(self, monkeypatch: Any, tmp_path: Path) -> None:
        make_event()
        for is_terminal in (False, True):
            stderr = io.StringIO()
            monkeypatch.setattr(stderr, "isatty", lambda shown=is_terminal: shown, raising=False)
            monkeypatch.setattr(sys, "stderr", stderr)
            export("--event", "update", "--output", str(tmp_path / "x"))
            assert ("1/1" in stderr.getvalue()) is is_terminal

    def test_a_reader_that_has_seen_enough_is_no_error(self, monkeypatch: Any, tmp_path: Path) -> None:
        class Closed(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

        make_event()
        with (tmp_path / "stdout").open("w") as stdout:
            monkeypatch.setattr("sys.stdout", stdout)
            call_command("audit_export", stdout=Closed())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--format", "oscf"), r"There is no export format 'oscf'. Did you mean 'ocsf'\?"),
            (("--model", "auth.usr"), r"There is no model 'auth.usr'. Did you mean 'auth.user'\?"),
            (("--database", "dfault"), r"There is no database 'dfault'. Did you mean 'default'\?"),
            (("--since", "soon"), r"'soon' isn't a valid date."),
            (("--output", "/nowhere/x"), r"Cannot write '/nowhere/x': No such file or directory."),
        ],
    )
    def test_mistakes_are_one_line(self, arguments: tuple[str, ...], message: str) -> None:
        with pytest.raises(CommandError, match=message) as caught:
            export(*arguments)
        assert "\n" not in str(caught.value)
        assert caught.value.returncode == 1


class CommaFormat(ExportFormat):
    def write(self, events: Iterable[AuditEvent], stream: TextIO) -> None:
        stream.write(",".join(event.event_type for event in events))


def test_a_format_of_a_project(audit: Audit) -> None:
    audit(EXPORT_FORMATS={"commas": "tests.test_export_command.CommaFormat"})
    make_event()
    make_event(event_type="create")
    assert export("--format", "commas") == "update,create"


@pytest.fixture
def life(audit: Audit) -> None:
    """Make events of every kind."""
    audit(
        {"name": "all", "model": "app.*", "level": "warning"},
        {"name": "people", "events": ["login", "logout", "login_failed", "request"]},
    )
    user = User.objects.create_user("ada", password="x")
    with audit_context(actor=user, reason="spring"):
        product = Product.objects.create(name=HOSTILE, price=3, api_token="secret", attributes={"a": [1]})
        product.price = 2
        product.save()
        product.tags.add(Tag.objects.create(name="t"))
        Product.objects.all().delete()
        record("counted", Category.objects.create(name="c"), data={"items": 3})
    record("nightly", level="critical")
    client = Client()
    client.post("/nowhere", headers={"User-Agent": "Browser/1"}, REMOTE_ADDR="2001:db8::1")
    client.login(username="ada", password="x")
    client.login(username="eve", password="y")
    client.logout()
    make_event(object_id="", object_repr="", context={"request": {"method": "purge", "path": "/a"}}, event_type="login")
    make_event(event_type="request", data={"method": "PURGE"}, source="signal", model="", object_id="")
    make_event(event_type="baseline", source="baseline", changes={"a": [None, "1"]})


@cache
def schema() -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema(VERSION))


@cache
def validator(class_uid: int) -> Draft202012Validator:
    named = schema().get_class_schema(schema().lookup_class_name_from_uid(class_uid))
    return Draft202012Validator(named, format_checker=Draft202012Validator.FORMAT_CHECKER)


@pytest.mark.usefixtures("life")
class TestOcsf:
    def test_it_is_valid_by_the_published_schema(self) -> None:
        found = exported("--format", "ocsf")
        assert {item["class_uid"] for item in found} == {0, 3002, 3004, 6003}
        for item in found:
            errors = [f"{error.json_path}: {error.message}" for error in validator(item["class_uid"]).iter_errors(item)]
            assert not errors, (item, errors)
            assert item["type_uid"] == item["class_uid"] * 100 + item["activity_id"]
            assert item["category_uid"] == item["class_uid"] // 1000

    def test_the_schema_finds_mistakes(self) -> None:
        item = exported("--format", "ocsf", "--event", "create")[0]
        for wrong in ({"activity_id": 77}, {"severity_id": "1"}, {"entity": {}}, {"surprise": 1}):
            assert list(validator(3004).iter_errors({**item, **wrong})), wrong

    def test_a_change_of_a_row(self) -> None:
        (item,) = exported("--format", "ocsf", "--event", "update", "--model", "app.Product")
        (event,) = events(event_type="update", model="app.product")
        assert item["activity_id"] == 3
        assert item["severity_id"] == 3
        assert item["time"] == int(event.recorded_at.timestamp() * 1000)
        assert item["comment"] == "spring"
        assert item["actor"] == {"user": {"uid": event.actor_id, "name": "ada"}}
        assert item["entity"]["data"]["price"] == "3.00"
        assert item["entity_result"]["data"]["price"] == "2.00"
        assert item["entity"]["name"] == event.object_repr
        assert item["metadata"]["uid"] == str(event.uid)
        assert item["metadata"]["correlation_uid"] == event.correlation_id
        (item,) = exported("--format", "ocsf", "--event", "delete")
        assert item["activity_id"] == 4
        assert "entity_result" not in item

    def test_people_and_requests(self) -> None:
        failed = exported("--format", "ocsf", "--event", "login_failed")
        assert [(item["activity_id"], item["status_id"], item["user"]) for item in failed] == [(1, 2, {"name": "eve"})]
        request = exported("--format", "ocsf", "--event", "request")[-1]
        assert request["status_id"] == 2
        assert request["activity_id"] == 1
        assert request["src_endpoint"] == {"ip": "2001:db8::1"}
        assert request["http_request"] == {
            "http_method": "POST",
            "user_agent": "Browser/1",
            "url": {"path": "/nowhere"},
        }


@pytest.mark.usefixtures("life")
def test_cloudevents_are_as_the_specification_says() -> None:
    """By the text of CloudEvents 1.0.2: its attributes, their names and their types."""
    found = exported("--format", "cloudevents")
    assert len({(item["source"], item["id"]) for item in found}) == len(found)
    for item in found:
        assert {"id", "source", "specversion", "type"} <= item.keys()
        assert item["specversion"] == "1.0"
        assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in item)
        assert all(isinstance(value, str) and value for name, value in item.items() if name != "data")
        assert dt.datetime.fromisoformat(item["time"]).utcoffset() == dt.timedelta()
        assert urlsplit(item["source"]).scheme
        assert item["data"]["uid"] == item["id"]
    (update,) = [item for item in found if item["type"].endswith("app.product.update")]
    assert update["type"] == "django_signal_audit.app.product.update"
    assert update["subject"] == f"app.product/{update['data']['object_id']}"
    assert "ada" not in json.dumps({**update, "data": None, "id": ""})  # an id may hold it by chance


@pytest.mark.skipif(connection.vendor != "sqlite", reason="servers read so small a table whole")
def test_a_page_is_a_part_of_the_index() -> None:
    """Each page is a walk along the index by time, without a sort, however many events share one moment."""
    for _ in range(5):
        make_event()
    with CaptureQueriesContext(connection) as context:
        assert len(list(AuditEvent.objects.in_pages(2))) == 3
    for query in context.captured_queries:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
            plan = " ".join(row[-1] for row in cursor.fetchall())
        assert "USING INDEX dsa_event_recorded_at" in plan
        assert "TEMP B-TREE" not in plan
        assert "MULTI-INDEX" not in plan
