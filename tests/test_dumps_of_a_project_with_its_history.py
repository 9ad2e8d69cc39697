"""``dumpdata`` and ``loaddata`` of a project together with its audit log, and loading without recording."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import transaction

from django_signal_audit import audit_context
from django_signal_audit.exceptions import ImmutableEvent
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .app.models import Category, Entry, Pizzeria, Product, Shelf, Tag
from .conftest import Audit, events

pytestmark = pytest.mark.django_db(transaction=True)

# Django cuts the datetimes of a dump to milliseconds.
NOTIFYING = {"name": "all", "model": "app.*", "notify": ["log"], "exclude": ["modified"]}
OPTIONS = {
    "CHANNELS": {"log": {"BACKEND": "django_signal_audit.channels.log.LogChannel"}},
    "DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher",
}


def build() -> None:
    """Make rows with a history."""
    tags = [Tag.objects.create(name=name) for name in "ab"]
    product = Product.objects.create(name="a", price=2, category=Category.objects.create(name="c"))
    product.tags.set(tags)
    product.tags.remove(tags[0])
    Product.objects.update(price=3)
    Category.objects.create(name="gone").delete()
    Pizzeria.objects.create(name="p", stars=3)
    Entry.objects.create(shelf=Shelf.objects.create(code="s"), number=1, text="t")


def left_out() -> list[str]:
    """Return the models that dumpdata fails on, or warns about: other tests define proxies of users in this app."""
    models = apps.get_app_config("app").get_models()
    proxies = [model._meta.label for model in models if model._meta.concrete_model._meta.app_label != "app"]
    return ["app.softdeleted", *proxies]


def dump(path: Path, *labels: str) -> list[dict[str, Any]]:
    """Write a fixture, and return what is in it."""
    out = io.StringIO()
    labels = labels or ("django_signal_audit", "app")
    call_command("dumpdata", *labels, exclude=left_out() if "app" in labels else [], stdout=out)
    path.write_text(out.getvalue())
    found: list[dict[str, Any]] = json.loads(out.getvalue())
    return found


def rows() -> list[dict[str, Any]]:
    """Return all columns of all events."""
    return list(AuditEvent.objects.order_by("id").values())


def messages() -> list[Any]:
    """Return the columns of all notifications that Django itself does not cut to milliseconds."""
    columns = ("id", "event", "rule", "status", "available_at", "message_id", "data")
    return list(Notification.objects.order_by("id").values_list(*columns))


def differences() -> list[Any]:
    return list(Replay(get_registry().plans.values(), "default").differences())


def flush() -> None:
    call_command("flush", verbosity=0, interactive=False)


ORDERS = {
    "as dumpdata writes it": lambda items: items,
    "events first": lambda items: sorted(items, key=lambda item: not item["model"].startswith("django_signal_audit")),
    "events last": lambda items: sorted(items, key=lambda item: item["model"].startswith("django_signal_audit")),
    "notifications, rows, events": lambda items: sorted(
        items,
        key=lambda item: (
            ["django_signal_audit.notification", "django_signal_audit.auditevent"].index(item["model"]) * 2
            if item["model"].startswith("django_signal_audit.")
            else 1
        ),
    ),
    "events in between": lambda items: [
        *[item for item in items if item["model"] < "app.place"],
        *[item for item in items if item["model"].startswith("django_signal_audit")],
        *[item for item in items if "app.place" <= item["model"] < "b"],
    ],
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_dump_restores_as_it_was(audit: Audit, tmp_path: Path, order: str) -> None:
    audit(NOTIFYING, **OPTIONS)
    build()
    path = tmp_path / "dump.json"
    items = dump(path)
    path.write_text(json.dumps(ORDERS[order](items)))
    before, notifications = rows(), messages()
    flush()
    call_command("loaddata", str(path), verbosity=0)
    assert rows() == before
    assert messages() == notifications
    assert differences() == []
    # Life goes on.
    product = Product.objects.get()
    product.price = 4
    product.save()
    assert events()[-1].changes["price"] == ["3.00", "4.00"]
    assert len(events()) == len(before) + 1
    assert differences() == []


def test_rows_without_a_history_in_the_dump_get_a_starting_point(audit: Audit, tmp_path: Path) -> None:
    audit(NOTIFYING, **OPTIONS)
    build()
    path = tmp_path / "dump.json"
    dump(path)
    items = [
        item
        for item in json.loads(path.read_text())
        if item["model"] != "django_signal_audit.auditevent" or item["fields"]["model"] != "app.product"
    ]
    for item in items:
        if item["model"] == "app.category":
            item["fields"]["name"] = "edited by hand"
    path.write_text(json.dumps(items))
    flush()
    call_command("loaddata", str(path), verbosity=0)
    assert differences() == []
    found = {event.model: event for event in events(source="baseline")}
    assert set(found) == {"app.product", "app.category"}
    assert found["app.product"].data == {}
    assert found["app.category"].data["repair"]["fields"] == ["name"]


def test_datetimes_that_django_cut_are_recorded_as_they_are_now(audit: Audit, tmp_path: Path) -> None:
    audit({"name": "all", "model": "app.Product"})
    Product.objects.create(name="a")
    Product.objects.update(modified="2026-01-31T00:00:00.123456Z")
    path = tmp_path / "dump.json"
    dump(path, "app.product", "django_signal_audit.auditevent")
    flush()
    call_command("loaddata", str(path), verbosity=0)
    changes = events(source="baseline")[0].changes
    assert changes == {"modified": ["2026-01-31T00:00:00.123456+00:00", "2026-01-31T00:00:00.123000+00:00"]}
    assert differences() == []


def test_a_fixture_without_events_is_recorded_as_ever(audit: Audit, tmp_path: Path) -> None:
    audit()
    build()
    path = tmp_path / "dump.json"
    dump(path, "app")
    flush()
    call_command("loaddata", str(path), verbosity=0)
    assert {event.event_type for event in events()} == {"create", "m2m"}
    assert {event.context["command"] for event in events()} == {"loaddata"}
    assert differences() == []


def test_events_of_the_same_request_stay(audit: Audit, tmp_path: Path) -> None:
    audit()
    Tag.objects.create(name="dumped")
    path = tmp_path / "dump.json"
    text = json.dumps(dump(path, "django_signal_audit.auditevent", "app.tag"))
    path.write_text(text.replace('"pk": 1', '"pk": 500'))
    flush()
    with audit_context(reason="all of it"):
        Category.objects.create(name="mine")
        call_command("loaddata", str(path), verbosity=0)
        Category.objects.create(name="mine too")
    assert [event.object_repr for event in events(model="app.category")] == ["mine", "mine too"]


def test_an_event_that_is_there_is_not_overwritten(audit: Audit, tmp_path: Path) -> None:
    audit()
    build()
    path = tmp_path / "dump.json"
    dump(path)
    before = rows()
    with pytest.raises(ImmutableEvent):
        call_command("loaddata", str(path), verbosity=0)
    assert rows() == before
    tag = Tag.objects.create(name="recorded again")
    assert events()[-1].object_id == str(tag.pk)


class TestWithoutRecording:
    def load(self, *arguments: str) -> None:
        call_command("audit_loaddata", *arguments, verbosity=0)

    @pytest.mark.parametrize("labels", [["app"], []])
    def test_that_is_an_event(self, audit: Audit, tmp_path: Path, labels: list[str]) -> None:
        audit(NOTIFYING, **OPTIONS)
        build()
        path = tmp_path / "dump.json"
        dump(path, *labels)
        before = [] if labels else rows()
        flush()
        self.load(str(path), "--reason", "restored from the backup of Monday")
        assert Product.objects.count() == 1
        assert rows()[: len(before)] == before
        suspended, resumed = events()[len(before) :]
        assert (suspended.event_type, resumed.event_type) == ("auditing_suspended", "auditing_resumed")
        assert suspended.data == {
            "models": ["*"],
            "reason": "restored from the backup of Monday",
            "fixtures": [str(path)],
        }
        assert (suspended.level, suspended.context["command"]) == ("warning", "audit_loaddata")
        assert Notification.objects.count() == (0 if labels else len(before))

    def test_what_follows_is_recorded(self, audit: Audit, tmp_path: Path) -> None:
        audit()
        Tag.objects.create(name="a")
        path = tmp_path / "dump.json"
        dump(path, "app.tag")
        flush()
        self.load(str(path), "--reason", "test")
        Tag.objects.create(name="b")
        assert events()[-1].event_type == "create"

    def test_a_fixture_that_cannot_be_loaded_leaves_nothing(self, audit: Audit, tmp_path: Path) -> None:
        audit()
        path = tmp_path / "dump.json"
        path.write_text('[{"model": "app.tag", "pk": 1, "fields": {"name": "a"}}, {"model": "app.nothing"}]')
        with pytest.raises(Exception, match="nothing"):
            self.load(str(path), "--reason", "test")
        assert not Tag.objects.exists()
        assert events() == []
        Tag.objects.create(name="b")
        assert len(events()) == 1

    @pytest.mark.parametrize("arguments", [[], ["--reason", " "]])
    def test_a_reason_is_needed(self, audit: Audit, tmp_path: Path, arguments: list[str]) -> None:
        audit()
        path = tmp_path / "dump.json"
        path.write_text("[]")
        with pytest.raises(CommandError, match="reason"):
            self.load(str(path), *arguments)

    def test_it_has_the_options_of_loaddata(self, audit: Audit, tmp_path: Path) -> None:
        audit()
        Tag.objects.create(name="a")
        Category.objects.create(name="b")
        path = tmp_path / "dump.json"
        dump(path, "app.tag", "app.category")
        flush()
        self.load(str(path), "--exclude", "app.tag", "--reason", "test")
        assert (Tag.objects.count(), Category.objects.count()) == (0, 1)

    def test_without_any_rules(self, settings: Any, tmp_path: Path) -> None:
        settings.SIGNAL_AUDIT = {}
        path = tmp_path / "dump.json"
        path.write_text('[{"model": "app.tag", "pk": 1, "fields": {"name": "a"}}]')
        self.load(str(path), "--reason", "test")
        assert Tag.objects.count() == 1


def test_a_hand_written_fixture_of_an_event(audit: Audit, tmp_path: Path) -> None:
    audit()
    path = tmp_path / "dump.json"
    fields = {"event_type": "login", "source": "signal", "recorded_at": "2026-01-01T00:00:00Z"}
    path.write_text(json.dumps([{"model": "django_signal_audit.auditevent", "pk": 5, "fields": fields}]))
    with transaction.atomic():
        call_command("loaddata", str(path), verbosity=0)
    assert [(event.pk, event.event_type) for event in events()] == [(5, "login")]
