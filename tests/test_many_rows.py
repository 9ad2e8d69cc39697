"""Rows that come or go by one statement: their events are described column by column, as one row's is by its change."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, models, transaction
from django.test.utils import CaptureQueriesContext, override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_signal_audit.capture.stored_values import certainty, stored_values
from django_signal_audit.events.secret_texts import HIDDEN
from django_signal_audit.models import Notification

from .app.models import Product, Tag
from .columns.models import City, Every
from .conftest import Audit, events
from .processes.stage import THOROUGH
from .test_engines import CHANNELS, ROWS, RULE, untagged

pytestmark = pytest.mark.django_db
WRITERS = ("bulk_inserts", "queries")


def told() -> list[tuple[Any, ...]]:
    return [
        (event.event_type, event.source, event.level, event.rules, event.model, untagged(event), event.object_repr)
        for event in events()
    ]


@settings(
    max_examples=1000 if THOROUGH else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=st.lists(ROWS, min_size=1, max_size=4), is_text=st.booleans())
def test_events_of_whole_rows_are_those_of_their_changes(rows: list[dict[str, Any]], is_text: bool) -> None:
    found = []
    for is_usual in (True, False):
        with ExitStack() as stack:
            if is_text:
                stack.enter_context(mock.patch.object(Every, "__str__", lambda self: self.name))
            for module in () if is_usual else WRITERS:
                name = f"django_signal_audit.capture.{module}.may_record_rows"
                stack.enter_context(mock.patch(name, return_value=False))
            stack.enter_context(override_settings(SIGNAL_AUDIT={"RULES": [RULE]}))
            stack.enter_context(transaction.atomic())
            City.objects.bulk_create([City(pk=1, name="one"), City(pk=2, name="two")])
            Every.objects.bulk_create([Every(**{**row, "slug": None}) for row in rows])
            Every.objects.order_by("pk").delete()
            # A DELETE has no order.
            found.append(sorted(told(), key=repr))
            transaction.set_rollback(True)
    assert len(found[0]) == len(rows) * 2
    for one, other in zip(*found, strict=True):
        assert one[:-1] == other[:-1]
        # What has the object itself knows the secrets of all its columns.
        assert one[-1] == other[-1] or HIDDEN in other[-1]


def test_what_many_events_share_is_written_once(audit: Audit) -> None:
    audit()
    with CaptureQueriesContext(connection) as queries:
        rows = Product.objects.bulk_create([Product(name=f"p{number}") for number in range(300)])
        Product.objects.all().delete()
    inserts = [one["sql"] for one in queries if one["sql"].startswith("INSERT") and "auditevent" in one["sql"]]
    # Older versions of Django give SQLite 999 parameters, and split the rows as well.
    is_split = connection.features.max_query_params == 999
    assert len(inserts) <= 6 if is_split else len(inserts) == 2
    found = events()
    assert [event.object_id for event in found[:300]] == [str(row.pk) for row in rows]
    assert sorted(event.object_id for event in found[300:]) == sorted(str(row.pk) for row in rows)
    assert [event.uid for event in found] == sorted(event.uid for event in found)
    assert len({event.correlation_id for event in found[300:]}) == 1
    assert {event.object_repr for event in found} == {f"p{number}" for number in range(300)}


def test_secrets_and_odd_names_of_many_rows_are_hidden_and_kept(audit: Audit) -> None:
    audit()
    names = ["{}", "a: b", "password=hunter22", "ä€😀", "50 %", '"quoted"\n', "--token abcdefgh", "x" * 45]
    Product.objects.bulk_create([Product(name=name) for name in names])
    for event, row in zip(events(), Product.objects.order_by("pk"), strict=True):
        change = event.changes["name"]
        assert change == [None, row.name] or "hunter22" not in json.dumps(change)
        assert "hunter22" not in event.object_repr


@pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL keeps no NUL")
def test_a_text_that_hides_a_secret_behind_a_nul_is_looked_through(audit: Audit) -> None:
    audit()
    rows = Product.objects.bulk_create([Product(name="Bolt\0 password=hunter22", stock=at) for at in range(60)])
    Product.objects.update(stock=100)
    told = {event.object_repr for event in events(event_type="update")}
    assert len(events(event_type="update")) == len(rows)
    assert told == {event.object_repr for event in events(event_type="create")}
    assert not any("\0" in text for text in told)


def test_long_rows_are_not_gathered_until_they_are_many(audit: Audit) -> None:
    audit(RULE)
    Every.objects.bulk_create([Every(text="x" * 100) for _ in range(300)])
    with (
        mock.patch("django_signal_audit.capture.queries.CHUNK_BYTES", 15_000),
        CaptureQueriesContext(connection) as queries,
        mock.patch.object(Every, "__str__", lambda self: self.name),
    ):
        Every.objects.all().delete()
    inserts = [one["sql"] for one in queries if one["sql"].startswith("INSERT") and "auditevent" in one["sql"]]
    assert len(events(event_type="delete")) == 300
    assert len(inserts) >= 1


def test_notifications_name_the_events_of_rows_that_came(audit: Audit) -> None:
    User.objects.create_user("ada")
    audit(
        {"name": "p", "model": "app.Product", "notify": [{"channel": "inbox", "to": ["user:ada"]}]}, CHANNELS=CHANNELS
    )
    Product.objects.bulk_create([Product(name="a"), Product(name="b")])
    [one] = Notification.objects.all()
    assert all(str(event.uid) in json.dumps(one.data) for event in events())
    assert len(events()) == 2


def test_rows_of_one_deletion_that_it_reached_in_several_ways_keep_their_sources(audit: Audit) -> None:
    audit()
    rows = Product.objects.bulk_create([Product(name=f"p{number}") for number in range(150)])
    for row in rows[:2]:
        row.tags.add(Tag.objects.create(name=row.name))
    before = len(events())
    Product.objects.all().delete()
    found = events()[before:]
    assert {event.source for event in found} == {"bulk"}
    assert [event.object_id for event in found if "tags" in event.changes] == [str(row.pk) for row in rows[:2]]


@pytest.mark.django_db(transaction=True)
def test_a_deletion_that_fails_midway_leaves_rows_and_no_events(audit: Audit) -> None:
    Product.objects.bulk_create([Product(name=f"p{number}") for number in range(250)])
    audit()
    count = 0

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal count
        if sql.startswith("DELETE") and "app_product" in sql and "app_product_tags" not in sql:
            count += 1
            if count == 3:
                msg = "the disk is full"
                raise DatabaseError(msg)
        return execute(sql, params, many, context)

    with pytest.raises(DatabaseError, match="the disk is full"), connection.execute_wrapper(fail):
        Product.objects.all().delete()
    assert (Product.objects.count(), events()) == (250, [])
    Product.objects.all().delete()
    assert len(events()) == 250


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("number", [1, True, None, 2**31]),
        ("flag", [True, False, 1]),
        ("name", ["a", "b" * 201]),
        ("price", [Decimal("1.0000"), Decimal("-0.0000"), Decimal("1.5"), Decimal("NaN"), Decimal("1E+3")]),
        ("price", [Decimal("1.0000"), Decimal("9" * 16 + ".0000"), Decimal("9" * 17 + ".0000")]),
        ("day", [date(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC)]),
        ("ref", [UUID(int=1), "1"]),
        ("document", [{"a": [1, 2.5]}, {"a": {"b": 2**60}}, {"a": [True, None, "x"]}, {1: 2}, [], "x"]),
    ],
)
def test_a_column_of_usual_values_is_told_as_each_of_them_is(field: str, values: list[Any]) -> None:
    certain = certainty(Every._meta.get_field(field), Every, "default")
    one_by_one = [told for value in values for told in stored_values(certain, [value], connection.vendor)]
    assert repr(stored_values(certain, values, connection.vendor)) == repr(one_by_one)
    plain: models.Field[Any, Any] = certain[0]
    assert certain[1] is not None
    by_rule = [None if value is None else certain[1](plain, value, connection.vendor) for value in values]
    assert repr(one_by_one) == repr(by_rule)
