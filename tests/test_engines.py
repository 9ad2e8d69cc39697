"""Engines: what a database writes in one statement is what the portable way writes in several."""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any
from unittest import mock

import django
import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.models import Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Lower
from django.test.utils import CaptureQueriesContext, override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_signal_audit.capture.engines import why_portable
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.rules.registry import get_registry

from .app.models import Category, Country, Document, Product, Tag
from .columns.models import City, Every, NamedN, NamedO, Narrow, OddlyNamed, Wide
from .conftest import HAS_ENGINE_FOR_SAVES, SAVES_ARE_ONE_STATEMENT, WAITING, Audit, events, last, trail
from .processes.stage import THOROUGH

pytestmark = pytest.mark.django_db
on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="is about PostgreSQL's engine")
with_engine = pytest.mark.skipif(
    not SAVES_ARE_ONE_STATEMENT, reason="is about PostgreSQL's engine, which needs psycopg 3"
)
with_engine_for_saves = pytest.mark.skipif(not HAS_ENGINE_FOR_SAVES, reason="no engine writes saves there")

RULE = {"name": "every", "model": "columns.Every"}
CHANNELS = {"inbox": {"BACKEND": "django_signal_audit.channels.inbox.InboxChannel"}}
EVERY = [field for field in Every._meta.concrete_fields if not field.primary_key]


def recorded() -> list[tuple[Any, ...]]:
    return [
        (event.event_type, event.source, event.level, event.rules, event.model, event.object_repr, untagged(event))
        for event in events()
    ]


def untagged(event: AuditEvent) -> str:
    """Return the changes without the tags, which depend on the key of the row."""
    return re.sub(r"hmac-sha256:\w+", "tag", json.dumps(event.changes, sort_keys=True))


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
ODD_TEXTS = st.sampled_from(
    [
        '{"password": "x"}',
        "[1]",
        " {",
        '"quoted"',
        "%s %(a)s %",
        "it's",
        "ab" * 40,
        "\ufeff{}",
        "",
        "\t",
        "ä€😀",
        "a: b",
        "user=x&password=y",
    ]
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.just("token"), inner, max_size=3),
    max_leaves=6,
)
MOMENTS = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31), timezones=st.just(dt.UTC))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "small": st.integers(-32768, 32767),
    "number": st.integers(-(2**31), 2**31 - 1),
    "big": st.integers(-(2**63), 2**63 - 1),
    "positive": st.integers(0, 2**31 - 1),
    "flag": st.booleans(),
    "name": TEXTS | ODD_TEXTS,
    "text": TEXTS | ODD_TEXTS | st.integers(70_000, 70_001).map("x".__mul__),
    "slug": st.uuids().map(str),
    "price": st.decimals(-(10**12), 10**12, places=4) | st.sampled_from([Decimal("0"), Decimal("1.5"), Decimal("-0")]),
    "ratio": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "day": st.dates(),
    "moment": MOMENTS | MOMENTS.map(lambda moment: moment.replace(microsecond=0)),
    "hour": st.times(),
    "span": st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000)),
    # MariaDB's type refuses what no version describes.
    "ref": st.uuids(version=4 if connection.vendor == "mysql" else None),
    "document": DOCUMENTS,
    "data": st.binary(max_size=20),
    "file": st.sampled_from(["a.txt", "b/c.txt", ""]),
    "address": st.sampled_from(["127.0.0.1", "::1", "2001:db8::1"]),
    "city_id": st.sampled_from([1, 2]),
}
NULLABLE = {field.attname for field in EVERY if field.null}
ROWS = st.fixed_dictionaries(
    {}, optional={name: (st.none() | values) if name in NULLABLE else values for name, values in VALUES.items()}
)


@pytest.fixture
def cities() -> None:
    City.objects.bulk_create([City(pk=1, name="one"), City(pk=2, name="two")])


