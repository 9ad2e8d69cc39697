"""An event is written where its row is, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections, models, transaction
from django.db.migrations.state import ProjectState
from django.db.models.signals import post_delete

from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models import tables as storage

from .app.models import Category, Product, Tag
from .conftest import Audit
from .processes.proof import prove
from .processes.stage import EVERYTHING
from .processes.work import Writer

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])
HERE = "tests.test_multi_database"


@pytest.fixture(autouse=True)
def rules(audit: Audit, transactional_db: None) -> None:
    """Watch everything, and tell somebody of it."""
    audit(*EVERYTHING["RULES"], **{key: value for key, value in EVERYTHING.items() if key != "RULES"})


def found(using: str) -> list[tuple[str, str]]:
    """Return type and object of the events on a database."""
    rows = AuditEvent.objects.using(using).order_by("id")
    return [(event.event_type, event.object_repr) for event in rows]


def run(name: str, *arguments: str) -> str:
    """Return what a command prints."""
    out = StringIO()
    call_command(name, *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


class TestAliases:
    def test_every_write_stays_on_its_database(self) -> None:
        Writer(5, "other").write(count=120)
        proof = prove("other")
        assert proof.problems == []
        assert proof.events > 100
        assert not AuditEvent.objects.exists()
        assert not Notification.objects.exists()

    def test_writes_to_two_at_a_time(self) -> None:
        for number in range(30):
            for using in ("default", "other"):
                Writer(number, using).write(count=1)
        assert [prove(using).problems for using in ("default", "other")] == [[], []]

    def test_a_transaction_on_one_takes_nothing_of_the_other_along(self) -> None:
        with transaction.atomic(using="other"):
            Category.objects.using("other").create(name="gone")
            Category.objects.create(name="kept")
            transaction.set_rollback(True, using="other")
        assert (found("default"), found("other")) == ([("create", "kept")], [])

    def test_an_object_that_moves(self) -> None:
        tag = Tag.objects.create(name="t")
        tag.save(using="other")
        tag.name = "u"
        tag.save(using="other")
        tag.delete(using="default")
        assert found("default") == [("create", "t"), ("delete", "u")]
        assert found("other") == [("create", "t"), ("update", "u")]
        assert AuditEvent.objects.get(event_type="delete").changes["name"] == ["t", None]
        assert [prove(using).problems for using in ("default", "other")] == [[], []]

    def test_a_message_is_where_its_events_are(self) -> None:
        """A receiver writes to another database than the bulk call it is called by."""

        def mirror(instance: Category, **_: Any) -> None:
            Tag.objects.using("other").create(name=instance.name)

        post_delete.connect(mirror, sender=Category)
        try:
            Category.objects.bulk_create([Category(name="a"), Category(name="b")])
            Category.objects.all().delete()
        finally:
            post_delete.disconnect(mirror, sender=Category)
        assert sorted(found("other")) == [("create", "a"), ("create", "b")]
        assert [prove(using).problems for using in ("default", "other")] == [[], []]

    def test_the_commands_take_a_database(self) -> None:
        Product.objects.using("other").create(name="there")
        key = Product.objects.using("other").get().pk
        models.QuerySet(Category, using="other").bulk_create([Category(name="bulk")])
        assert "there" in run("audit_history", "app.Product", str(key), "--database", "other")
        assert "app.product" in run("audit_report", "--by", "model", "--database", "other").lower()
        assert "app.product" not in run("audit_report", "--by", "model").lower()
        with connections["other"].cursor() as cursor:
            cursor.execute("INSERT INTO app_tag (name) VALUES ('nobody saw it')")
        with pytest.raises(SystemExit):
            run("audit_replay", "app.Tag", "--check", "--database", "other")
        run("audit_replay", "app.Tag", "--check")
        run("audit_baseline", "app.Tag", "--database", "other")
        run("audit_replay", "--check", "--database", "other")
        assert found("default") == []


class ReadsElsewhere:
    """Sends reads to a copy that is late: it has nothing yet."""

    def db_for_read(self, model: type[models.Model], **_: Any) -> str:
        return "other"

    def db_for_write(self, model: type[models.Model], **_: Any) -> str:
        return "default"

    def allow_relation(self, *_: Any, **__: Any) -> bool:
        return True


class WritesElsewhere(ReadsElsewhere):
    """Sends writes to the second database."""

    def db_for_read(self, model: type[models.Model], **_: Any) -> str:
        return "default"

    def db_for_write(self, model: type[models.Model], **_: Any) -> str:
        return "other"


class NoTrail:
    """Keeps the audit tables from the second database."""

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool | None:
        return False if (db, app_label) == ("other", "django_signal_audit") else None


class TestRouters:
    @pytest.mark.parametrize(("router", "written"), [("ReadsElsewhere", "default"), ("WritesElsewhere", "other")])
    def test_old_values_are_read_where_the_row_is(self, settings: Any, router: str, written: str) -> None:
        settings.DATABASE_ROUTERS = [f"{HERE}.{router}"]
        tag = Tag.objects.create(name="t")
        product = Product.objects.create(name="a")
        product.name = "b"
        product.save()
        Product.objects.update(stock=3)
        Product.objects.bulk_update([Product(pk=product.pk, stock=4)], ["stock"])
        product.tags.add(tag)
        product.tags.set([])
        rows = AuditEvent.objects.using(written).filter(event_type="update").order_by("id")
        assert [event.changes.get("name") or event.changes.get("stock") for event in rows] == [
            ["a", "b"],
            [0, 3],
            [3, 4],
        ]
        Product.objects.using(written).all().delete()
        assert prove(written).problems == []
        unwritten = "other" if written == "default" else "default"
        assert found(unwritten) == []
        assert not Notification.objects.using(unwritten).exists()


@pytest.fixture
def without_tables(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Iterator[Any]:
    """Take the events' table away from the second database; calling what it gives puts it back."""
    for name, value in (("_ready", set()), ("_tables", {}), ("_warned", set())):
        monkeypatch.setattr(storage, name, value)
    table, away = AuditEvent._meta.db_table, "audit_table_away"

    def rename(old: str, new: str) -> None:
        with connections["other"].schema_editor() as editor:
            editor.alter_db_table(AuditEvent, old, new)

    def put_back() -> None:
        if away in connections["other"].introspection.table_names():
            rename(away, table)

    rename(table, away)
    yield put_back
    put_back()


