"""Events are recorded at true instants, whatever time zone the project, the database or the session has."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.db.models import Max, Min
from django.utils import timezone

from django_signal_audit.capture import rows
from django_signal_audit.events.values import as_utc
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models import events as event_models
from django_signal_audit.retention.pruning import Pruning, Retention
from django_signal_audit.rules.durations import parse_period

from .app.models import Tag
from .columns.models import Measured
from .conftest import Audit, events
from .samples import make_event

pytestmark = pytest.mark.django_db

ZONES = ["UTC", "Europe/Vienna", "America/New_York", "Asia/Kolkata"]
# The clocks of Vienna were put back at 01:00 UTC: 02:30 happened twice.
BEFORE = dt.datetime(2025, 10, 26, 0, 30, tzinfo=dt.UTC)
AFTER = dt.datetime(2025, 10, 26, 1, 30, tzinfo=dt.UTC)
# The clocks of Vienna were put forward at 01:00 UTC: 02:00 to 03:00 didn't happen.
SPRING = [dt.datetime(2025, 3, 30, hour, 15, 0, 123456, tzinfo=dt.UTC) for hour in range(4)]


def stored() -> list[dt.datetime]:
    """Return the moments in the column, oldest event first, as SQL tells them without Django."""
    is_postgresql = connection.vendor == "postgresql"
    column = "CAST(EXTRACT(EPOCH FROM recorded_at) * 1000000 AS bigint)" if is_postgresql else "recorded_at"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM django_signal_audit_auditevent ORDER BY id")
        return [_moment(value) for (value,) in cursor.fetchall()]


def _moment(value: Any) -> dt.datetime:
    if isinstance(value, int):
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=value)
    naive = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return naive.replace(tzinfo=dt.UTC)


@pytest.fixture(params=ZONES)
def naive_project(request: Any, settings: Any) -> Iterator[str]:
    """Turn the project into one with ``USE_TZ = False`` in some time zone."""
    settings.TIME_ZONE = request.param
    settings.USE_TZ = False
    # No project changes it while it runs: how columns are read is found out once for a connection.
    rows.compiled_for(connections["default"]).clear()
    yield request.param
    rows.compiled_for(connections["default"]).clear()


@pytest.fixture
def zone_of_the_database(settings: Any) -> Iterator[None]:
    """Give the database a time zone of its own."""
    before = connection.settings_dict["TIME_ZONE"]
    _set_zone("Europe/Vienna")
    yield
    _set_zone(before)


def _set_zone(name: str | None) -> None:
    # The proxy that Django exports as "connection" has a __dict__ of its own, without what the wrapper caches.
    wrapper = connections["default"]
    wrapper.settings_dict["TIME_ZONE"] = name
    for cached in ("timezone", "timezone_name"):
        wrapper.__dict__.pop(cached, None)
    wrapper.ensure_timezone()


class Clock:
    """Says what the time is."""

    def __init__(self, monkeypatch: Any) -> None:
        self.now = BEFORE

        class Datetime(dt.datetime):
            @classmethod
            def now(cls, tz: Any = None) -> dt.datetime:
                return self.now.astimezone(tz) if tz else self.now.replace(tzinfo=None)

        class Module:
            datetime = Datetime
            UTC = dt.UTC

        monkeypatch.setattr(event_models, "dt", Module)


def save_at(clock: Clock, *moments: dt.datetime) -> None:
    """Save a tag at each of these moments: one row, then many rows in one statement."""
    for number, moment in enumerate(moments):
        clock.now = moment
        if number % 2:
            Tag.objects.bulk_create([Tag(name=f"{number}a"), Tag(name=f"{number}b")])
        else:
            Tag.objects.create(name=f"{number}")


@pytest.mark.usefixtures("zone_of_the_database")
@pytest.mark.skipif(connection.features.supports_timezones, reason="a column of this database holds a true instant")
class TestAnHourThatComesTwice:
    """Columns without a zone hold the time of clocks: 01:30 UTC comes back as 00:30, and so the event must have it."""

    RULES: ClassVar = [{"name": "all", "model": "columns.measured"}]

    def test_every_write_is_recorded_as_the_column_holds_it(self, audit: Audit) -> None:
        audit(*self.RULES)
        row = Measured.objects.create(at=SPRING[0], seen=AFTER)
        row.seen = BEFORE
        row.save()
        Measured.objects.bulk_create([Measured(at=SPRING[1], seen=AFTER)])
        Measured.objects.filter(at=SPRING[0]).update(seen=AFTER + dt.timedelta(minutes=7))
        recorded = [event.field_changes["seen"].new for event in events() if "seen" in event.changes]
        assert recorded == [BEFORE, BEFORE, BEFORE + dt.timedelta(minutes=7)]
        call_command("audit_replay", "--check", verbosity=0)

    def test_a_moment_as_the_key(self, audit: Audit) -> None:
        audit(*self.RULES)
        row = Measured.objects.create(at=AFTER)
        row.seen = SPRING[0]
        row.save()
        Measured.objects.update(seen=SPRING[1])
        Measured.objects.all().delete()
        Measured.objects.create(at=BEFORE)
        call_command("audit_replay", "--check", verbosity=0)
        assert len({event.object_id for event in events()}) == 1
        assert [event.event_type for event in events()] == ["create", "update", "update", "delete", "create"]


@pytest.mark.usefixtures("naive_project")
class TestNaiveProject:
    def test_what_is_recorded_now_is_stored_as_now(self, audit: Audit) -> None:
        audit()
        before = dt.datetime.now(dt.UTC)
        Tag.objects.create(name="one")
        Tag.objects.bulk_create([Tag(name="two"), Tag(name="three")])
        after = dt.datetime.now(dt.UTC)
        assert len(stored()) == 3
        assert all(before <= moment <= after for moment in stored())
        assert [as_utc(event.recorded_at) for event in events()] == stored()
        assert all(timezone.is_naive(event.recorded_at) for event in events())

    @pytest.mark.parametrize("moments", [[BEFORE, AFTER], SPRING])
    def test_the_order_holds_when_clocks_change(self, audit: Audit, monkeypatch: Any, moments: Any) -> None:
        audit()
        save_at(Clock(monkeypatch), *moments)
        assert sorted(set(stored())) == sorted(moments)
        assert all(one <= other for one, other in pairwise(stored()))
        assert [as_utc(event.recorded_at) for event in events()] == stored()
        by_time = AuditEvent.objects.order_by("recorded_at", "id").values_list("id", flat=True)
        assert list(by_time) == [event.pk for event in events()]

    def test_every_way_to_read_agrees(self, audit: Audit) -> None:
        audit()
        for moment in (BEFORE, AFTER):
            make_event(recorded_at=moment)
        rows = AuditEvent.objects.order_by("id")
        assert list(map(as_utc, rows.values_list("recorded_at", flat=True))) == [BEFORE, AFTER]
        assert list(map(as_utc, rows.values_list("recorded_at", flat=True).distinct())) == [BEFORE, AFTER]
        ends = rows.aggregate(first=Min("recorded_at"), last=Max("recorded_at"))
        assert (as_utc(ends["first"]), as_utc(ends["last"])) == (BEFORE, AFTER)
        sliced = rows[:2].aggregate(last=Max("recorded_at"))
        assert as_utc(sliced["last"]) == AFTER
        assert rows.filter(recorded_at__in=rows.values("recorded_at")).count() == 2
        assert as_utc(rows.get(recorded_at=AFTER).recorded_at) == AFTER
        if connection.Database.__name__ == "psycopg2":
            return  # of a raw query it tells the clock's time alone, which comes twice
        raw = AuditEvent.objects.raw("SELECT * FROM django_signal_audit_auditevent ORDER BY id")
        assert [as_utc(event.recorded_at) for event in raw] == [BEFORE, AFTER]

    def test_values_in_an_hour_that_clocks_leave_out_are_those_of_the_column(self, audit: Audit) -> None:
        audit({"name": "all", "model": "columns.measured"})
        gap = dt.datetime(2025, 3, 30, 2, 30)
        row = Measured.objects.create(at=gap, seen=gap)
        row.refresh_from_db()
        row.seen = gap + dt.timedelta(minutes=5)
        row.save()
        Measured.objects.bulk_create([Measured(at=dt.datetime(2025, 1, 1), seen=gap)])
        row.delete()
        call_command("audit_replay", "--check", verbosity=0)
        assert len({event.object_id for event in events()}) == 2

    def test_between_takes_aware_moments_and_naive_ones_in_utc(self) -> None:
        for moment in (BEFORE, AFTER):
            make_event(recorded_at=moment)
        second = dt.timedelta(seconds=1)
        for start, end, count in [
            (BEFORE, AFTER, 1),
            (BEFORE, AFTER + second, 2),
            (BEFORE + second, AFTER + second, 1),
            (BEFORE + second, AFTER, 0),
        ]:
            assert AuditEvent.objects.between(start, end).count() == count
            naive = start.replace(tzinfo=None), end.replace(tzinfo=None)
            assert AuditEvent.objects.between(*naive).count() == count
        first, last = events()
        assert AuditEvent.objects.between(first.recorded_at, last.recorded_at).get() == first

    def test_pages_end_though_an_hour_comes_twice(self) -> None:
        keys = [make_event(recorded_at=moment).pk for moment in (BEFORE, BEFORE, AFTER, AFTER, AFTER)]
        pages = [[event.pk for event in page] for page in AuditEvent.objects.in_pages(2)]
        assert pages == [keys[:2], keys[2:4], keys[4:]]

    def test_the_state_at_a_moment(self, audit: Audit, monkeypatch: Any) -> None:
        audit()
        clock = Clock(monkeypatch)
        clock.now = BEFORE
        tag = Tag.objects.create(name="before")
        clock.now = AFTER
        tag.name = "after"
        tag.save()
        for at in (AFTER - dt.timedelta(seconds=1), as_utc(events()[0].recorded_at), events()[0].recorded_at):
            assert AuditEvent.objects.state_of(Tag, tag.pk, at=at) == {"name": "before"}
        assert AuditEvent.objects.state_of(Tag, tag.pk, at=AFTER) == {"name": "after"}
        assert AuditEvent.objects.state_of(Tag, tag.pk, at=BEFORE - dt.timedelta(seconds=1)) is None

    def test_what_is_due_to_be_pruned(self) -> None:
        old, young = make_event(recorded_at=BEFORE), make_event(recorded_at=AFTER)
        now = (AFTER + dt.timedelta(days=1)).replace(tzinfo=None)
        retention = Retention(now=now, periods={}, older_than=parse_period(dt.timedelta(days=1, minutes=30)))
        assert [batch.pruned for batch in Pruning(retention, "default").run()] == [1]
        left = set(AuditEvent.objects.exclude(event_type="events_pruned").values_list("pk", flat=True))
        assert left == {young.pk} - {old.pk}

    def test_an_export_says_utc(self) -> None:
        for moment in (BEFORE, AFTER):
            make_event(recorded_at=moment)
        out = io.StringIO()
        call_command("audit_export", "--format", "jsonl", stdout=out)
        times = [json.loads(line)["recorded_at"] for line in out.getvalue().splitlines()]
        assert times == [BEFORE.isoformat(), AFTER.isoformat()]

    def test_a_report_by_hour_and_its_bounds(self) -> None:
        for moment in (BEFORE, AFTER, AFTER):
            make_event(recorded_at=moment)
        out = io.StringIO()
        options = ["--by", "hour", "--format", "json", "--since", "2025-10-26T01:00Z"]
        call_command("audit_report", *options, stdout=out)
        assert sum(row["count"] for row in json.loads(out.getvalue())) == 2

    def test_notifications_are_due_at_true_instants(self) -> None:
        row = Notification.objects.create(rule="r", channel="c")
        row.refresh_from_db()
        assert abs(as_utc(row.available_at) - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=30)
        due = AFTER.replace(tzinfo=None)
        Notification.objects.update(available_at=due, sent_at=BEFORE)
        row.refresh_from_db()
        assert (as_utc(row.available_at), as_utc(row.sent_at or row.available_at)) == (AFTER, BEFORE)
        assert Notification.objects.filter(available_at__lte=due).count() == 1
        assert Notification.objects.filter(available_at__lt=due).count() == 0


@pytest.mark.usefixtures("zone_of_the_database")
class TestDatabaseWithAZone:
    def test_the_column_is_in_utc_all_the_same(self, audit: Audit, monkeypatch: Any) -> None:
        audit()
        save_at(Clock(monkeypatch), BEFORE, AFTER, *SPRING)
        assert sorted(set(stored())) == sorted([BEFORE, AFTER, *SPRING])
        assert [event.recorded_at for event in events()] == stored()
        assert all(event.recorded_at.utcoffset() == dt.timedelta() for event in events())
        assert AuditEvent.objects.between(BEFORE, AFTER).count() == 1
        assert AuditEvent.objects.between(AFTER, AFTER + dt.timedelta(hours=1)).count() == 2

    def test_pages_end_though_an_hour_comes_twice(self) -> None:
        keys = [make_event(recorded_at=moment).pk for moment in (BEFORE, BEFORE, AFTER, AFTER, AFTER)]
        pages = [[event.pk for event in page] for page in AuditEvent.objects.in_pages(2)]
        assert pages == [keys[:2], keys[2:4], keys[4:]]

    def test_a_report_by_hour(self) -> None:
        for moment in (BEFORE, AFTER, AFTER):
            make_event(recorded_at=moment)
        out = io.StringIO()
        call_command("audit_report", "--by", "hour", "--format", "json", stdout=out)
        hours = {row["hour"]: row["count"] for row in json.loads(out.getvalue())}
        found = {dt.datetime.fromisoformat(hour): count for hour, count in hours.items()}
        assert found == {BEFORE.replace(minute=0): 1, AFTER.replace(minute=0): 2}


def test_another_time_zone_of_the_project_moves_no_event(settings: Any) -> None:
    settings.USE_TZ = False
    make_event(recorded_at=BEFORE)
    for zone in ZONES:
        settings.TIME_ZONE = zone
        assert as_utc(events()[0].recorded_at) == BEFORE
        assert stored() == [BEFORE]
    settings.USE_TZ = True
    assert events()[0].recorded_at == BEFORE


def test_a_naive_moment_is_in_the_time_zone_of_a_project_with_zones() -> None:
    make_event(recorded_at=BEFORE)
    start = dt.datetime(2025, 10, 26, 2, 0)
    with pytest.warns(RuntimeWarning, match="received a naive datetime"):
        assert AuditEvent.objects.between(start, start + dt.timedelta(hours=1)).count() == 1
