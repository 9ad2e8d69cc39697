"""Events cannot be changed through the ORM, by whichever manager, save, fixture or model; pruning says what it took."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core import serializers
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat
from django.test import TestCase

from django_signal_audit.capture.connection import reconnect
from django_signal_audit.events.keys import new_uid
from django_signal_audit.exceptions import EventNotWritten, ImmutableEvent
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.testing import capture_events

from .app.models import Category
from .conftest import Audit, events, run_async
from .samples import make_event


def historical() -> Any:
    """Return the model as data migrations see it."""
    state = ProjectState()
    state.add_model(ModelState.from_model(AuditEvent))
    return state.apps.get_model("django_signal_audit", "AuditEvent")


def proxy() -> Any:
    """Return a proxy whose manager knows nothing of ours."""
    meta = type("Meta", (), {"proxy": True, "app_label": "app", "apps": ProjectState().apps})
    members = {"Meta": meta, "__module__": __name__, "objects": models.Manager()}
    return type("ProxyEvent", (AuditEvent,), members)


def spelled(table: str) -> Any:
    """Return a model of the same table by another spelling of its name."""
    meta = type("Meta", (), {"managed": False, "db_table": table, "app_label": "app", "apps": ProjectState().apps})
    fields = {"event_type": models.CharField(max_length=100), "uid": models.UUIDField()}
    return type("SpelledEvent", (models.Model,), {"Meta": meta, "__module__": __name__, **fields})


_SCHEMAS = {
    "postgresql": '"public"."django_signal_audit_auditevent"',
    "sqlite": '"main"."django_signal_audit_auditevent"',
    "mysql": "`django_signal_audit_auditevent`",
}
IN_ITS_SCHEMA = _SCHEMAS[connection.vendor]
# Of these, SQLite alone knows tables by their names in any case.
CAPITALS = "DJANGO_SIGNAL_AUDIT_AUDITEVENT" if connection.vendor == "sqlite" else IN_ITS_SCHEMA


def unknown_save(event: AuditEvent) -> AuditEvent:
    return AuditEvent(pk=event.pk, uid=event.uid, event_type="forged", source="orm", recorded_at=event.recorded_at)


def loaded(event: AuditEvent) -> None:
    text = serializers.serialize("json", [event]).replace("genuine", "forged")
    for item in serializers.deserialize("json", text):
        item.save()


def plain_bulk_create(event: AuditEvent, manager: Any = None, **options: Any) -> None:
    event.event_type = "forged"
    if connection.features.supports_update_conflicts_with_target:
        options["unique_fields"] = ["id"]
    (manager or QuerySet(AuditEvent)).bulk_create(
        [event], update_conflicts=True, update_fields=["event_type"], **options
    )


ATTACKS: dict[str, Callable[[AuditEvent], Any]] = {
    "base manager update": lambda event: AuditEvent._base_manager.update(event_type="forged"),
    "base manager update of one": lambda event: AuditEvent._base_manager.filter(pk=event.pk).update(level="critical"),
    "base manager delete": lambda event: AuditEvent._base_manager.all().delete(),
    "base manager bulk_update": lambda event: AuditEvent._base_manager.bulk_update([event], ["event_type"]),
    "base manager upsert": lambda event: plain_bulk_create(event, AuditEvent._base_manager),
    "base manager update_or_create": lambda event: AuditEvent._base_manager.update_or_create(
        pk=event.pk, defaults={"event_type": "forged"}
    ),
    "plain queryset update": lambda event: QuerySet(AuditEvent).update(event_type="forged"),
    "plain queryset update by another column": lambda event: (
        QuerySet(AuditEvent).filter(event_type="genuine").update(event_type="forged")
    ),
    "plain queryset delete": lambda event: QuerySet(AuditEvent).delete(),
    "plain queryset _update": lambda event: QuerySet(AuditEvent)._update([]) or QuerySet(AuditEvent).update(level="x"),
    "plain queryset upsert": plain_bulk_create,
    "raw delete": lambda event: QuerySet(AuditEvent)._raw_delete("default"),
    "raw delete of our own queryset": lambda event: AuditEvent.objects.all()._raw_delete("default"),
    "update with an expression": lambda event: QuerySet(AuditEvent).update(event_type=Concat(F("level"), Value("x"))),
    "update under a lock": lambda event: QuerySet(AuditEvent).select_for_update().update(event_type="forged"),
    "our own queryset under a lock": lambda event: AuditEvent.objects.select_for_update().update(event_type="forged"),
    "save_base": lambda event: (setattr(event, "event_type", "forged"), event.save_base()),
    "raw save_base": lambda event: (setattr(event, "event_type", "forged"), event.save_base(raw=True)),
    "save of a plain model's method": lambda event: (
        setattr(event, "event_type", "forged"),
        models.Model.save(event),
    ),
    "save with update_fields": lambda event: models.Model.save(event, update_fields=["event_type"]),
    "delete of a plain model's method": lambda event: models.Model.delete(event),
    "raw save of a copy": lambda event: unknown_save(event).save_base(raw=True),
    "fixture": loaded,
    "proxy update": lambda event: proxy().objects.update(event_type="forged"),
    "proxy delete": lambda event: proxy().objects.all().delete(),
    "historical update": lambda event: historical().objects.update(event_type="forged"),
    "historical delete": lambda event: historical().objects.all().delete(),
    "historical save": lambda event: historical()(pk=event.pk, uid=event.uid, event_type="forged").save(),
    "historical instance": lambda event: historical().objects.get(pk=event.pk).delete(),
    "another model of the table, by its schema": lambda event: spelled(IN_ITS_SCHEMA)._default_manager.update(
        event_type="forged"
    ),
    "deletion through another model of the table": lambda event: spelled(IN_ITS_SCHEMA)._default_manager.all().delete(),
    "another model of the table, in capitals": lambda event: spelled(CAPITALS)._default_manager.update(
        event_type="forged"
    ),
    "historical upsert": lambda event: plain_bulk_create(
        historical().objects.get(pk=event.pk), historical()._base_manager
    ),
}


@pytest.mark.django_db
@pytest.mark.parametrize("rules", [True, False])
@pytest.mark.parametrize("name", ATTACKS)
def test_whatever_would_change_or_delete_an_event_is_refused(
    audit: Audit, settings: Any, name: str, rules: bool
) -> None:
    if rules:
        audit()
    else:
        settings.SIGNAL_AUDIT = {}
    event = make_event(event_type="genuine")
    with pytest.raises(ImmutableEvent), transaction.atomic():
        ATTACKS[name](AuditEvent.objects.get())
    found = AuditEvent.objects.get()
    assert (found.pk, found.event_type, found.level) == (event.pk, "genuine", "info")


@pytest.mark.django_db(transaction=True)
def test_the_asynchronous_methods_are_refused_too() -> None:
    make_event(event_type="genuine")

    async def attack() -> None:
        event = await AuditEvent._base_manager.aget()
        event.event_type = "forged"
        for work in (
            lambda: AuditEvent._base_manager.aupdate(event_type="forged"),
            lambda: AuditEvent._base_manager.all().adelete(),
            lambda: AuditEvent._base_manager.abulk_update([event], ["event_type"]),
            lambda: models.Model.asave(event),
            lambda: models.Model.adelete(event),
        ):
            with pytest.raises(ImmutableEvent):
                await work()

    run_async(attack())
    assert AuditEvent.objects.get().event_type == "genuine"


@pytest.mark.django_db
@pytest.mark.parametrize("mode", ["disabled", "not captured"])
def test_it_does_not_depend_on_the_rules_in_force(settings: Any, mode: str) -> None:
    settings.SIGNAL_AUDIT = {"ENABLED": False} if mode == "disabled" else {"CAPTURE_QUERIES": False}
    make_event(event_type="genuine")
    for attack in (ATTACKS["base manager update"], ATTACKS["raw delete"]):
        with pytest.raises(ImmutableEvent), transaction.atomic():
            attack(AuditEvent.objects.get())


@pytest.mark.django_db
class TestInserts:
    def test_a_raw_save_of_an_unknown_id_inserts(self) -> None:
        event = AuditEvent(pk=77, event_type="x", source="orm", recorded_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        event.save_base(raw=True)
        assert AuditEvent.objects.get().pk == 77

    def test_a_fixture_of_unknown_events_is_loaded(self, tmp_path: Path) -> None:
        event = make_event(event_type="genuine")
        path = tmp_path / "events.json"
        path.write_text(serializers.serialize("json", [event]))
        AuditEvent.objects.all().prune()
        call_command("loaddata", str(path), verbosity=0)
        found = AuditEvent.objects.get(event_type="genuine")
        assert (found.pk, found.uid, found.recorded_at) == (event.pk, event.uid, event.recorded_at)
        with pytest.raises(ImmutableEvent), transaction.atomic():
            call_command("loaddata", str(path), verbosity=0)

    def test_inserts_that_ignore_what_is_there(self) -> None:
        event = make_event(event_type="genuine")
        forged = unknown_save(event)
        other = AuditEvent(event_type="new", source="orm", uid=new_uid())
        AuditEvent._base_manager.bulk_create([forged, other], ignore_conflicts=True)
        assert sorted(AuditEvent.objects.values_list("event_type", flat=True)) == ["genuine", "new"]

    def test_an_insert_never_overwrites(self) -> None:
        event = make_event()
        with pytest.raises(IntegrityError), transaction.atomic():
            models.Model.save(unknown_save(event), force_insert=True)


@pytest.fixture
def bookmarks(transactional_db: None) -> Iterator[type[models.Model]]:
    """Add a model to the project that refers to events by a foreign key."""

    class Bookmark(models.Model):
        event = models.ForeignKey(AuditEvent, models.CASCADE)

        class Meta:
            app_label = "app"

    with connection.schema_editor() as editor:
        editor.create_model(Bookmark)
    yield Bookmark
    with connection.schema_editor() as editor:
        editor.delete_model(Bookmark)
    del apps.all_models["app"]["bookmark"]
    del AuditEvent.bookmark_set
    apps.clear_cache()
    get_registry.cache_clear()
    reconnect()


def test_rows_that_refer_to_events(audit: Audit, bookmarks: Any) -> None:
    audit()
    bookmarks.objects.create(event=make_event()).delete()
    assert AuditEvent.objects.filter(model="auth.user").count() == 1
    bookmarks.objects.create(event=make_event())
    with pytest.raises(ImmutableEvent), transaction.atomic():
        models.Model.delete(AuditEvent.objects.filter(model="auth.user").latest("id"))
    assert bookmarks.objects.count() == 1
    assert AuditEvent.objects.filter(model="auth.user").prune() == 2
    assert not bookmarks.objects.exists()
    assert len(events(model="app.bookmark", event_type="delete")) == 2


class TestTestCasesClean(TestCase):
    """Django's own test cases undo what they wrote."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.event = make_event()

    def test_a_test_case_begins_clean(self) -> None:
        assert AuditEvent.objects.count() == 1
        make_event()

    def test_the_next_test_case_begins_clean(self) -> None:
        assert AuditEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_database_can_be_flushed(audit: Audit) -> None:
    audit()
    Category.objects.create(name="a")
    call_command("flush", verbosity=0, interactive=False)
    assert not AuditEvent.objects.exists()


