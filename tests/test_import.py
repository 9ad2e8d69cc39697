"""``audit_import`` from tables as other packages have left them; ``tests/importers`` has the packages themselves."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.urls import reverse

from django_signal_audit import history_of
from django_signal_audit.evidence.sealing import backlog, seal, unsealed
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.importing import writing
from django_signal_audit.importing.base import Entry, ImportSource
from django_signal_audit.importing.tables import TableHistory
from django_signal_audit.importing.takeover import Takeover
from django_signal_audit.importing.writing import Writer
from django_signal_audit.models import AuditEvent
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .app.models import Category, Country, Document, Line, Place, Product, Restaurant, Room, Tag
from .conftest import Audit
from .recorded.models import AuditlogEntry, HistoricalLine, HistoricalRoom

pytestmark = pytest.mark.django_db

START = dt.datetime(2024, 5, 1, 8, 0, tzinfo=dt.UTC)
CREATE, UPDATE, DELETE, ACCESS = range(4)


def run(*arguments: str, code: int = 0) -> str:
    """Return what ``audit_import`` prints."""
    out = io.StringIO()
    try:
        call_command("audit_import", *arguments, stdout=out, stderr=io.StringIO())
    except CommandError as error:
        said, found = f"{out.getvalue()}{error}", error.returncode
    else:
        said, found = out.getvalue(), 0
    assert found == code, said
    return said


def log(
    target: Any, action: int, changes: Any = None, *, minute: int = 0, pk: Any = None, **values: Any
) -> AuditlogEntry:
    """Write a row as django-auditlog does."""
    model = target if isinstance(target, type) else type(target)
    defaults = {
        "content_type_id": ContentType.objects.get_for_model(model).pk,
        "object_pk": str(target.pk if pk is None else pk),
        "object_repr": str(target),
        "action": action,
        "changes": changes if isinstance(changes, str) else json.dumps(changes or {}),
        "timestamp": START + dt.timedelta(minutes=minute),
    }
    return AuditlogEntry.objects.create(**{**defaults, **values})


def kept(room: Room, kind: str, *, minute: int, **values: Any) -> HistoricalRoom:
    """Write a row as django-simple-history does."""
    columns = {field.attname: getattr(room, field.attname) for field in Room._meta.concrete_fields}
    at = START + dt.timedelta(minutes=minute)
    return HistoricalRoom.objects.create(**{**columns, "history_date": at, "history_type": kind, **values})


def events(target: Any, **filters: Any) -> list[AuditEvent]:
    """Return the events of an object in the order of their ids."""
    return list(AuditEvent.objects.for_object(target).filter(**filters).order_by("id"))


def told(target: Any) -> list[tuple[str, str, dict[str, Any]]]:
    return [(event.event_type, event.source, event.changes) for event in events(target)]


def differences() -> list[tuple[str, Any, str, str]]:
    """Return the differences that a replay finds, in rows with a history."""
    found = Replay(get_registry().plans.values(), "default").differences()
    items = [(item.model._meta.label_lower, item.pk, item.kind.value, item.field) for item in found]
    return [item for item in items if item[2] != "unrecorded"]


class TestTexts:
    """django-auditlog keeps what ``str()`` gives."""

    def test_texts_become_values_of_their_fields(self, audit: Audit) -> None:
        product = Product.objects.create(name="tea", price="2.50", weight=0.5, stock=3, released=dt.date(2024, 5, 1))
        log(product, CREATE, {"name": ["None", "tea"], "price": ["None", "1.5"], "is_active": ["None", "True"]})
        pair = {
            "price": ["1.5", "2.5"],
            "weight": ["None", "0.5"],
            "stock": ["0", "3"],
            "released": ["None", "2024-05-01"],
        }
        log(product, UPDATE, {**pair, "attributes": ["{'a': None}", '{"a": 1}']}, minute=1)
        audit()
        run("auditlog")
        create, update = events(product, source="import")
        assert (create.event_type, update.event_type) == ("create", "update")
        assert create.changes["price"] == [None, "1.50"]
        assert create.changes["is_active"] == [None, True]
        assert create.changes["weight"] == [None, None]  # "None" is left out by auditlog
        assert update.changes == {
            "price": ["1.50", "2.50"],
            "weight": [None, "0.5"],
            "stock": [0, 3],
            "released": [None, "2024-05-01"],
            "attributes": [{"a": None}, {"a": 1}],
        }
        assert differences() == []

    def test_typed_values_are_taken_as_they_are(self, audit: Audit) -> None:
        product = Product.objects.create(name="None", stock=3)
        log(product, UPDATE, {"name": ["a", "None"], "stock": [1, 3], "slug": ["x", None]})
        audit()
        run("auditlog")
        assert events(product)[0].changes == {"name": ["a", "None"], "stock": [1, 3], "slug": ["x", None]}

    def test_none_is_a_text_where_the_field_cannot_be_null(self, audit: Audit) -> None:
        product = Product.objects.create(name="None")
        log(product, UPDATE, {"name": ["a", "None"], "slug": ["x", "None"]})
        audit()
        run("auditlog")
        assert events(product)[0].changes == {"name": ["a", "None"], "slug": ["x", None]}

    def test_what_cannot_be_told_is_kept_as_a_text_and_the_closing_event_says_what_it_was(self, audit: Audit) -> None:
        tea = Category.objects.create(name="Tea")
        product = Product.objects.create(name="a", category=tea, stock=4)
        log(product, CREATE, {"name": ["None", "a"], "stock": ["None", "3"], "category": ["None", "Old"]})
        log(product, UPDATE, {"category": ["Old", "Tea"], "stock": ["3", "F(stock) + Value(1)"]}, minute=1)
        audit()
        out = run("auditlog")
        create, update, closing = events(product)
        assert create.data == {"unclear": {"category": ["None", "Old"]}}
        assert update.data["unclear"] == {"category": ["Old", "Tea"], "stock": ["3", "F(stock) + Value(1)"]}
        assert closing.source == "baseline"
        assert closing.changes["stock"] == [3, 4]
        assert closing.changes["category"] == [None, tea.pk]
        assert "2 values of app.product.category can't be told from their text" in out
        assert differences() == []

    def test_members_are_found_by_their_text_if_that_is_unique(self, audit: Audit) -> None:
        red, blue = Tag.objects.create(name="red"), Tag.objects.create(name="blue")
        Tag.objects.create(name="twice")
        Tag.objects.create(name="twice")
        product = Product.objects.create(name="a")
        product.tags.add(red)
        log(product, CREATE, {"name": ["None", "a"]})
        added = {"type": "m2m", "operation": "add", "objects": ["red", "blue", "twice"]}
        log(product, UPDATE, {"tags": added}, minute=1)
        # clear() lists the whole table.
        removed = {"type": "m2m", "operation": "delete", "objects": ["red", "blue", "twice"]}
        log(product, UPDATE, {"tags": removed}, minute=2)
        log(product, UPDATE, {"tags": {**added, "objects": ["red"]}}, minute=3)
        audit()
        run("auditlog")
        changes = [event.changes for event in events(product, event_type="m2m")]
        assert changes == [
            {"tags": {"added": [red.pk, blue.pk], "removed": []}},
            {"tags": {"added": [], "removed": [red.pk, blue.pk]}},
            {"tags": {"added": [red.pk], "removed": []}},
        ]
        assert differences() == []

    def test_secrets_are_masked_wherever_they_stand(self, audit: Audit) -> None:
        product = Product.objects.create(name="a", api_token="new-token-2")
        log(product, CREATE, {"name": ["None", "a"], "api_token": ["None", "old-token-1"]}, object_repr="old-token-1")
        log(
            product,
            UPDATE,
            {"api_token": ["old-token-1", "new-token-2"]},
            minute=1,
            additional_data={"password": "hunter2"},
        )
        audit()
        run("auditlog")
        found = json.dumps(list(AuditEvent.objects.values("changes", "data", "object_repr")))
        assert "old-token-1" not in found
        assert "new-token-2" not in found
        assert "hunter2" not in found
        assert differences() == []

    def test_who_from_where_and_why(self, audit: Audit) -> None:
        user = User.objects.create_user("ada")
        product = Product.objects.create(name="a")
        entry = log(
            product, UPDATE, {"name": ["b", "a"]}, actor_id=user.pk, remote_addr="10.0.0.1", additional_data={"x": 1}
        )
        log(product, UPDATE, {"name": ["a", "b"]}, actor_id=user.pk + 1000, minute=1)
        audit()
        run("auditlog")
        first, second, _ = events(product)
        assert (first.actor_id, first.actor_repr) == (str(user.pk), "ada")
        assert (second.actor_id, second.actor_repr) == (str(user.pk + 1000), "")
        assert first.context == {"request": {"ip": "10.0.0.1"}, "imported": {"from": "auditlog", "id": str(entry.pk)}}
        assert first.data == {"x": 1}
        assert first.recorded_at == START
        assert first.rules == []

    def test_that_somebody_looked_is_an_event_without_values(self, audit: Audit) -> None:
        product = Product.objects.create(name="a")
        log(product, ACCESS)
        audit()
        run("auditlog")
        assert [(event.event_type, event.changes) for event in events(product, source="import")] == [("view", {})]
        assert [item[2] for item in Replay(get_registry().plans.values(), "default").differences()] == []


class TestSnapshots:
    """django-simple-history keeps all values after each save."""

    def test_rows_become_the_changes_between_them(self, audit: Audit) -> None:
        room = Room.objects.create(code="a", floor=1)
        kept(room, "+", minute=0, history_user_id=None, history_change_reason="new")
        kept(room, "~", minute=1)  # changes nothing
        room.floor, room.name = 2, "hall"
        kept(room, "~", minute=2)
        room.save()
        audit()
        out = run("simple_history")
        assert told(room) == [
            ("create", "import", {"code": [None, "a"], "floor": [None, 1], "number": [None, 0], "name": [None, ""]}),
            ("update", "import", {"floor": [1, 2], "name": ["", "hall"]}),
        ]
        assert events(room)[0].context["reason"] == "new"
        assert events(room)[0].object_repr == "a"
        assert "1 row changed nothing" in out
        assert differences() == []

    def test_the_first_row_need_not_be_the_creation(self, audit: Audit) -> None:
        room = Room.objects.create(code="a", floor=1)
        kept(room, "~", minute=0)
        audit()
        run("simple_history")
        assert [event[0] for event in told(room)] == ["baseline"]
        assert differences() == []

    def test_a_deletion_that_was_not_recorded_is_inferred(self, audit: Audit) -> None:
        room = Room(pk=7, code="a", floor=1)
        kept(room, "+", minute=0)
        again = Room.objects.create(pk=7, code="b")
        kept(again, "+", minute=1)
        gone = Room(pk=8, code="c")
        kept(gone, "+", minute=2)
        audit()
        run("simple_history")
        assert [event[0] for event in told(again)] == ["create", "delete", "create"]
        assert events(again)[1].data == {"inferred": True}
        assert events(again)[1].changes["code"] == ["a", None]
        assert [event[0] for event in told(gone)] == ["create", "delete"]
        assert differences() == []

    def test_a_row_that_was_made_again_unseen_gets_a_baseline(self, audit: Audit) -> None:
        room = Room.objects.create(pk=7, code="b")
        kept(Room(pk=7, code="a"), "+", minute=0)
        kept(Room(pk=7, code="a"), "-", minute=1)
        audit()
        run("simple_history")
        assert [event[:2] for event in told(room)] == [
            ("create", "import"),
            ("delete", "import"),
            ("baseline", "baseline"),
        ]
        assert differences() == []

    def test_composite_keys(self, audit: Audit) -> None:
        line = Line.objects.create(order=1, number=2, text="b")
        other = Line.objects.create(order=1, number=10, text="c")
        for minute, (one, text) in enumerate([(line, "a"), (other, "c"), (line, "b")]):
            HistoricalLine.objects.create(
                order=one.order,
                number=one.number,
                text=text,
                history_type="~" if text == "b" else "+",
                history_date=START + dt.timedelta(minutes=minute),
            )
        audit()
        run("simple_history", "app.Line")
        assert [event.object_id for event in events(line)] == ["[1, 2]", "[1, 2]"]
        assert events(line)[1].changes == {"text": ["a", "b"]}
        assert differences() == []


class TestTakeover:
    """From its first own event on, this package knows better."""

    def test_rows_after_the_first_own_event_are_left_to_it(self, audit: Audit) -> None:
        room = Room.objects.create(code="a", floor=1)
        kept(room, "+", minute=0)
        audit()
        room.floor = 2
        room.save()
        own = events(room)[0]
        # The other package writes the same change some milliseconds before, and goes on.
        kept(room, "~", minute=0, history_date=own.recorded_at - dt.timedelta(milliseconds=3))
        room.floor = 3
        room.save()
        kept(room, "~", minute=0, history_date=events(room)[1].recorded_at)
        out = run("simple_history")
        assert [event[:2] for event in told(room)] == [("create", "import"), ("update", "orm"), ("update", "orm")]
        assert [event.id < 0 for event in events(room)] == [True, False, False]
        assert "2 rows are from when this package recorded the object itself" in out
        assert differences() == []

    def test_what_the_source_had_missed_before_is_closed_right_before_it(self, audit: Audit) -> None:
        room = Room.objects.create(code="a", floor=1)
        kept(room, "+", minute=0)
        Room.objects.update(floor=5)
        audit()
        room.refresh_from_db()
        room.floor = 6
        room.save()
        run("simple_history")
        create, closing, own = events(room)
        assert closing.changes == {"floor": [1, 5]}
        assert own.changes == {"floor": [5, 6]}
        assert closing.recorded_at == own.recorded_at - dt.timedelta(microseconds=1)
        assert create.pk < closing.pk < 0 < own.pk
        assert differences() == []

    def test_own_baselines_are_no_takeover(self, audit: Audit) -> None:
        room = Room.objects.create(code="a", floor=1)
        kept(room, "+", minute=0)
        Room.objects.update(floor=2)
        audit()
        call_command("audit_baseline", stdout=io.StringIO())
        run("simple_history")
        assert [event[:2] for event in told(room)] == [
            ("create", "import"),
            ("baseline", "baseline"),
            ("baseline", "baseline"),
        ]
        assert differences() == []

    def test_objects_created_and_deleted_since_keep_their_own_events_alone(self, audit: Audit) -> None:
        old = Room.objects.create(code="b", number=1)
        kept(old, "+", minute=0)
        audit()
        room = Room.objects.create(code="a")
        kept(room, "+", minute=0, history_date=events(room)[0].recorded_at - dt.timedelta(milliseconds=1))
        pk = old.pk
        old.delete()
        run("simple_history")
        assert [event[:2] for event in told(room)] == [("create", "orm")]
        found = list(AuditEvent.objects.for_key(Room, pk).order_by("id").values_list("event_type", "source"))
        assert found == [("create", "import"), ("delete", "orm")]
        assert differences() == []

    def test_an_application_that_writes_meanwhile(self, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
        room = Room.objects.create(code="a", floor=1)
        kept(room, "+", minute=0)
        audit()
        closing = Takeover.closing

        def write_first(self: Takeover, *args: Any, **options: Any) -> Iterator[Any]:
            room.floor += 1
            room.save()
            return closing(self, *args, **options)

        monkeypatch.setattr(Takeover, "closing", write_first)
        run("simple_history")
        monkeypatch.undo()
        assert [event[:2] for event in told(room)] == [("create", "import"), ("update", "orm")]
        assert differences() == []

    def test_without_closing_nothing_is_inferred(self, audit: Audit) -> None:
        kept(Room(pk=7, code="a"), "+", minute=0)
        audit()
        run("simple_history", "--no-close")
        assert [event.event_type for event in AuditEvent.objects.for_key(Room, 7)] == ["create"]

    def test_parents_of_multi_table_children_are_theirs(self, audit: Audit) -> None:
        restaurant = Restaurant.objects.create(name="b", stars=2)
        place = Place.objects.get()
        log(place, CREATE, {"name": ["None", "a"]})
        log(restaurant, CREATE, {"name": ["None", "a"], "stars": ["None", "1"]})
        audit()
        run("auditlog")
        assert differences() == []
        assert AuditEvent.objects.state_of(Place, place.pk)["name"] == "b"  # type: ignore[index]
        assert events(place, event_type="delete") == []


class TestAdminLog:
    def test_entries_are_events_without_values(self, audit: Audit) -> None:
        user = User.objects.create_user("ada")
        tea = Category.objects.create(name="Tea")
        entry = LogEntry.objects.create(
            user=user,
            content_type=ContentType.objects.get_for_model(Category),
            object_id=str(tea.pk),
            object_repr="Tea",
            action_flag=2,
            change_message='[{"changed": {"fields": ["Name"]}}]',
        )
        LogEntry.objects.create(user=user, content_type=None, object_repr="?", action_flag=1, change_message="text")
        audit()
        out = run("admin")
        (event,) = events(tea)
        assert (event.event_type, event.actor_repr, event.object_repr) == ("admin_change", "ada", "Tea")
        assert event.data == {"message": [{"changed": {"fields": ["Name"]}}]}
        assert event.recorded_at == entry.action_time
        assert "its content type None is gone" in out
        assert "0 events written" in run("admin")
        assert AuditEvent.objects.state_of(Category, tea.pk) is None


class TestRunningAgain:
    def test_a_second_run_writes_nothing(self, audit: Audit) -> None:
        fill()
        audit()
        run("simple_history")
        run("auditlog")
        before = list(AuditEvent.objects.order_by("id").values())
        assert "0 events written" in run("simple_history")
        assert "0 events written" in run("auditlog")
        assert list(AuditEvent.objects.order_by("id").values()) == before

    @pytest.mark.parametrize("survives", range(5))
    def test_a_run_that_was_killed_is_continued(
        self, audit: Audit, monkeypatch: pytest.MonkeyPatch, survives: int
    ) -> None:
        fill()
        audit()
        left = [survives]
        insert = Writer._insert

        def fail(self: Writer, batch: list[Any]) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            insert(self, batch)

        monkeypatch.setattr(Writer, "_insert", fail)
        with pytest.raises(KeyboardInterrupt):
            run("simple_history", "--batch-size", "2")
        monkeypatch.undo()
        half = AuditEvent.objects.filter(id__lt=0).count()
        run("simple_history")
        found = [(event.object_id, event.event_type, event.changes) for event in AuditEvent.objects.order_by("id")]
        assert len(found) == 9 > half
        assert sorted(found, key=lambda event: int(event[0])) == found
        assert differences() == []

    @pytest.mark.parametrize("by_option", [False, True])
    def test_a_model_and_a_field_that_were_renamed_since(self, audit: Audit, by_option: bool) -> None:
        rooms = fill()
        audit()
        run("simple_history")
        before = AuditEvent.objects.count()
        text, json_ = ("changes::text", "::jsonb") if connection.vendor == "postgresql" else ("changes", "")
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE django_signal_audit_auditevent SET model = 'app.chamber', "
                f"changes = REPLACE({text}, '\"floor\"', '\"storey\"'){json_}"
            )
        renamed = {"app.Chamber": "app.Room", "app.Room.storey": "app.Room.floor"}
        audit(**{} if by_option else {"RENAMED": renamed})
        options = [one for old, new in renamed.items() for one in ("--rename", f"{old}={new}")] if by_option else []
        assert "0 events written" in run("simple_history", *options)
        kept(rooms[0], "~", minute=9, floor=7)
        assert "2 events written" in run("simple_history", *options)
        assert AuditEvent.objects.count() == before + 2
        if not by_option:
            assert differences() == []

    def test_what_came_since_is_added_behind(self, audit: Audit) -> None:
        (room, *_) = fill()
        audit()
        run("simple_history")
        room.floor = 50
        with connection.cursor() as cursor:
            cursor.execute("UPDATE app_room SET floor = 50 WHERE id = %s", [room.pk])
        kept(room, "~", minute=0, history_date=dt.datetime.now(dt.UTC))
        out = run("simple_history")
        assert "1 event written" in out
        assert events(room)[-1].changes["floor"] == [2, 50]
        assert differences() == []

    def test_a_log_that_was_imported_from_another_package_is_not_mixed_with(self, audit: Audit) -> None:
        (room, *_) = fill()
        log(room, UPDATE, {"floor": ["0", "1"]})
        audit()
        run("simple_history")
        out = run("auditlog", "app.Room")
        assert "1 row was left out, because its object's history was imported from another source" in out

    def test_what_was_pruned_since_does_not_come_back(self, audit: Audit) -> None:
        (room, *_) = fill()
        audit()
        run("simple_history")
        AuditEvent.objects.for_object(room).prune()
        kept(room, "~", minute=3, floor=7)
        count = AuditEvent.objects.count()
        run("simple_history")
        assert AuditEvent.objects.count() - count == 2
        assert [event.changes.get("floor") for event in events(room)][-2:] == [[2, 7], [7, 2]]
        assert differences() == []

    def test_older_rows_than_those_of_an_earlier_run_are_left(self, audit: Audit) -> None:
        (room, *_) = fill()
        audit()
        run("simple_history", "--since", "2024-05-01T10:01")
        assert [event[0] for event in told(room)] == ["baseline", "update"]
        out = run("simple_history")
        assert "3 rows were left out, because it is older than what an earlier run has imported" in out
        assert differences() == []


def fill() -> list[Room]:
    """Write rows about three rooms, each three times."""
    rooms = [Room.objects.create(code=code, number=number, floor=2) for number, code in enumerate("abc")]
    for room in rooms:
        for floor in range(3):
            kept(room, "~" if floor else "+", minute=floor, floor=floor)
    return rooms


class TestBadInput:
    def test_rows_that_cannot_be_taken_are_named_and_the_others_are_taken(self, audit: Audit) -> None:
        product = Product.objects.create(name="a")
        broken = log(product, UPDATE, '{"name": ')
        array = log(product, UPDATE, "[1, 2]", minute=1)
        unknown = log(product, 17, {"name": ["a", "b"]}, minute=2)
        deep = log(product, UPDATE, "[" * 100_000, minute=3)
        gone = log(product, UPDATE, {"name": ["a", "b"]}, minute=4, content_type_id=99_999)
        line = log(Line, UPDATE, {"text": ["a", "b"]}, pk="neither", minute=5)
        log(product, UPDATE, {"name": ["b", "a"]}, minute=6)
        audit()
        out = run("auditlog")
        for row, why in (
            (broken, "there is no valid JSON in its changes"),
            (array, "its changes aren't a JSON object"),
            (unknown, "its action 17 is unknown"),
            (deep, "there is no valid JSON in its changes"),
            (gone, "its content type 99999 is gone"),
            (line, "its composite key can't be read"),
        ):
            (said,) = [found for found in out.splitlines() if why in found]
            assert f"auditlog_logentry {row.pk}" in said
        assert events(product)[0].changes == {"name": ["b", "a"]}
        assert differences() == []

    def test_models_and_fields_that_are_gone_keep_their_names(self, audit: Audit) -> None:
        product = Product.objects.create(name="a")
        old = ContentType.objects.create(app_label="gone", model="thing")
        log(product, UPDATE, {"colour": ["red", "blue"], "old_password": ["hunter2", "hunter3"]})
        log(product, UPDATE, {"size": ["1", "2"]}, content_type_id=old.pk, pk="7")
        audit()
        run("auditlog")
        first = events(product)[0]
        assert first.changes["colour"] == ["red", "blue"]
        assert "hunter" not in json.dumps(first.changes)
        event = AuditEvent.objects.get(model="gone.thing")
        assert (event.object_id, event.changes) == ("7", {"size": ["1", "2"]})
        assert differences() == []

    def test_dates_in_the_future_and_before_1970_keep_the_order(self, audit: Audit) -> None:
        room = Room.objects.create(code="a", floor=9)
        kept(room, "+", minute=0, history_date=dt.datetime(1905, 1, 1, tzinfo=dt.UTC), floor=1)
        kept(room, "~", minute=0, history_date=dt.datetime(2190, 1, 1, tzinfo=dt.UTC), floor=2)
        audit()
        run("simple_history")
        found = events(room)
        assert [event.changes["floor"] for event in found] == [[None, 1], [1, 2], [2, 9]]
        assert [event.recorded_at for event in found] == sorted(event.recorded_at for event in found)
        assert differences() == []
        assert "0 events written" in run("simple_history")

    def test_values_of_ten_megabytes_become_digests(self, audit: Audit) -> None:
        product = Product.objects.create(name="a", attributes={"text": "y" * 100})
        big = json.dumps({"text": "x" * 10_000_000})
        log(product, UPDATE, {"attributes": ["{}", big], "name": ["b" * 1_000_000, "a"]}, object_repr="z" * 1_000_000)
        audit()
        run("auditlog")
        event = events(product)[0]
        assert event.changes["attributes"][1]["length"] > 10_000_000
        assert len(event.object_repr) == 255
        assert differences() == []

    def test_values_that_the_field_does_not_take(self, audit: Audit) -> None:
        product = Product.objects.create(name="a", stock=1)
        log(product, UPDATE, {"stock": ["many", "1"], "price": ["NaN-ish", "1"], "released": ["2024-02-31", "None"]})
        log(product, UPDATE, {"name": ["\u0000", "\ud800"]}, minute=1)
        audit()
        run("auditlog")
        assert set(events(product)[0].data["unclear"]) == {"stock", "price", "released"}
        assert differences() == []

    def test_keys_of_every_kind(self, audit: Audit) -> None:
        document = Document.objects.create(title="b")
        country = Country.objects.create(code="x" * 290, name="b")
        log(document, CREATE, {"title": ["None", "a"]})
        log(country, CREATE, {"name": ["None", "b"]}, pk="x" * 255)  # cut by the source: another object
        audit()
        run("auditlog")
        assert events(document)[0].changes == {"title": [None, "a"]}
        assert differences() == []


class TestCommand:
    def test_a_dry_run_says_the_same_and_writes_nothing(self, audit: Audit) -> None:
        fill()
        audit()
        dry = run("simple_history", "--dry-run")
        assert not AuditEvent.objects.exists()
        assert dry.replace("would be written", "written") == run("simple_history")

    def test_fields_that_no_rule_audits_are_left_out_and_named(self, audit: Audit) -> None:
        (room, *_) = fill()
        audit({"name": "rooms", "model": "app.Room", "fields": ["floor"]})
        out = run("simple_history")
        assert events(room)[0].changes == {"floor": [None, 0]}
        assert "values of app.room.name were left out: no rule audits this field" in out
        assert differences() == []

    def test_models_that_no_rule_names_are_imported_as_they_were(self, audit: Audit) -> None:
        (room, *_) = fill()
        audit({"name": "other", "model": "app.Product"})
        run("simple_history")
        assert [event[0] for event in told(room)] == ["create", "update", "update"]

    def test_models_and_fields_that_have_another_name_now(self, audit: Audit) -> None:
        room = Room.objects.create(code="a", floor=3)
        old = ContentType.objects.create(app_label="house", model="chamber")
        log(room, UPDATE, {"storey": ["2", "3"]}, content_type_id=old.pk)
        audit()
        run("auditlog", "--rename", "house.Chamber=app.Room", "--rename", "house.Chamber.storey=floor")
        assert events(room)[0].changes == {"floor": [2, 3]}
        assert differences() == []

    def test_the_setting_renamed_is_known(self, audit: Audit) -> None:
        room = Room.objects.create(code="a", floor=3)
        old = ContentType.objects.create(app_label="house", model="chamber")
        log(room, UPDATE, {"storey": ["2", "3"]}, content_type_id=old.pk)
        audit(RENAMED={"house.Chamber": "app.Room", "house.Chamber.storey": "app.Room.floor"})
        run("auditlog")
        assert events(room)[0].changes == {"floor": [2, 3]}
        assert differences() == []

    def test_inherited_fields_that_have_another_name_now(self, audit: Audit) -> None:
        inn = Restaurant.objects.create(name="Inn", stars=3)
        log(inn, UPDATE, {"title": ["Bar", "Inn"], "stars": ["2", "3"]})
        audit(RENAMED={"app.Place.title": "app.Place.name", "app.Place.stars": "app.Place.name"})
        run("auditlog")
        assert events(inn)[0].changes == {"name": ["Bar", "Inn"], "stars": [2, 3]}
        assert differences() == []

    def test_an_inherited_field_whose_former_name_a_relation_from_another_model_has(self, audit: Audit) -> None:
        inn = Restaurant.objects.create(name="Inn", stars=3)
        log(inn, UPDATE, {"pizzeria": ["Bar", "Inn"]})
        audit(RENAMED={"app.Place.pizzeria": "app.Place.name"})
        run("auditlog")
        assert events(inn)[0].changes == {"name": ["Bar", "Inn"]}

    def test_only_some_models(self, audit: Audit) -> None:
        fill()
        line = Line.objects.create(order=1, number=1, text="a")
        HistoricalLine.objects.create(order=1, number=1, text="a", history_type="+", history_date=START)
        audit()
        run("simple_history", "app.Line")
        assert set(AuditEvent.objects.values_list("model", flat=True)) == {"app.line"}
        assert [event[0] for event in told(line)] == ["create"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["simple-histroy"], "Did you mean 'simple_history'?"),
            (["tests.test_import.Nothing"], "cannot import 'tests.test_import.Nothing'"),
            (["tests.test_import.START"], "which isn't a subclass of django_signal_audit.importing.base.ImportSource"),
            (["reversion"], "The table reversion_version doesn't exist in the database"),
            (["wagtail"], "None of the tables wagtailcore_pagelogentry, wagtailcore_modellogentry exists"),
            (["pghistory"], "No model is tracked by django-pghistory."),
            (["auditlog", "app.Nothing"], "The source has no rows about app.nothing."),
            (["auditlog", "--rename", "app.Room"], "isn't OLD=NEW"),
            (["auditlog", "--rename", "app.Old=app.New"], "there is no model 'app.New'"),
            (["auditlog", "--rename", "app.Room.old=new"], "app.Room has no field 'new'"),
            (["auditlog", "--since", "yesterday-ish"], "yesterday-ish"),
            (["auditlog", "--batch-size", "0"], "--batch-size must be from 1 to 10000."),
        ],
    )
    def test_what_is_wrong_is_one_line(self, audit: Audit, arguments: list[str], said: str) -> None:
        audit()
        out = run(*arguments, code=2)
        assert said in out
        assert "\n" not in out

    def test_a_source_of_ones_own_is_one_class(self, audit: Audit) -> None:
        room = Room.objects.create(code="a", floor=2)
        kept(room, "+", minute=0, floor=1)
        audit()
        assert "2 events written" in run("tests.test_import.Ledger")
        assert [event[0] for event in told(room)] == ["create", "baseline"]
        assert events(room)[0].context["imported"]["from"] == "ledger"
        assert differences() == []


class Ledger(ImportSource):
    """Reads what another program has noted."""

    name = "ledger"

    def histories(self) -> Iterable[TableHistory]:
        rows = models.QuerySet(HistoricalRoom, using=self.using)
        return [TableHistory("app.room", rows, key=["id"], order=["history_date", "history_id"], entry=self.entry)]

    def entry(self, row: HistoricalRoom) -> Entry:
        values = {"floor": row.floor, "code": row.code}
        return Entry(key=str(row.pk), at=row.history_date, event_type="create", object_id=row.id, snapshot=values)


class TestPages:
    """Imported events stand at their time, whatever their ids."""

    @pytest.fixture
    def room(self, audit: Audit) -> Room:
        (room, *_) = fill()
        audit()
        room.floor = 9
        room.save()
        Tag.objects.create(name="later")
        run("simple_history")
        return room

    def get(self, client: Any, name: str, *args: Any, **query: str) -> str:
        url = reverse(f"admin:django_signal_audit_auditevent_{name}", args=args, query=query)
        return str(client.get(url).content.decode())

    def test_the_list_and_its_pages(self, room: Room, admin_client: Any) -> None:
        page = self.get(admin_client, "changelist")
        assert page.index("later") < page.index("/auditevent/-")
        first = events(room)[0]
        cursor = f"older-{(first.recorded_at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)}"
        page = self.get(admin_client, "changelist", page=f"{cursor}-{first.pk + 1}")
        assert reverse("admin:django_signal_audit_auditevent_change", args=[first.pk]) in page

    def test_the_history_of_an_object_begins_with_them(self, room: Room, admin_client: Any) -> None:
        page = self.get(admin_client, "object_history", "app.room", str(room.pk))
        places = [page.index(f"/auditevent/{event.pk}/") for event in reversed(events(room))]
        assert places == sorted(places)
        assert len(places) == 4
        assert [version.values["floor"] for version in history_of(room)] == [0, 1, 2, 9]

    def test_a_change_is_shown_and_can_be_reverted(self, room: Room, admin_client: Any) -> None:
        event = events(room)[1]
        assert "floor" in self.get(admin_client, "change", event.pk)
        assert (
            admin_client.get(reverse("admin:django_signal_audit_auditevent_revert", args=[event.pk])).status_code < 404
        )

    def test_a_version_is_shown_by_its_key(self, room: Room, admin_client: Any) -> None:
        pk = events(room)[1].pk
        page = self.get(admin_client, "object_history", "app.room", str(room.pk), at=str(pk))
        assert "no such version" not in page

    def test_commands_show_them(self, room: Room) -> None:
        out = io.StringIO()
        call_command("audit_history", "app.Room", str(room.pk), "--format", "json", stdout=out)
        assert [item["event"] for item in json.loads(out.getvalue())] == ["create", "update", "update", "update"]
        out = io.StringIO()
        call_command("audit_report", "--by", "object", "--format", "csv", stdout=out, stderr=io.StringIO())
        assert f"{room.pk}" in out.getvalue()


def test_a_sealed_log_takes_imported_events(audit: Audit, settings: Any) -> None:
    fill()
    audit()
    Tag.objects.create(name="sealed")
    seal("default")
    run("simple_history")
    seal("default")
    assert not unsealed("default").exists()


def test_what_a_later_import_writes_is_sealed_like_the_first(audit: Audit) -> None:
    """Its ids are between those of the first import and our own, where everything else is known to be sealed."""
    audit()
    for pk in (97, 98, 99):
        Tag.objects.create(name=f"tag {pk}")
        seal("default", batch_size=1)
        log(Product, CREATE, {"name": ["None", "tea"]}, pk=pk)
        log(Product, ACCESS, minute=1, pk=pk)
        run("auditlog")
        assert backlog("default", 100) == unsealed("default").count() > 0
        seal("default", batch_size=2)
        assert not unsealed("default").exists()
    assert list(Verifier("default").findings()) == []


def test_what_is_imported_once_all_that_was_imported_is_pruned_is_sealed_at_once(audit: Audit) -> None:
    """Its ids begin again with the lowest, which is where the sealer's search has ended before."""
    log(Product, CREATE, {"name": ["None", "tea"], "stock": ["None", "3"]}, pk=98)
    log(Product, DELETE, {"name": ["tea", "None"], "stock": ["3", "None"]}, minute=1, pk=98)
    audit()
    run("auditlog")
    for name in ("a", "b", "c"):
        seal("default")
        Tag.objects.create(name=name)
    assert AuditEvent.objects.filter(source="import").prune() == 2
    run("auditlog")
    assert backlog("default", 100) == unsealed("default").count() > 0
    seal("default")
    assert not unsealed("default").exists()
    assert list(Verifier("default").findings()) == []


