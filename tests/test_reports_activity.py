from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.activity import DIMENSIONS, _rows, activity
from django_signal_audit.reports.arguments import EventFilter
from django_signal_audit.reports.base import WrongArgument
from django_signal_audit.reports.formatter import local

from .samples import NOON, make_event

pytestmark = pytest.mark.django_db


def counts(*by, events=None):
    """Return the rows of a report without their headings."""
    return [tuple(row) for row in activity(AuditEvent.objects.all() if events is None else events, by).rows]


def names(*by):
    return [column.name for column in activity(AuditEvent.objects.all(), by).columns]


class TestCounting:
    def test_model_and_event_is_the_default_and_the_largest_group_comes_first(self):
        make_event(event_type="create")
        make_event()
        make_event()
        make_event(model="auth.group")
        assert names() == ["model", "event", "count"]
        assert counts() == [("auth.user", "update", 2), ("auth.group", "update", 1), ("auth.user", "create", 1)]

    def test_an_object_goes_by_its_newest_name(self):
        make_event(object_repr="zoe")
        make_event(object_repr="ada")
        make_event(object_id="4", object_repr="bob")
        assert names("object") == ["model", "object_id", "object", "count"]
        assert counts("object") == [("auth.user", "3", "ada", 2), ("auth.user", "4", "bob", 1)]

    def test_an_actor_goes_by_the_newest_name_and_nobody_is_a_group(self):
        make_event(actor_id="7", actor_repr="old name")
        make_event(actor_id="7", actor_repr="new name")
        make_event()
        assert counts("actor") == [("7", "new name", 2), ("", "", 1)]

    def test_an_event_counts_for_each_of_its_rules_and_fields(self):
        make_event(rules=["a", "b"], changes={"email": ["x", "y"], "groups": {"added": [1], "removed": []}})
        make_event(rules=["b"], changes={"email": ["y", "z"]})
        assert counts("rule") == [("b", 2), ("a", 1)]
        assert counts("field") == [("email", 2), ("groups", 1)]
        assert counts("rule", "field") == [("b", "email", 2), ("a", "email", 1), ("a", "groups", 1), ("b", "groups", 1)]

    def test_listed_and_plain_dimensions_go_together(self):
        make_event(rules=["a"], object_repr="old")
        make_event(rules=["a"], object_repr="new")
        make_event(rules=["a"], model="auth.group")
        assert counts("object", "rule") == [("auth.user", "3", "new", "a", 2), ("auth.group", "3", "ada", "a", 1)]

    def test_a_column_two_dimensions_share_is_printed_once(self):
        make_event()
        assert names("model", "object") == ["model", "object_id", "object", "count"]

    @pytest.mark.parametrize("by", ["model", "object", "event", "actor", "rule", "field", "day", "hour"])
    def test_grouping_is_left_to_the_database(self, by):
        for number in range(20):
            make_event(
                object_repr=str(number), rules=["a", "b"], changes={"email": [number, 1], "name": ["a", "b"]},
                recorded_at=NOON + dt.timedelta(seconds=number),
            )  # fmt: skip
        assert {row[-1] for row in counts(by)} == {20}
        # PostgreSQL counts each of the two fields, the others all fields of an event together.
        groups = 2 if by == "field" and connection.vendor == "postgresql" else 1
        assert len(list(_rows(AuditEvent.objects.all(), [DIMENSIONS[by]]))) == groups

    def test_what_is_no_object_has_no_fields(self):
        for changes in ([1, 2], "text", 3, [[]]):
            make_event(changes=changes)
        make_event(changes={'a "b" ü': [1, 2]})
        assert counts("field") == [('a "b" ü', 1)]

    def test_of_rules_and_objects_together(self):
        make_event(rules=["a"], object_id="1")
        make_event(rules=["a", "b"], object_id="1")
        assert counts("rule", "object", "event") == [
            ("a", "auth.user", "1", "ada", "update", 2),
            ("b", "auth.user", "1", "ada", "update", 1),
        ]

    def test_more_captions_than_fit_one_query(self):
        events = [
            AuditEvent(event_type="update", source="orm", model="auth.user", object_id=str(n), object_repr=f"user {n}")
            for n in range(1100)
        ]
        AuditEvent.objects.bulk_create(events)
        rows = counts("object")
        assert len(rows) == 1100
        assert all(name == f"user {key}" for _, key, name, _ in rows)

    @pytest.mark.parametrize("by", [["object"], ["actor"], ["model", "event"], ["rule"], ["field"], ["day", "object"]])
    def test_the_largest_groups_are_those_of_all(self, by):
        for number in range(60):
            event = {"object_id": str(number % 7), "actor_id": str(number % 5), "event_type": f"event{number % 3}"}
            make_event(**event, rules=[f"rule{number % 4}"], changes={f"field{number % 6}": [1, 2]})
        every = activity(AuditEvent.objects.all(), by).rows
        for top in (1, 3, 100):
            found = activity(AuditEvent.objects.all(), by, top).rows
            assert found == (sorted(every, key=lambda row: -row[-1]) if "day" not in by else every)[:top]

    def test_only_the_largest_groups_are_read(self):
        for number in range(300):
            make_event(object_id=str(number % 100))
        with CaptureQueriesContext(connection) as queries:
            assert len(activity(AuditEvent.objects.all(), ["object"], 5).rows) == 5
        assert [query["sql"].endswith("LIMIT 5") for query in queries if "GROUP BY" in query["sql"]] == [True]

    @pytest.mark.parametrize("by", [["object"], ["rule"], ["object", "rule"]])
    def test_where_most_are_shown_it_says_that_there_are_more(self, by):
        for number in range(12):
            make_event(object_id=str(number % 5), rules=[f"rule{number % 5}"])
        every = activity(AuditEvent.objects.all(), by)
        cut = activity(AuditEvent.objects.all(), by, most=4)
        assert list(cut.rows) == every.rows[:4]
        assert cut.rest == "There are more: these are the 4 with the most events."
        assert cut.title == every.title
        assert activity(AuditEvent.objects.all(), by, most=5).rows == every.rows
        assert activity(AuditEvent.objects.all(), by, most=5).rest == ""

    def test_who_asks_for_a_number_of_groups_has_no_other(self):
        for number in range(5):
            make_event(object_id=str(number))
        found = activity(AuditEvent.objects.all(), ["object"], top=3, most=2)
        assert (len(found.rows), found.rest) == (3, "")

    def test_days_are_never_cut(self):
        for number in range(5):
            make_event(recorded_at=NOON + dt.timedelta(days=number), object_id=str(number))
        found = activity(AuditEvent.objects.all(), ["day", "object"], most=2)
        assert (len(found.rows), found.rest) == (5, "")

    def test_fields_and_others_together(self):
        for number in range(6):
            make_event(object_id=str(number % 2), changes={"a": [1, 2], f"b{number % 3}": [1, 2]}, rules=["x", "y"])
        assert counts("field", "object", "rule")[:2] == [
            ("a", "auth.user", "0", "ada", "x", 3),
            ("a", "auth.user", "0", "ada", "y", 3),
        ]
        assert sum(row[-1] for row in counts("field", "day")) == 12

    def test_nothing_gives_no_rows(self):
        assert counts("rule") == []