class TestDatabasesWithoutTables:
    def test_nothing_is_audited_until_they_are_there(
        self, without_tables: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        report = Writer(7, "other").write(count=40)
        with transaction.atomic(using="other"):
            Category.objects.using("other").create(name="before")
            Category.objects.using("other").update(name="renamed")
        # What fails without the package, such as a key that is taken, may fail.
        assert not [kind for kind in report["errors"] if "table" in kind or "EventNotWritten" in kind]
        assert [record.message for record in caplog.records].count(
            'Changes on database "other" are not audited until "migrate" has made the tables.'
        ) == 1
        without_tables()
        assert found("other") == []
        Category.objects.using("other").create(name="after")
        assert found("other") == [("create", "after")]
        assert found("default") == []

    def test_data_migrations_are_audited_once_they_are_there(self, without_tables: Any) -> None:
        state = ProjectState.from_apps(apps).apps
        historical, product, tag = (state.get_model("app", name) for name in ("Category", "Product", "Tag"))
        historical.objects.using("other").create(name="before")
        historical.objects.using("other").bulk_create([historical(name="before")])
        without_tables()
        historical.objects.using("other").create(name="after")
        historical.objects.using("other").filter(name="before").update(name="renamed")
        assert [event_type for event_type, _ in found("other")] == ["create", "update", "update"]
        one = product.objects.using("other").create(name="p", api_token="secret")
        one.tags.add(tag.objects.using("other").create(name="t"))
        one.name = "q"
        one.save()
        assert [event_type for event_type, _ in found("other")][3:] == ["create", "create", "m2m", "update"]
        one.tags.clear()
        one.delete()
        assert [event_type for event_type, _ in found("other")][7:] == ["m2m", "delete"]
        assert "secret" not in str(AuditEvent.objects.using("other").get(event_type="delete").changes)
        historical.objects.using("other").all().delete()
        assert [event_type for event_type, _ in found("other")][9:] == ["delete", "delete", "delete"]

    def test_where_the_routers_keep_them_away_nothing_can_be_written(self, settings: Any, without_tables: Any) -> None:
        """System check E019 has said so."""
        settings.DATABASE_ROUTERS = [f"{HERE}.NoTrail"]
        for write in (
            lambda: Tag.objects.using("other").create(name="t"),
            lambda: Tag.objects.using("other").bulk_create([Tag(name="t")]),
        ):
            with pytest.raises(EventNotWritten, match="could not be recorded"):
                write()
        assert not Tag.objects.using("other").exists()
        Tag.objects.create(name="here")
        assert found("default") == [("create", "here")]