def test_imported_events_that_were_pruned_and_come_again_are_not_those_that_were_sealed(audit: Audit) -> None:
    """They have other ids, and a leaf of the former ones would call them edited."""
    for pk in (98, 99):
        log(Product, CREATE, {"name": ["None", "tea"], "stock": ["None", "3"]}, pk=pk)
        log(Product, DELETE, {"name": ["tea", "None"], "stock": ["3", "None"]}, minute=1, pk=pk)
        log(Product, ACCESS, minute=2, pk=pk)
    audit()
    run("auditlog")
    seal("default")
    first = AuditEvent.objects.filter(object_id="98")
    assert first.prune() == 3
    run("auditlog")
    seal("default")
    assert list(Verifier("default").findings()) == []
    assert not unsealed("default").exists()
    # What says nothing of what the object held doesn't come again: a third run could not know it.
    assert list(first.order_by("id").values_list("event_type", flat=True)) == ["create", "delete"]
    assert "0 events written" in run("auditlog")


def test_postgresql_gets_statistics_of_the_tables_that_an_import_reads(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("other databases have them, or do without")
    monkeypatch.setattr(writing, "_FIRST_LOOK", 2)
    fill()
    audit()
    run("simple_history")
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tablename FROM pg_stats")
        known = {name for (name,) in cursor.fetchall()}
    assert {HistoricalRoom._meta.db_table, AuditEvent._meta.db_table} <= known


def test_imported_events_stand_at_their_time(audit: Audit) -> None:
    (room, *_) = fill()
    audit()
    Tag.objects.create(name="later")
    run("simple_history")
    times = [event.recorded_at for page in AuditEvent.objects.all().in_pages(2) for event in page]
    assert times == sorted(times)
    by_uid = [event.recorded_at for event in AuditEvent.objects.order_by("uid")]
    assert by_uid == times
    assert AuditEvent.objects.state_of(Room, room.pk, at=START + dt.timedelta(minutes=1))["floor"] == 1  # type: ignore[index]


def test_what_an_import_ends_with_is_not_back_dated_in_a_sealed_log(audit: Audit) -> None:
    """What the former log missed is an event right before the first of ours, which may be of long ago."""
    product = Product.objects.create(name="tea", stock=3)
    audit()
    product.name = "green tea"
    product.save()
    own = AuditEvent.objects.get()
    with connection.cursor() as cursor:
        moment = START + dt.timedelta(days=30)
        cursor.execute(
            f"UPDATE {AuditEvent._meta.db_table} SET recorded_at = %s WHERE id = %s",
            [connection.ops.adapt_datetimefield_value(moment), own.pk],
        )
    seal("default")
    product.stock = 4
    product.save()
    seal("default")
    log(product, CREATE, {"name": ["None", "te"], "stock": ["None", "1"]})
    run("auditlog")
    closing = AuditEvent.objects.get(source="baseline")
    assert closing.recorded_at < moment
    seal("default")
    verifier = Verifier("default")
    assert list(verifier.findings()) == []
    assert verifier.verdict.imported == 2