class TestTimes:
    def test_days_are_the_readers_and_in_order(self):
        make_event(recorded_at=dt.datetime(2026, 3, 10, 22, 59, tzinfo=dt.UTC))
        make_event(recorded_at=dt.datetime(2026, 3, 10, 23, 1, tzinfo=dt.UTC))
        make_event(recorded_at=dt.datetime(2026, 3, 10, 23, 2, tzinfo=dt.UTC))
        assert counts("day") == [(dt.date(2026, 3, 10), 1), (dt.date(2026, 3, 11), 2)]
        with timezone.override(dt.timezone(dt.timedelta(hours=5, minutes=45))):
            assert counts("day") == [(dt.date(2026, 3, 11), 3)]

    def test_hours_carry_their_offset_so_that_the_doubled_one_is_two(self):
        make_event(recorded_at=dt.datetime(2026, 10, 25, 0, 30, tzinfo=dt.UTC))
        make_event(recorded_at=dt.datetime(2026, 10, 25, 1, 30, tzinfo=dt.UTC))
        assert [(hour.isoformat(), count) for hour, count in counts("hour")] == [
            ("2026-10-25T02:00:00+02:00", 1),
            ("2026-10-25T02:00:00+01:00", 1),
        ]

    @pytest.mark.parametrize(
        "zone",
        ["UTC", "Europe/Vienna", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca",
         "Pacific/Apia", "Asia/Kathmandu", None],
    )  # fmt: skip
    @pytest.mark.parametrize("start", [dt.datetime(2026, 3, 1, tzinfo=dt.UTC), dt.datetime(2011, 12, 1, tzinfo=dt.UTC)])
    def test_days_and_hours_are_those_of_each_event(self, zone, start, settings):
        settings.USE_TZ = zone is not None
        chance = random.Random(5)
        moments = [start + dt.timedelta(minutes=chance.randrange(60 * 24 * 50)) for _ in range(150)]
        changes = [dt.datetime(2026, 3, 29, 1, tzinfo=dt.UTC), dt.datetime(2026, 4, 4, 15, tzinfo=dt.UTC)]
        moments += [change + dt.timedelta(seconds=second) for change in changes for second in (-1, 0, 1, -3600, 1800)]
        if zone is None:
            moments = [moment.replace(tzinfo=None) for moment in moments]
        for number, moment in enumerate(moments):
            make_event(recorded_at=moment, actor_id=str(number % 2))
        with timezone.override(zone and ZoneInfo(zone)):
            times = [local(moment) for moment in moments]
            days = Counter(time.date() for time in times)
            offsets = [dt.timezone(time.utcoffset()) for time in times]
            hours = Counter(
                time.replace(minute=0, second=0, tzinfo=offset).isoformat()
                for time, offset in zip(times, offsets, strict=True)
            )
            assert counts("day") == sorted(days.items())
            found = {hour.isoformat(): count for hour, count in counts("hour")}
            assert found == hours
            assert sum(row[-1] for row in counts("day", "hour")) == len(times)
            rows = list(_rows(AuditEvent.objects.all(), [DIMENSIONS["day"], DIMENSIONS["actor"]]))
            assert len(rows) <= 2 * len(days)

    def test_times_that_are_far_apart_are_counted_too(self):
        for moment in ("0001-01-01T00:00", "1970-01-01T00:00", "2026-03-10T12:00", "9999-12-31T23:59"):
            make_event(recorded_at=dt.datetime.fromisoformat(f"{moment}+00:00"))
        with timezone.override("UTC"):
            assert [count for _day, count in counts("day")] == [1, 1, 1, 1]
            assert [count for _hour, count in counts("hour")] == [1, 1, 1, 1]

    def test_time_orders_before_size(self):
        make_event(recorded_at=NOON, rules=["a"])
        make_event(recorded_at=NOON + dt.timedelta(days=1), rules=["a"])
        make_event(recorded_at=NOON + dt.timedelta(days=1), rules=["a"])
        assert counts("day", "rule") == [(dt.date(2026, 3, 10), "a", 1), (dt.date(2026, 3, 11), "a", 2)]