@pytest.mark.django_db
class TestPruning:
    def test_it_says_what_it_took(self, audit: Audit) -> None:
        audit()
        first = make_event(recorded_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        make_event(model="app.tag", recorded_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
        last = make_event(model="", recorded_at=dt.datetime(2026, 1, 3, tzinfo=dt.UTC))
        kept = make_event(event_type="delete")
        assert AuditEvent.objects.of_type("update").prune() == 3
        event = AuditEvent.objects.exclude(pk=kept.pk).get()
        assert (event.event_type, event.source) == ("events_pruned", "manual")
        assert event.data == {
            "count": 3,
            "first": first.recorded_at.isoformat(),
            "last": last.recorded_at.isoformat(),
            "models": {"auth.user": 1, "app.tag": 1},
        }

    def test_nothing_to_prune_is_no_event(self) -> None:
        assert AuditEvent.objects.all().prune() == 0
        assert AuditEvent.objects.filter(model="nowhere").prune() == 0
        assert not AuditEvent.objects.exists()

    def test_it_is_undone_with_its_event(self) -> None:
        make_event()

        class Failure(Exception):
            pass

        def fail() -> None:
            with transaction.atomic():
                AuditEvent.objects.all().prune()
                raise Failure

        with pytest.raises(Failure):
            fail()
        assert [event.event_type for event in events()] == ["update"]

    @pytest.mark.parametrize("on_error", ["raise", "log"])
    def test_what_cannot_be_recorded_does_not_happen(self, audit: Audit, monkeypatch: Any, on_error: str) -> None:
        audit(ON_ERROR=on_error)
        make_event()
        monkeypatch.setattr("django_signal_audit.recorder.insert_row", lambda *_: 1 / 0)
        with pytest.raises(EventNotWritten), transaction.atomic():
            AuditEvent.objects.all().prune()
        assert [event.event_type for event in events()] == ["update"]

    def test_a_part_of_a_queryset_is_refused(self) -> None:
        make_event()
        with pytest.raises(TypeError, match="prune"):
            AuditEvent.objects.all()[:1].prune()
        assert AuditEvent.objects.count() == 1

    def test_finished_notifications_go_along_and_others_stay(self) -> None:
        event, kept = make_event(), make_event(event_type="delete")
        for status, _label in Notification.STATUS:
            for one in (event, kept):
                Notification.objects.create(event=one.uid, rule="r", channel="inbox", status=status, data={"body": "b"})
        AuditEvent.objects.of_type("update").prune()
        left = Notification.objects.filter(event=event.uid).values_list("status", flat=True)
        assert sorted(left) == ["claimed", "failed", "pending"]
        assert Notification.objects.filter(event=kept.uid).count() == 6

    def test_a_message_about_several_goes_with_the_last_of_them(self) -> None:
        uids = [str(make_event(object_id=str(number)).uid) for number in range(2)]
        Notification.objects.create(rule="r", channel="inbox", status="sent", data={"events": uids, "body": "b"})
        AuditEvent.objects.filter(object_id="0").prune()
        assert Notification.objects.count() == 1
        AuditEvent.objects.filter(object_id="1").prune()
        assert not Notification.objects.exists()

    def test_whoever_wants_to_know_is_notified(self, audit: Audit) -> None:
        channels = {"log": {"BACKEND": "django_signal_audit.channels.log.LogChannel"}}
        audit({"name": "pruned", "events": ["events_pruned"], "notify": ["log"]}, CHANNELS=channels)
        make_event()
        with capture_events() as captured:
            AuditEvent.objects.all().prune()
        assert [event.event_type for event in captured] == ["events_pruned"]
        assert Notification.objects.get().rule == "pruned"


@pytest.mark.django_db(databases=["default", "other"])
def test_pruning_another_database(audit: Audit) -> None:
    make_event()
    AuditEvent.objects.using("other").create(event_type="x", source="manual")
    assert AuditEvent.objects.using("other").all().prune() == 1
    assert AuditEvent.objects.using("other").get().event_type == "events_pruned"
    assert [event.event_type for event in events()] == ["update"]


@pytest.mark.django_db
def test_the_rows_of_a_dump_are_those_of_the_table() -> None:
    make_event()
    out = io.StringIO()
    call_command("dumpdata", "django_signal_audit.auditevent", stdout=out)
    assert json.loads(out.getvalue())[0]["fields"]["model"] == "auth.user"
