"""The starting points of rows that are older than the audit, and the two commands."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, models
from django.db.models import F
from django.test.utils import isolate_apps

from django_signal_audit.context.scopes import suspended
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.replay import Replay, baseline
from django_signal_audit.replay import replay as replay_module
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.signals import event_recorded

from .app.models import Broken, Category, Country, Person, Pizzeria, Place, Product, Tag
from .conftest import Audit, events
from .machine import oracle, world

pytestmark = pytest.mark.django_db


def give(*arguments: Any, **options: Any) -> str:
    """Return what ``audit_baseline`` prints."""
    out = io.StringIO()
    call_command("audit_baseline", *arguments, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


def replay(*arguments: Any, **options: Any) -> str:
    """Return what ``audit_replay`` prints."""
    out = io.StringIO()
    call_command("audit_replay", *arguments, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


def differences() -> list[Any]:
    return list(Replay(get_registry().plans.values(), "default").differences())


class TestStartingPoints:
    def test_rows_of_every_kind_get_a_starting_point(self, audit: Audit) -> None:
        world.furnish()
        audit()
        give(batch_size=2)
        assert differences() == []
        assert len(events()) == len(oracle.tables())
        assert {(event.event_type, event.source, event.level, *event.rules) for event in events()} == {
            ("baseline", "baseline", "info", "all")
        }
        oracle.check_typed()
        Place.objects.update(name="z")
        Product.objects.update(stock=F("stock") + 1)
        Person.objects.all()[0].friends.clear()
        assert differences() == []

    def test_a_starting_point_names_every_recorded_field(self, audit: Audit) -> None:
        product = Product.objects.create(name="a", price=2, api_token="secret")
        tags = [Tag.objects.create(name=name) for name in "ab"]
        product.tags.set(tags)
        audit({"name": "all", "model": "app.Product", "fields": ["name", "api_token", "tags", "category"]})
        assert give("app.Product") == "app.product: baseline recorded for 1 of 1 row.\n"
        (event,) = events()
        token = event.changes.pop("api_token")
        assert token[0] is None
        assert "$masked" in token[1]
        assert event.changes == {
            "name": [None, "a"],
            "category": [None, None],
            "tags": {"added": [tag.pk for tag in tags], "removed": []},
        }
        assert (event.model, event.object_id, event.object_repr) == ("app.product", str(product.pk), "a")
        assert event.context == {"command": "audit_baseline"}

    def test_nobody_is_told_but_who_listens_to_all_events(self, audit: Audit) -> None:
        Tag.objects.create(name="a")
        audit(
            {"name": "all", "model": "app.Tag", "notify": ["inbox"]},
            CHANNELS={
                "inbox": {"BACKEND": "django_signal_audit.channels.inbox.InboxChannel", "OPTIONS": {"to": ["a"]}}
            },
        )
        heard = []

        def listen(event: AuditEvent, **_: Any) -> None:
            heard.append(event.event_type)

        event_recorded.connect(listen)
        try:
            give()
        finally:
            event_recorded.disconnect(listen)
        assert heard == ["baseline"]
        assert not Notification.objects.exists()

    def test_the_life_goes_on_from_there(self, audit: Audit) -> None:
        tag = Tag.objects.create(name="old")
        audit()
        give()
        tag.name = "new"
        tag.save()
        assert [event.changes["name"] for event in events()] == [[None, "old"], ["old", "new"]]
        tag.delete()
        assert differences() == []

    def test_running_it_again_writes_nothing(self, audit: Audit) -> None:
        world.furnish()
        audit()
        give()
        count = len(events())
        assert all(" 0 of " in line for line in give().splitlines())
        assert len(events()) == count

    def test_only_what_is_not_told_is_written(self, audit: Audit) -> None:
        changed = Product.objects.create(name="a", price=2)
        audit({"name": "all", "model": "app.Product", "fields": ["name", "price", "tags"]})
        Product.objects.update(price=3)
        Product.objects.create(name="new")
        with suspended():
            Product.objects.update(price=F("price") + 1)
        give()
        assert [event.changes for event in events(source="baseline")] == [
            {"name": [None, "a"], "tags": {"added": [], "removed": []}}
        ]
        # What happened unseen stays a difference.
        assert [(item.pk == changed.pk, item.field) for item in differences()] == [(True, "price"), (False, "price")]

    def test_members_that_were_told_of_before_the_row(self, audit: Audit) -> None:
        product = Product.objects.create(name="a")
        tags = [Tag.objects.create(name=name) for name in "abc"]
        product.tags.set(tags[:2])
        audit({"name": "all", "model": "app.Product", "fields": ["name", "tags"]})
        product.tags.set(tags[1:])
        give()
        state = AuditEvent.objects.state_of(Product, product.pk)
        assert state == {"name": "a", "tags": [tag.pk for tag in tags[1:]]}

    def test_fields_that_a_rule_names_since(self, audit: Audit) -> None:
        audit({"name": "names", "model": "app.Product", "fields": ["name"]})
        product = Product.objects.create(name="a", price=2)
        product.tags.add(Tag.objects.create(name="t"))
        audit({"name": "all", "model": "app.Product", "fields": ["name", "price", "tags"]})
        assert [item.field for item in differences()] == ["tags"]
        give()
        assert set(events()[-1].changes) == {"price", "tags"}
        assert differences() == []

    def test_a_row_that_came_back_unseen(self, audit: Audit) -> None:
        audit()
        country = Country.objects.create(code="a", name="b")
        country.delete()
        with suspended():
            Country.objects.bulk_create([Country(code="a", name="c")])
        give()
        assert AuditEvent.objects.state_of(Country, "a") == {"name": "c"}
        assert differences() == []

    def test_rules_with_a_condition(self, audit: Audit) -> None:
        Product.objects.create(name="a")
        Tag.objects.create(name="t")
        audit(
            {"name": "drops", "model": "app.Product", "when": {"price": "decreased"}},
            {"name": "tags", "model": "app.Tag", "events": ["update"]},
        )
        out = give()
        assert "app.product: skipped, because every rule has a condition." in out
        assert [event.model for event in events()] == ["app.tag"]

    @isolate_apps("tests.app")
    def test_a_model_with_nothing_but_its_key_is_skipped_for_that_reason(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Bare(models.Model):
            class Meta:
                app_label = "app"
                db_table = Tag._meta.db_table

        plan = ModelPlan(Bare, compiled=(), all_fields={}, all_members={}, secret=frozenset())
        monkeypatch.setattr("django_signal_audit.management.commands.audit_baseline.select_plans", lambda *_: [plan])
        assert give() == "app.bare: skipped, because the model has no field besides its primary key.\n"

    def test_a_childs_row_has_no_starting_point_under_its_parent(self, audit: Audit) -> None:
        pizzeria = Pizzeria.objects.create(name="a")
        audit({"name": "places", "model": "app.Place"}, {"name": "pizzas", "model": "app.Pizzeria"})
        give("app.Place")
        assert events() == []
        give("app.*")
        assert [(event.model, event.object_id, event.rules) for event in events()] == [
            ("app.pizzeria", str(pizzeria.pk), ["places", "pizzas"])
        ]
        assert AuditEvent.objects.state_of(Place, pizzeria.pk) == {"name": "a", "tags": []}

    def test_a_row_without_a_text(self, audit: Audit) -> None:
        Broken.objects.create(name="a")
        audit()
        give()
        assert "raised RuntimeError" in events()[0].object_repr

    def test_a_batch_that_fails_leaves_the_ones_before(self, audit: Audit, monkeypatch: Any) -> None:
        Tag.objects.bulk_create([Tag(name=str(number)) for number in range(5)])
        audit()
        original, calls = baseline.record_changes, []

        def fail_later(changes: Any, using: str) -> Any:
            calls.append(len(changes))
            rows = original(changes, using)
            if len(calls) == 2:
                msg = "killed"
                raise KeyboardInterrupt(msg)
            return rows

        monkeypatch.setattr(baseline, "record_changes", fail_later)
        with pytest.raises(KeyboardInterrupt):
            give("app.Tag", batch_size=2)
        assert len(events()) == 2
        assert give("app.Tag", batch_size=2) == "app.tag: baseline recorded for 3 of 5 rows.\n"
        assert differences() == []

    def test_a_row_that_is_written_between_two_looks(self, audit: Audit, monkeypatch: Any) -> None:
        Tag.objects.bulk_create([Tag(name="old"), Tag(name="old")])
        audit()
        original, looks = replay_module.RecordedStates.states, []

        def states(self: Any, names: Any) -> Any:
            found = original(self, names)
            if not looks:
                Tag.objects.first().delete()
                Tag.objects.update(name="new")
            looks.append(names)
            return found

        monkeypatch.setattr(replay_module.RecordedStates, "states", states)
        give("app.Tag")
        assert len(looks) == 2
        assert [event.event_type for event in events()] == ["delete", "update", "baseline"]
        assert AuditEvent.objects.state_of(Tag, Tag.objects.get().pk) == {"name": "new"}
        assert [item.kind for item in differences()] == []


class TestBaselineCommand:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["app.Tga"], "'app.Tga' matches no audited model. Did you mean 'app.tag'?"),
            (["app.Product"], "No rule names app.Product"),
            (["shop.*"], "'shop.*' matches no audited model."),
            (["--database", "elsewhere"], "There is no database 'elsewhere'."),
            (["--batch-size", "0"], "--batch-size must be at least 1."),
        ],
    )
    def test_mistakes_are_one_line(self, audit: Audit, arguments: list[str], message: str) -> None:
        audit({"name": "tags", "model": "app.Tag"})
        with pytest.raises(CommandError) as caught:
            give(*arguments)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.returncode == 2

    def test_an_event_that_cannot_be_written(self, audit: Audit, monkeypatch: Any) -> None:
        Tag.objects.create(name="a")
        audit()
        monkeypatch.setattr("django_signal_audit.recorder.insert_row", lambda *_: 1 / 0)
        with pytest.raises(CommandError, match=r"app.tag: .*ZeroDivisionError.* run the command again") as caught:
            give("app.Tag")
        assert caught.value.returncode == 1

    def test_progress_is_shown_on_a_terminal_only(self, audit: Audit, monkeypatch: Any) -> None:
        Tag.objects.create(name="a")
        audit()
        for is_terminal in (False, True):
            stderr = io.StringIO()
            monkeypatch.setattr(stderr, "isatty", lambda shown=is_terminal: shown, raising=False)
            monkeypatch.setattr(sys, "stderr", stderr)
            give("app.Tag")
            replay("app.Tag")
            assert ("app.tag" in stderr.getvalue(), "row/s" in stderr.getvalue()) == (is_terminal, is_terminal)


class TestReplayCommand:
    def test_a_clean_audit_log_has_no_difference(self, audit: Audit) -> None:
        audit({"name": "tags", "model": "app.Tag"})
        Tag.objects.create(name="a")
        assert replay("--check") == "1 row compared with its recorded history, 0 differences.\n"
        assert json.loads(replay("--check", "--format", "json")) == {"differences": [], "left_out": [], "rows": 1}

    def test_each_difference_is_named(self, audit: Audit) -> None:
        audit()
        product = Product.objects.create(name="\x1b[31m<old>", price=1)
        with suspended():
            Product.objects.update(name="x" * 50, price=2)
        out = replay()
        assert f"app.product  {product.pk}" in out
        assert '"1.00"' in out
        assert '"2.00"' in out
        assert "\x1b" not in out
        assert f'"{"x" * 38}…' in out
        assert "1 row compared with its recorded history, 2 differences." in out
        found = json.loads(replay("--format", "json"))
        assert found["differences"][1] == {
            "model": "app.product",
            "pk": str(product.pk),
            "kind": "value",
            "field": "price",
            "recorded": "1.00",
            "actual": "2.00",
        }
        for options in (["--check"], ["--check", "--format", "json"], ["app.Product", "--check"]):
            with pytest.raises(SystemExit) as caught:
                replay(*options)
            assert caught.value.code == 1
        replay("app.Tag", "--check")

    def test_old_rows_and_the_advice(self, audit: Audit) -> None:
        Person.objects.create(name="a")
        audit({"name": "people", "model": "app.Person"})
        out = replay()
        assert "no recorded history; run audit_baseline" in out
        with pytest.raises(SystemExit):
            replay("--check")
        give()
        replay("--check")

    def test_what_is_left_out(self, audit: Audit) -> None:
        audit({"name": "names", "model": "app.Product", "exclude": ["modified", "tags", "slug"]})
        Product.objects.create(name="a")
        lines = [line.split() for line in replay("--check").splitlines()]
        assert ["app.product", "slug,", "modified,", "tags", "all", "not"] in [line[:6] for line in lines]
        found = json.loads(replay("--format", "json"))["left_out"]
        assert [(item["model"], item["field"], item["rows"]) for item in found] == [
            ("app.product", name, None) for name in ("slug", "modified", "tags")
        ]

    def test_mistakes_are_one_line(self, audit: Audit) -> None:
        audit({"name": "tags", "model": "app.Tag"})
        with pytest.raises(CommandError, match=r"Did you mean 'app\.tag'") as caught:
            replay("app.Tags")
        assert caught.value.returncode == 2


@pytest.mark.django_db(databases=["default", "other"])
def test_each_database_has_a_trail_of_its_own(audit: Audit) -> None:
    Category.objects.create(name="here")
    Category.objects.using("other").create(name="there")
    audit()
    give("app.Category", "--database", "other")
    assert AuditEvent.objects.using("other").count() == 1
    replay("app.Category", "--check", "--database", "other")
    with pytest.raises(SystemExit):
        replay("app.Category", "--check")


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer")
@pytest.mark.django_db(transaction=True)
class TestWritersMeanwhile:
    def test_the_rows_of_a_batch_and_their_members_are_locked(self, audit: Audit, monkeypatch: Any) -> None:
        tags = [Tag.objects.create(name=name) for name in "ab"]
        product = Product.objects.create(name="a")
        product.tags.set(tags)
        audit({"name": "all", "model": "app.Product"})
        original = baseline.record_changes
        rival = connection.copy()
        writes = ["UPDATE app_product SET stock = 3", f"DELETE FROM app_product_tags WHERE tag_id = {tags[0].pk}"]

        def record(changes: Any, using: str) -> Any:
            for write in writes:
                with rival.cursor() as cursor, pytest.raises(OperationalError, match=r"(?i)lock"):
                    cursor.execute(write)
            return original(changes, using)

        monkeypatch.setattr(baseline, "record_changes", record)
        wait = {"postgresql": "SET lock_timeout = '300ms'", "mysql": "SET innodb_lock_wait_timeout = 1"}
        try:
            with rival.cursor() as cursor:
                cursor.execute(wait[connection.vendor])
            give("app.Product")
        finally:
            rival.close()
        assert [event.event_type for event in events()] == ["baseline"]
        assert differences() == []