class TestFilter:
    def test_each_part_narrows(self):
        wanted = make_event(
            model="auth.group", object_id="9", event_type="delete", actor_id="7", actor_repr="root",
            level="critical", rules=["x", "y"], recorded_at=NOON,
        )  # fmt: skip
        make_event(recorded_at=NOON + dt.timedelta(hours=1))
        parts = [
            {"model": "auth.group"}, {"object_id": "9"}, {"event_type": "delete"}, {"actor": "7"}, {"actor": "root"},
            {"level": "critical"}, {"rule": "y"}, {"until": NOON + dt.timedelta(seconds=1)},
        ]  # fmt: skip
        for part in parts:
            assert list(EventFilter(**part).find("default")) == [wanted], part

    def test_a_name_that_is_the_key_of_somebody_else_finds_that_one_alone(self):
        wanted = make_event(actor_id="7", actor_repr="ann")
        make_event(actor_id="2", actor_repr="7")
        assert list(EventFilter(actor="7").find("default")) == [wanted]
        assert list(EventFilter(actor="ann").find("default")) == [wanted]

    def test_since_is_included_and_until_is_not(self):
        make_event(recorded_at=NOON)
        assert EventFilter(since=NOON).find("default").count() == 1
        assert EventFilter(until=NOON).find("default").count() == 0

    @pytest.mark.parametrize(
        "rule", ["plain", 'quo"te', "back\\slash", "per%cent", "under_score", "für ✓", "x, y", "[]", "'", "<b>", "☃️"]
    )
    def test_a_rule_is_found_by_its_exact_name(self, rule):
        found = make_event(rules=["other", rule])
        make_event(rules=["other", f"{rule}2", f'a"{rule}"', rule.upper() + "x"])
        make_event(rules=[])
        assert list(EventFilter(rule=rule).find("default")) == [found]

    def test_no_separator_between_names_passes_for_a_name(self):
        make_event(rules=["a", "b"])
        assert not EventFilter(rule=", ").find("default").exists()
        assert not EventFilter(rule='a", "b').find("default").exists()


def test_an_unknown_dimension_names_the_nearest():
    with pytest.raises(WrongArgument, match=r"'modle'. Did you mean 'model'\?"):
        activity(AuditEvent.objects.all(), ["modle"])