def live(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Create a row, save it with other values, save some of them again, save what has not changed, and delete it."""
    row = Every.objects.create(**first)
    row = Every.objects.get(pk=row.pk)
    for name, value in second.items():
        setattr(row, name, value)
    row.save()
    for name, value in {**first, **second}.items():
        setattr(row, name, first.get(name, value))
    row.save(update_fields=[name.removesuffix("_id") for name in first] or None)
    row.save()
    Every.objects.get(pk=row.pk).save()
    # The hours of a day are all that MariaDB's engine doesn't read.
    row = Every.objects.defer("hour").get(pk=row.pk)
    for name, value in second.items():
        setattr(row, name, value)
    row.save()
    # It may have other values in memory than the row holds.
    row.delete()


@with_engine_for_saves
@pytest.mark.usefixtures("cities")
@settings(
    max_examples=1000 if THOROUGH else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=ROWS, second=ROWS)
def test_events_are_those_of_the_portable_way(first: dict[str, Any], second: dict[str, Any]) -> None:
    told = []
    for engine in ("auto", "portable"):
        with override_settings(SIGNAL_AUDIT={"RULES": [RULE], "ENGINE": engine}), transaction.atomic():
            live(first, second)
            told.append(recorded())
            transaction.set_rollback(True)
    assert told[0] == told[1]


# SQLite would keep a text that Django can't read.
NOT_A_NUMBER = RawSQL("'NaN'", []) if connection.vendor == "postgresql" else Decimal("0.5")
SET_TO = {name: (st.none() | values) if name in NULLABLE else values for name, values in VALUES.items()}
SET: dict[str, st.SearchStrategy[Any]] = {
    **SET_TO,
    "slug": st.none(),
    "small": st.sampled_from([models.F("small"), models.F("number") * 0 + 3, 5]),
    "big": st.sampled_from([models.F("number"), models.F("positive"), None]),
    "price": st.sampled_from([models.F("price") * 2, models.F("small") + 1, NOT_A_NUMBER, None]),
    "flag": st.sampled_from([models.Q(small__gt=0), True, None]),
    "name": st.sampled_from([models.F("slug"), "new", "a: b", "--token abcdefgh"]) | TEXTS,
    "number": st.sampled_from([models.Case(models.When(small__gt=0, then=1), default=2), 7]),
}
UPDATES = st.fixed_dictionaries({}, optional=SET) | st.sampled_from(sorted(SET)).flatmap(
    lambda name: st.fixed_dictionaries({name: SET[name]})
)
CONDITIONS: list[Callable[[], models.QuerySet[Every]]] = [
    Every.objects.all,
    lambda: Every.objects.filter(small__gt=0),
    lambda: Every.objects.exclude(name="a").order_by("-name"),
    lambda: Every.objects.filter(pk__in=Every.objects.filter(flag=True)),
    lambda: Every.objects.filter(city__name="one"),
    Every.objects.none,
]


def assert_engines_agree(
    rows: list[dict[str, Any]], values: dict[str, Any], condition: Callable[[], models.QuerySet[Every]]
) -> None:
    """Update rows with either engine, and compare the events."""
    found = []
    for engine in ("auto", "portable"):
        with (
            mock.patch.object(Every, "__str__", lambda self: self.name),
            # On SQLite, few rows go the portable way otherwise.
            mock.patch("django_signal_audit.capture.engines.sqlite.FEW", 0),
            override_settings(SIGNAL_AUDIT={"RULES": [RULE], "ENGINE": engine}),
            transaction.atomic(),
        ):
            Every.objects.bulk_create([Every(**row) for row in rows])
            with suppress(DatabaseError), transaction.atomic():
                found.append(condition().update(**values) if values else None)
            found.append((recorded(), repr(Every.objects.order_by("pk").values_list("name", *values))))
            transaction.set_rollback(True)
    assert found[: len(found) // 2] == found[len(found) // 2 :]


@pytest.mark.skipif(
    connection.vendor == "postgresql" and connection.Database.__name__ != "psycopg",
    reason="PostgreSQL has an engine only with psycopg 3",
)
@pytest.mark.usefixtures("cities")
@settings(
    max_examples=1000 if THOROUGH else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rows=st.lists(ROWS, min_size=1, max_size=3),
    name=st.none() | st.sampled_from(["Plain", "Grün 7"]),
    values=UPDATES,
    condition=st.sampled_from(CONDITIONS),
)
def test_events_of_updates_are_those_of_the_portable_way(
    rows: list[dict[str, Any]],
    name: str | None,
    values: dict[str, Any],
    condition: Callable[[], models.QuerySet[Every]],
) -> None:
    # Engines leave rows to the portable way whose names may hold a secret.
    rows = [{**row, "slug": None, **({"name": name} if name else {})} for row in rows]
    assert_engines_agree(rows, values, condition)


# What all engines can tell in SQL.
TOLD = ["small", "number", "big", "positive", "flag", "price", "text", "day", "moment", "city_id"]
ONE_COLUMN = st.sampled_from(TOLD).flatmap(
    lambda name: st.tuples(
        st.lists(st.fixed_dictionaries({}, optional={name: SET_TO[name]})), st.fixed_dictionaries({name: SET[name]})
    )
)


@pytest.mark.usefixtures("cities")
@settings(
    max_examples=1000 if THOROUGH else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(name=st.sampled_from(["Plain", "Grün 7"]), written=ONE_COLUMN)
def test_events_of_one_column_are_those_of_the_portable_way(name: str, written: tuple[Any, Any]) -> None:
    rows, values = written
    assert_engines_agree([{"name": name, **row} for row in rows], values, lambda: Every.objects.filter(pk__gt=0))


def test_a_row_of_more_columns_than_a_function_takes_arguments(audit: Audit) -> None:
    audit({"name": "w", "model": "columns.Wide"})
    names = [field.name for field in Wide._meta.concrete_fields if not field.primary_key]
    row = Wide.objects.create(**dict.fromkeys(names, 1))
    for name in names[1:]:
        setattr(row, name, 2)
    row.save()
    row.save()
    assert trail() == [
        ("create", {name: [None, 1] for name in names}),
        ("update", {name: [1, 2] for name in names[1:]}),
    ]


@pytest.mark.parametrize("model", [OddlyNamed, NamedN, NamedO])
def test_tables_and_columns_named_as_parts_of_a_statement_are(audit: Audit, model: Any) -> None:
    audit({"name": "o", "model": model._meta.label})
    row = model.objects.create()
    first = trail()
    fields = [field for field in model._meta.concrete_fields if isinstance(field, models.IntegerField)]
    for number, field in enumerate([field for field in fields if not field.primary_key], 5):
        setattr(row, field.name, number)
        row.save()
        row.save(update_fields=[field.name])
        assert last().changes == {field.name: [model().__dict__[field.name], number]}
    assert len(events()) == len(first) + number - 4
    row.delete()
    assert last().event_type == "delete"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_save_that_fails_with_autocommit_off_raises_what_it_does_without_an_audit(audit: Audit, is_new: bool) -> None:
    audit(RULE)
    row = Every.objects.create(slug="taken")
    free = Every.objects.create(slug="free")
    transaction.set_autocommit(False)
    try:
        with pytest.raises(IntegrityError, match="slug"):
            Every.objects.create(slug=row.slug) if is_new else Every(pk=free.pk, slug=row.slug).save()
        transaction.rollback()
        Every(pk=free.pk, slug="other").save()
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert last().changes["slug"] == ["free", "other"]


@with_engine_for_saves
@pytest.mark.usefixtures("cities")
class TestSaves:
    def test_its_time_and_uid_are_of_one_moment(self, audit: Audit) -> None:
        audit(RULE)
        before = dt.datetime.now(dt.UTC)
        for number in range(20):
            Every.objects.create(number=number)
        found = list(AuditEvent.objects.order_by("id"))
        assert [event.uid for event in found] == sorted(event.uid for event in found)
        assert all(event.uid.version == 7 and event.correlation_id == str(event.uid) for event in found)
        assert before < found[0].recorded_at < dt.datetime.now(dt.UTC)
        for event in found:
            assert abs((event.uid.int >> 80) / 1000 - event.recorded_at.timestamp()) < 0.002

    def test_the_clock_of_a_test_that_travels_in_time_is_kept(
        self, audit: Audit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        audit(RULE)
        moment = dt.datetime(2020, 2, 29, 12, 0, 0, 7, tzinfo=dt.UTC)
        monkeypatch.setattr("django_signal_audit.recorder.utc_now", lambda: moment)
        Every.objects.create()
        assert last().recorded_at == moment

    def test_a_text_that_needs_the_key_is_asked_for_once_it_is_there(self, audit: Audit, monkeypatch: Any) -> None:
        audit({"name": "t", "model": "app.Tag"})
        texts: list[Callable[[Any], str]] = [
            lambda tag: f"tag {tag.pk}",
            lambda tag: "new" if not tag.pk else f"old {tag.pk}",
            lambda tag: "new" if tag.id is None else "old",
            lambda tag: str(tag.products.count()),
            lambda tag: "adding" if tag._state.adding else "saved",
            models.Model.__str__,
        ]
        for text in texts:
            monkeypatch.setattr(Tag, "__str__", text)
            tag = Tag.objects.create(name="x")
            assert last().object_repr == str(tag)

    def test_errors_are_those_without_an_audit(self, audit: Audit) -> None:
        audit({"name": "p", "model": "app.Product"}, RULE)
        Every.objects.create(slug="taken")
        row = Every.objects.create(slug="free")
        row.slug = "taken"
        for write in (lambda: Every.objects.create(slug="taken"), row.save):
            with pytest.raises(IntegrityError, match="slug"), transaction.atomic():
                write()
        assert len(events()) == 2

    def test_a_row_that_is_gone_is_inserted_by_a_save(self, audit: Audit) -> None:
        audit(RULE)
        row = Every.objects.create(name="a")
        Every.objects.filter(pk=row.pk).delete()
        row.save()
        assert [event.event_type for event in events()] == ["create", "delete", "create"]
        assert last().object_id == str(row.pk)

    def test_notifications_go_with_the_event(self, audit: Audit) -> None:
        User.objects.create_user("ada")
        audit({**RULE, "notify": [{"channel": "inbox", "to": ["user:ada"]}]}, CHANNELS=CHANNELS)
        row = Every.objects.create(name="a")
        row.name = "b"
        row.save()
        row.save()
        uids = [event.uid for event in events()]
        assert [one.event for one in Notification.objects.order_by("id")] == uids
        assert len(uids) == 2

    def test_related_objects_are_recorded_as_the_portable_way_does(self, audit: Audit) -> None:
        found = []
        tags = Tag.objects.bulk_create([Tag(name=str(number)) for number in range(4)])
        for engine in ("auto", "portable"):
            audit({"name": "p", "model": "app.Product", "exclude": ["modified"]}, ENGINE=engine)
            with transaction.atomic():
                row = Product.objects.create(name="a")
                row.tags.add(tags[2], tags[0])
                row.tags.add(tags[2], tags[1])
                row.tags.add(tags[2])
                row.tags.set([tags[1], tags[3]])
                row.tags.set([tags[0], tags[1], tags[3]])
                tags[2].products.add(row)
                row.delete()
                found.append(recorded())
                transaction.set_rollback(True)
        assert found[0] == found[1]
        assert [event[0] for event in found[0]] == ["create", *["m2m"] * 5, "delete"]

    def test_a_deletion_records_what_the_row_held(self, audit: Audit) -> None:
        audit({"name": "p", "model": "app.Product"})
        row = Product.objects.create(name="a", stock=1)
        Product.objects.filter(pk=row.pk).update(stock=2)
        assert row.delete() == (1, {"app.Product": 1})
        assert last().changes["stock"] == [2, None]
        assert last().object_repr == "a"

    def test_notifications_go_with_deletions_and_related_objects(self, audit: Audit) -> None:
        User.objects.create_user("ada")
        notify = [{"channel": "inbox", "to": ["user:ada"]}]
        audit({"name": "p", "model": "app.Product", "events": ["m2m", "delete"], "notify": notify}, CHANNELS=CHANNELS)
        row, tag = Product.objects.create(name="a"), Tag.objects.create(name="t")
        row.tags.add(tag)
        row.tags.add(tag)
        row.delete()
        assert [one.event for one in Notification.objects.order_by("id")] == [event.uid for event in events()]
        assert [event.event_type for event in events()] == ["m2m", "delete"]

    @pytest.mark.skipif(django.VERSION < (6, 0), reason="objects keep the expression, which is no text")
    @pytest.mark.parametrize("key", [None, 5])
    def test_a_text_of_what_the_database_has_yet_to_make(self, audit: Audit, key: int | None) -> None:
        audit({"name": "t", "model": "app.Product", "fields": ["price"]})
        product = Product.objects.create(pk=key, name=Lower(Value("OIL")), price=1)
        assert last().object_repr == "oil"
        assert AuditEvent.objects.for_object(product).count() == 1

    def test_a_uuid_is_a_key_too(self, audit: Audit) -> None:
        audit({"name": "d", "model": "app.Document"})
        key = uuid.UUID("0192f0c1-2345-7abc-8def-0123456789ab")
        with CaptureQueriesContext(connection) as queries:
            Document.objects.create(pk=key)
        assert last().object_id == str(key)
        assert len([one for one in queries if "INTO" in one["sql"] and "auditevent" in one["sql"]]) == 1

    def test_a_receiver_that_saves_another_row(self, audit: Audit) -> None:
        audit(RULE, {"name": "c", "model": "app.Category"})

        def follow(**_: Any) -> None:
            Category.objects.create(name="of the receiver")

        models.signals.pre_save.connect(follow, sender=Every)
        try:
            Every.objects.create(name="a")
        finally:
            models.signals.pre_save.disconnect(follow, sender=Every)
        assert [event.model for event in events()] == ["app.category", "columns.every"]


@on_postgresql
@pytest.mark.usefixtures("cities")
class TestPostgresql:
    @with_engine
    @pytest.mark.parametrize("number", range(3))
    def test_a_save_is_one_statement(self, audit: Audit, django_assert_num_queries: Any, number: int) -> None:
        audit(RULE)
        Every.objects.create(name="the first statement of a connection asks for more")
        with django_assert_num_queries(1):
            row = Every.objects.create(name="a", number=number)
        with django_assert_num_queries(1):
            Every(pk=row.pk, name="b").save(force_update=True)
        with django_assert_num_queries(1):
            Every(pk=row.pk, name="c").save(update_fields=["name"])
        with django_assert_num_queries(1):
            Every(pk=row.pk, name="c").save(update_fields=["name"])
        kinds = [(event.event_type, event.changes.get("name")) for event in events()[1:]]
        assert kinds == [("create", [None, "a"]), ("update", ["a", "b"]), ("update", ["b", "c"])]

    @with_engine
    def test_what_it_leaves_to_the_portable_way(self, audit: Audit) -> None:
        audit(
            RULE,
            {"name": "p", "model": "app.Product"},
            {"name": "c", "model": "app.Country", "when": {"name": "changed"}},
            {"name": "n", "model": "columns.Narrow"},
        )
        plans = get_registry().plans
        assert why_portable(plans[Every], "default") == ""
        assert why_portable(plans[Product], "default") == ""
        assert why_portable(plans[Country], "default") != ""
        assert why_portable(plans[Narrow], "default") != ""
        audit(RULE, ENGINE="portable")
        assert "ENGINE" in why_portable(get_registry().plans[Every], "default")

    def test_it_leaves_rows_of_more_columns_than_a_query_returns(self, audit: Audit, monkeypatch: Any) -> None:
        monkeypatch.setattr("django_signal_audit.capture.engines.postgresql._MOST_COLUMNS", 3)
        audit({"name": "w", "model": "columns.Wide"})
        row = Wide.objects.create()
        row.c1 = row.c119 = 1
        row.save()
        row.c2 = 1
        row.save(update_fields=["c0", "c1", "c2"])
        assert [changes for _, changes in trail()[1:]] == [{"c1": [None, 1], "c119": [None, 1]}, {"c2": [None, 1]}]

    @with_engine
    def test_statements_that_the_server_has_forgotten(self, audit: Audit) -> None:
        audit(RULE)
        for number in range(3):
            Every.objects.create(number=number)
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
        with pytest.raises(DatabaseError), transaction.atomic():
            Every.objects.create(number=3)
        for number in range(3):
            Every.objects.create(number=number)
        assert len(events()) == 6

    def test_another_session_gives_the_key_another_type(self, audit: Audit) -> None:
        audit({"name": "t", "model": "app.Tag"})
        for number in range(3):
            Tag.objects.create(name=str(number))
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE app_tag ALTER id TYPE int")
        assert isinstance(Tag.objects.create(name="a").pk, int)
        assert len(events()) == 4

    def test_a_collation_that_takes_different_texts_for_equal(self, audit: Audit) -> None:
        audit({"name": "t", "model": "app.Tag"})
        with connection.cursor() as cursor:
            cursor.execute("CREATE COLLATION any_case (provider=icu, locale='und-u-ks-level2', deterministic=false)")
            cursor.execute("ALTER TABLE app_tag ALTER name TYPE varchar(60) COLLATE any_case")
        tag = Tag.objects.create(name="api_key=hunter2secret")
        for name in ("API_KEY=HUNTER2secret", "words", "Words"):
            tag.name = name
            tag.save()
        Tag.objects.update(name="WORDS")
        assert "hunter2" not in str([event.changes for event in events()]).lower()
        assert [event.changes["name"] for event in events()][-2:] == [["words", "Words"], ["Words", "WORDS"]]
        assert len(events()) == 5

    @pytest.mark.parametrize("refused", ["ENABLE ROW LEVEL SECURITY", ""])
    @pytest.mark.parametrize(
        "write",
        [
            lambda rows: [row.save(force_insert=True) for row in rows],
            Document.objects.bulk_create,
            lambda rows: Document.objects.bulk_create(rows, batch_size=1),
        ],
    )
    def test_rows_that_may_be_written_and_not_read(self, audit: Audit, refused: str, write: Any) -> None:
        audit({"name": "d", "model": "app.Document"})
        plain = {"app_document": "INSERT", AuditEvent._meta.db_table: "INSERT, SELECT"}
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE audit_writer")
            cursor.execute("GRANT USAGE ON SCHEMA public TO audit_writer")
            cursor.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO audit_writer")
            for table, rights in plain.items():
                cursor.execute(f"GRANT {rights} ON {table} TO audit_writer")
            if refused:
                cursor.execute(f"ALTER TABLE app_document {refused}")
                cursor.execute("CREATE POLICY ins ON app_document FOR INSERT WITH CHECK (true)")
                cursor.execute("GRANT SELECT ON app_document TO audit_writer")
            cursor.execute("SET LOCAL ROLE audit_writer")
        write([Document(pk=uuid.uuid4(), title="a"), Document(pk=uuid.uuid4(), title="b")])
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")
        assert trail() == [("create", {"title": [None, "a"]}), ("create", {"title": [None, "b"]})]


def test_texts_of_many_events_are_what_objects_say(audit: Audit) -> None:
    audit({"name": "c", "model": "app.Category"})
    texts = ['"', "\\", "{}", "{a,b}", "NULL", "", "a,b", "it's", "%s", "ä€😀", "\\n", '\\"', " x ", "null"]
    for names in (texts, [*texts, "a\nb", "\t", "\x7f", "\u2028"]):
        Category.objects.bulk_create([Category(name=name) for name in names])
        assert [event.object_repr for event in events()][-len(names) :] == names
        assert [event.changes["name"][1] for event in events()][-len(names) :] == names


@on_postgresql
class TestUpdatesOfManyRows:
    @pytest.fixture(autouse=True)
    def products(self, audit: Audit) -> None:
        category = Category.objects.create(name="c")
        Product.objects.bulk_create(Product(name=f"p{at}", category=category) for at in range(3))
        audit({"name": "p", "model": "app.Product"})

    @with_engine
    def test_one_statement_writes_the_rows_and_their_events(self, django_assert_num_queries: Any) -> None:
        Product.objects.update(price=2)
        with django_assert_num_queries(1):
            assert Product.objects.filter(name__in=["p0", "p2"]).update(price=models.F("price") * 2) == 2
        with django_assert_num_queries(1):
            assert Product.objects.update(price=4) == 3
        found = events()[3:]
        assert [(event.object_repr, event.changes) for event in found] == [
            ("p0", {"price": ["2.00", "4.00"]}),
            ("p2", {"price": ["2.00", "4.00"]}),
            ("p1", {"price": ["2.00", "4.00"]}),
        ]
        assert {event.source for event in found} == {"bulk"}
        assert [event.uid for event in found] == sorted(event.uid for event in found)
        assert found[0].correlation_id == found[1].correlation_id == str(found[0].uid)

    @with_engine
    def test_each_recipient_gets_one_message_of_a_call(self, audit: Audit) -> None:
        User.objects.create_user("ada")
        audit(
            {"name": "p", "model": "app.Product", "notify": [{"channel": "inbox", "to": ["user:ada"]}]},
            CHANNELS=CHANNELS,
        )
        with CaptureQueriesContext(connection) as queries:
            Product.objects.update(price=2)
        assert [one["sql"][:4] for one in queries if "auditevent" in one["sql"]] == ["WITH"]
        assert Notification.objects.count() == 1
        assert len(events()) == 3

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (lambda self: self.name.upper(), "P1"),
            (lambda self: f"{self.name}!", "p1!"),
            (lambda self: self.missing, "<Product: __str__ raised AttributeError>"),
            (lambda self: self.slug, "<Product: __str__ raised TypeError>"),
        ],
    )
    def test_a_text_that_is_not_just_a_column_is_asked_of_the_objects(
        self, monkeypatch: Any, text: Any, told: str
    ) -> None:
        monkeypatch.setattr(Product, "__str__", text)
        Product.objects.filter(name="p1").update(price=2)
        assert last().object_repr == told

    def test_values_of_masked_fields_are_hidden_in_texts(self) -> None:
        Product.objects.filter(name="p1").update(name="a hunter2hunter2", api_token="hunter2hunter2")
        Product.objects.update(price=2)
        assert [event.object_repr for event in events()[1:]] == ["p0", "a ********", "p2"]

    def test_rows_that_sql_cannot_tell_of_are_left_to_the_portable_way(self, audit: Audit) -> None:
        Product.objects.filter(name="p1").update(name="password=hunter2hunter2")
        assert "hunter2" not in last().object_repr
        with CaptureQueriesContext(connection) as queries:
            assert Product.objects.update(price=2) == 3
        assert len(queries) > 1
        assert [event.object_repr for event in events()[1:]] == ["p0", "********", "p2"]
        assert [event.changes for event in events()[1:]] == [{"price": ["0.00", "2.00"]}] * 3


@pytest.mark.skipif(connection.vendor != "sqlite", reason="is about SQLite's engine")
@pytest.mark.usefixtures("cities")
class TestManyRowsOnSqlite:
    @pytest.fixture(autouse=True)
    def _rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Every, "__str__", lambda self: self.name)
        Every.objects.bulk_create([Every(name=f"row {at}", small=at, price=at % 7, city_id=1) for at in range(120)])

    def test_one_insert_makes_the_events(self, audit: Audit) -> None:
        audit(RULE)
        with CaptureQueriesContext(connection) as queries:
            assert (
                Every.objects.filter(small__gte=10).update(price=models.F("price") + 1, small=models.F("small")) == 110
            )
        inserts = [
            found["sql"] for found in queries if found["sql"].startswith(f'INSERT INTO "{AuditEvent._meta.db_table}"')
        ]
        assert len(inserts) == 1
        assert "django_signal_audit_changes" in inserts[0]
        found = events()
        assert [event.object_repr for event in found] == [f"row {at}" for at in range(10, 120)]
        assert [event.changes for event in found] == [
            {"price": [f"{at % 7}.0000", f"{at % 7 + 1}.0000"]} for at in range(10, 120)
        ]
        assert {event.correlation_id for event in found} == {str(found[0].uid)}
        assert [event.uid for event in found] == sorted({event.uid for event in found})

    def test_a_collation_that_takes_different_texts_for_equal(self, audit: Audit) -> None:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE columns_every RENAME COLUMN text TO former")
            cursor.execute("ALTER TABLE columns_every ADD COLUMN text text COLLATE NOCASE")
        audit(RULE)
        for text in ("abc", "ABC"):
            assert Every.objects.update(text=text) == 120
        assert [event.changes["text"] for event in events()] == [[None, "abc"]] * 120 + [["abc", "ABC"]] * 120

    def test_few_rows_go_the_portable_way(self, audit: Audit) -> None:
        audit(RULE)
        with CaptureQueriesContext(connection) as queries:
            assert Every.objects.filter(small__lt=10).update(number=1) == 10
        assert not any("django_signal_audit_changes" in found["sql"] for found in queries)
        assert len(events()) == 10

    def test_rows_that_are_being_read_meanwhile(self, audit: Audit) -> None:
        audit(RULE)
        rows = Every.objects.order_by("pk").iterator(chunk_size=2)
        next(rows)
        assert Every.objects.update(number=1) == 120
        assert Every.objects.update(number=2) == 120
        next(rows)
        assert [event.changes["number"] for event in events()] == [[None, 1]] * 120 + [[1, 2]] * 120

    def test_an_update_that_is_rolled_back_leaves_nothing(self, audit: Audit) -> None:
        audit(RULE)
        with transaction.atomic():
            Every.objects.update(number=1)
            transaction.set_rollback(True)
        assert Every.objects.update(number=2) == 120
        assert [event.changes["number"] for event in events()] == [[None, 2]] * 120

    def test_an_error_is_that_without_an_audit(self, audit: Audit) -> None:
        audit(RULE)
        with pytest.raises(IntegrityError, match="slug"), transaction.atomic():
            Every.objects.update(slug="same")
        assert events() == []
        assert not Every.objects.filter(slug="same").exists()

    def test_values_that_no_field_writes_are_recorded_as_the_portable_way_does(self, audit: Audit) -> None:
        told = []
        odd = {"number": "'text'", "flag": "2", "price": "1e300", "day": "'no day'", "ratio": "-0.0", "name": "x'00ff'"}
        for engine in ("auto", "portable"):
            audit(RULE, ENGINE=engine)
            for name, value in odd.items():
                with transaction.atomic():
                    with connection.cursor() as cursor:
                        cursor.execute(f"UPDATE {Every._meta.db_table} SET {name} = {value} WHERE small = 3")
                    with suppress(Exception):
                        Every.objects.update(number=5, flag=True, price=2, day=dt.date(2020, 1, 1), ratio=0.0)
                    told.append((name, recorded()))
                    transaction.set_rollback(True)
        assert told[: len(odd)] == told[len(odd) :]

    def test_notifications_go_with_the_events(self, audit: Audit) -> None:
        User.objects.create_user("ada")
        audit({**RULE, "notify": [{"channel": "inbox", "to": ["user:ada"]}]}, CHANNELS=CHANNELS)
        Every.objects.update(number=1)
        [told] = Notification.objects.all()
        assert len(events()) == 120
        assert all(str(event.uid) in json.dumps(told.data) for event in events()[:20])


@contextmanager
def held(sql: str, then: Callable[[], object] = bool) -> Iterator[None]:
    """Run a statement in another transaction, which does something else and ends once somebody waits for it."""
    is_done = threading.Event()

    def hold() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)
            is_done.set()
            for _ in range(1000):
                cursor.execute(WAITING)
                if cursor.fetchone()[0]:
                    break
                time.sleep(0.01)
            then()
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    is_done.wait()
    yield
    thread.join()


# What is done with a row that somebody else is changing; his change frees the slug.
WAITING_WRITES: dict[str, Callable[[Product], Any]] = {
    "create": lambda row: Product.objects.create(name=row.name, slug=row.slug),
    "save": lambda row: Product(pk=row.pk, name=row.name, stock=8).save(force_update=True),
    "update_fields": lambda row: Product(pk=row.pk, name=row.name, stock=8).save(update_fields=["stock"]),
    "update": lambda row: Product.objects.filter(pk=row.pk).update(stock=models.F("stock") + 1),
    "delete": lambda row: row.delete(),
    "queryset delete": lambda row: Product.objects.filter(pk=row.pk).delete(),
}


@on_postgresql
@pytest.mark.django_db(transaction=True)
class TestUpdatesThatWait:
    def test_the_old_value_is_the_one_that_was_replaced(self, audit: Audit) -> None:
        rows = [Product.objects.create(name=f"p{at}", stock=5) for at in range(2)]
        audit({"name": "p", "model": "app.Product"})
        with held(f"UPDATE app_product SET stock = 70 WHERE id = {rows[1].pk}"):
            assert Product.objects.filter(stock__gte=5).update(stock=models.F("stock") + 1) == 2
        assert [event.changes for event in events()] == [{"stock": [5, 6]}, {"stock": [70, 71]}]

    def test_a_deletion_records_what_it_waited_for(self, audit: Audit) -> None:
        row = Product.objects.create(name="p", stock=5)
        audit({"name": "p", "model": "app.Product"})
        with held(f"UPDATE app_product SET stock = 70 WHERE id = {row.pk}"):
            row.delete()
        assert [event.changes["stock"] for event in events()] == [[70, None]]

    @pytest.mark.parametrize("engine", ["auto", "portable"])
    @pytest.mark.parametrize("write", WAITING_WRITES)
    def test_its_time_and_uid_follow_those_of_whom_it_waited_for(self, audit: Audit, write: str, engine: str) -> None:
        rows = [Product.objects.create(name=f"p{at}", slug=f"s{at}", stock=5) for at in range(2)]
        audit({"name": "p", "model": "app.Product", "fields": ["name", "slug", "stock"]}, ENGINE=engine)
        sql = f"UPDATE app_product SET stock = 70, slug = NULL WHERE id = {rows[0].pk}"
        with held(sql, lambda: Product.objects.filter(pk=rows[1].pk).update(stock=6)):
            WAITING_WRITES[write](rows[0])
        theirs, own = events()
        assert (theirs.object_id, own.object_repr) == (str(rows[1].pk), "p0")
        assert theirs.recorded_at < own.recorded_at
        assert theirs.uid < own.uid

    def test_a_row_that_ceases_to_match_is_left_alone(self, audit: Audit) -> None:
        rows = [Product.objects.create(name=f"p{at}", stock=5) for at in range(2)]
        audit({"name": "p", "model": "app.Product"})
        with held(f"UPDATE app_product SET stock = 70 WHERE id = {rows[1].pk}"):
            assert Product.objects.filter(stock=5).update(stock=models.F("stock") + 1) == 1
        assert [event.object_repr for event in events()] == ["p0"]

    @pytest.mark.parametrize("count", [1, 2])
    def test_a_row_that_gets_another_primary_key_is_updated(self, audit: Audit, count: int) -> None:
        rows = [Product.objects.create(name=f"p{at}", stock=5) for at in range(count)]
        audit({"name": "p", "model": "app.Product"})
        with held(f"UPDATE app_product SET id = {rows[-1].pk + 100} WHERE id = {rows[-1].pk}"):
            assert Product.objects.filter(stock=5).update(stock=6) == count
        assert {event.object_id for event in events()} == {
            str(pk) for pk in Product.objects.values_list("pk", flat=True)
        }
        assert len(events()) == count


@pytest.mark.skipif(not SAVES_ARE_ONE_STATEMENT, reason="only the engine for PostgreSQL prepares statements")
def test_the_log_of_queries_has_the_text_of_prepared_statements(audit: Audit) -> None:
    audit({"name": "tags", "model": "app.Tag"})
    Tag.objects.create(name="x")
    with CaptureQueriesContext(connection) as queries:
        for _ in range(4):
            Tag.objects.create(name="x")
    assert [query for query in queries if "app_tag" not in query["sql"]] == []
