"""What is counted once of many events, on PostgreSQL: the numbers are those of counting all, whatever happens."""

from __future__ import annotations

import datetime as dt
import random
import threading
from contextlib import contextmanager
from io import StringIO

import pytest
import time_machine
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from django_signal_audit.models import AuditEvent, Rollup
from django_signal_audit.models.events import delete_pruned, erase_values
from django_signal_audit.models.rollups import LOSSES
from django_signal_audit.reports import rollups
from django_signal_audit.reports.tallies import Largest, Ranking

from .current_tenant import FUNCTION, here
from .model_admins import registered
from .plans import of_postgresql
from .samples import NOON, make_event

PAGE = reverse("admin:django_signal_audit_auditevent_dashboard")
TABLE = AuditEvent._meta.db_table
DAY = dt.timedelta(days=1)
NOW = NOON + 3 * DAY
IMPORTED = -(2**52)


def fill(count=300, seed=3, **values):
    """Write events of some days, some of which have many of one object or actor."""
    chance = random.Random(seed)
    AuditEvent.objects.bulk_create(
        AuditEvent(
            **{
                "event_type": chance.choice(["update", "create", "login"]),
                "source": "orm",
                "model": chance.choice(["auth.user", "auth.group"]),
                "object_id": str(int(60 * chance.random() ** 2)),
                "object_repr": "thing",
                "actor_id": chance.choice(["", str(int(40 * chance.random() ** 2))]),
                "actor_repr": f"user {int(5 * chance.random())}",
                "recorded_at": NOW - 9 * DAY * chance.random() ** 2,
                **values,
            }
        )
        for _ in range(count)
    )


def kept():
    """Return what is kept, but for how often events were taken away."""
    return Rollup.objects.exclude(pk=LOSSES).exclude(base=b"")


def shown(client, query=""):
    """Return all numbers that the page shows."""
    response = client.get(f"{PAGE}?{query}")
    assert response.status_code == 200
    tables = {
        table.name: [(row.label, row.url, row.value) for row in table.rows] for table in response.context["tables"]
    }
    return tables, [(tile.name, tile.value) for tile in response.context["tiles"]], str(response.context["chart"])


def count(found, name):
    """Return the number of a tile."""
    return int(dict(found[1])[name].replace(",", ""))


def kept_since(same, client):
    """Return the moment from which events are counted."""
    same(client)
    return rollups.utc_moment(kept().get().scope["since"])


@pytest.fixture
def log_in(client):
    """Return a function that logs in a user with some permissions."""

    def user_with(*codenames):
        user = User.objects.create_user("viewer", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", *codenames]))
        client.force_login(user)
        return client

    return user_with


@pytest.fixture
def _small(monkeypatch):
    for name, value in {"ROLL_UP_FROM": 1, "MOST_NEW": 0, "_KEPT": 24, "_KEPT_OF_ONE": (4, 12)}.items():
        monkeypatch.setattr(rollups, name, value)
    with connection.cursor() as cursor:
        # What the test before has deleted is in the statistics now, and not a second later.
        cursor.execute("SELECT pg_stat_force_next_flush()")
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def same(monkeypatch):
    """Return what the page shows, which must be what counting all events shows."""

    def read(client, query=""):
        found = [shown(client, query), shown(client, query)]
        with monkeypatch.context() as patch:
            patch.setattr(rollups, "DAYS", ())
            found.append(shown(client, query))
        assert found[0] == found[2]
        assert found[1] == found[2]
        return found[0]

    return read


@contextmanager
def elsewhere(work):
    """Do something in a transaction on another connection that is open while the block runs."""
    begun, done, errors = threading.Event(), threading.Event(), []

    def hold():
        try:
            with transaction.atomic():
                work()
                begun.set()
                assert done.wait(20)
        except BaseException as error:  # noqa: BLE001  # it is raised below
            errors.append(error)
        finally:
            begun.set()
            connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert begun.wait(20)
        assert not errors
        yield
    finally:
        done.set()
        holder.join()
    assert not errors


def on_postgresql(tests):
    """Mark tests of what is kept."""
    tests = pytest.mark.skipif(connection.vendor != "postgresql", reason="counts are kept on PostgreSQL alone")(tests)
    tests = pytest.mark.usefixtures("_small")(pytest.mark.django_db(transaction=True)(tests))
    return pytest.mark.server(pytest.mark.slow(tests))


class TestLargest:
    """The largest groups are found among sets of events of which only the largest are known."""

    @pytest.mark.parametrize("spans", [False, True])
    def test_they_are_those_of_counting_all_or_none(self, spans):
        chance, found = random.Random(7), 0
        for _ in range(300):
            sets = [self._events(chance, spans) for _ in range(3)]
            # What is taken away was there.
            sets[1] = [event for event in sets[0] if chance.random() < 0.3]
            signs, models = (1, -1, 1), chance.sample(["a", "b", "c"], 2)
            totals = {}
            for sign, events in zip(signs, sets, strict=True):
                for model, key in events:
                    if model in models:
                        totals[key] = totals.get(key, 0) + sign
            groups = sorted(((key, n, 1) for key, n in totals.items() if n), key=lambda group: (-group[1], group[0]))
            kept = chance.choice([3, 8, 100])
            pieces = [(sign, self._ranking(events, kept)) for sign, events in zip(signs, sets, strict=True)]
            largest = Largest(models, spans).find(
                pieces, 4, lambda keys, totals=totals: [(key, totals.get(key, 0), 1) for key in keys]
            )
            if largest is not None:
                assert [group[:2] for group in largest] == [group[:2] for group in groups[:4]]
                found += 1
        assert 100 < found < 300

    def _events(self, chance, spans):
        def one():
            model = chance.choice("abc")
            return model, ("" if spans else model, str(int(12 * chance.random() ** 2)))

        return [one() for _ in range(chance.choice([0, 5, 80]))]

    def _ranking(self, events, kept):
        rows = {}
        for model, key in events:
            rows[model, key] = rows.get((model, key), 0) + 1
        places, found = {}, []
        for (model, key), count in sorted(rows.items(), key=lambda item: -item[1]):
            places[model] = places.get(model, 0) + 1
            if places[model] <= kept:
                found.append((model, *key, count, 1))
        return Ranking.of(found, kept)


@on_postgresql
class TestNumbers:
    def test_they_are_the_same_while_events_come(self, admin_client, same):
        for seed in range(6):
            fill(seed=seed)
            same(admin_client)
            same(admin_client, "days=7&all=objects")
            same(admin_client, "all=users")
        assert kept().count() == 2

    def test_of_other_periods_nothing_is_kept(self, admin_client, same):
        fill()
        for query in ("hours=24", "since=2026-03-06&until=2026-03-10", "since=2026-03-06"):
            same(admin_client, query)
        assert not kept().exists()

    def test_events_come_late_and_imported(self, admin_client, same):
        fill()
        before = same(admin_client)
        for number in range(20):
            make_event(recorded_at=NOON - DAY, object_id="late")
            make_event(pk=IMPORTED + number, recorded_at=NOON - 2 * DAY, object_id="imported")
        assert same(admin_client) != before
        for number in range(20, 40):
            make_event(pk=IMPORTED + number, recorded_at=NOON - 2 * DAY, object_id="imported")
        assert [value for _, url, value in same(admin_client)[0]["objects"] if "/imported/" in url] == [40]

    def test_events_are_pruned(self, admin_client, same):
        fill()
        before, base = same(admin_client), bytes(kept().get().base)
        assert AuditEvent.objects.filter(recorded_at__lt=NOW - 5 * DAY).prune()
        assert bytes(kept().get().base) != base
        assert same(admin_client) != before

    def test_what_is_pruned_was_never_counted(self, admin_client, same):
        fill()
        fill(50, seed=4, recorded_at=NOW - 40 * DAY, event_type="login")
        before = same(admin_client), same(admin_client, "days=90")
        bases = {row.scope["days"]: bytes(row.base) for row in kept()}
        for _ in range(2):  # in batches
            some = AuditEvent.objects.filter(recorded_at__lt=NOW - 35 * DAY).values_list("pk", flat=True)[:25]
            assert AuditEvent.objects.filter(pk__in=list(some)).prune() == 25
        assert {row.scope["days"]: bytes(row.base) == bases[row.scope["days"]] for row in kept()} == {
            30: True,
            90: False,
        }
        with CaptureQueriesContext(connection) as queries:
            after = same(admin_client), same(admin_client, "days=90")
        assert bytes(kept().get(scope__days=30).base) == bases[30]
        assert any("pg_stat_get_tuples_deleted" in query["sql"] for query in queries)
        # The events that say so came.
        numbers = [count(one, "events") - count(other, "events") for one, other in zip(after, before, strict=True)]
        assert numbers == [2, 2 - 50]
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {TABLE} WHERE object_id = '1'")
            cursor.execute("SELECT pg_stat_force_next_flush()")
        assert same(admin_client) != after[0]

    def test_the_first_second_of_the_period_is_pruned(self, admin_client, same):
        fill()
        since = kept_since(same, admin_client)
        make_event(recorded_at=since)
        make_event(recorded_at=since - dt.timedelta(microseconds=1))
        same(admin_client)
        base = bytes(kept().get().base)
        AuditEvent.objects.filter(recorded_at__lt=since).prune()
        assert bytes(kept().get().base) == base
        AuditEvent.objects.filter(recorded_at=since).prune()
        assert bytes(kept().get().base) != base
        same(admin_client)

    def test_a_prune_is_rolled_back(self, admin_client, same):
        fill()
        fill(50, seed=4, recorded_at=NOW - 40 * DAY)
        same(admin_client)
        with transaction.atomic():
            AuditEvent.objects.filter(recorded_at__lt=NOW - 35 * DAY).prune()
            transaction.set_rollback(True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute(f"DELETE FROM {TABLE} WHERE object_id = '1'")
        same(admin_client)

    def test_events_are_erased(self, admin_client, same, audit):
        audit({"name": "users", "model": "auth.User", "personal": ["username"]})
        fill(actor_id="", actor_repr="ada")
        assert "ada" in str(same(admin_client))
        assert Rollup.objects.exclude(base=b"").exists()
        found = [AuditEvent.objects.values_list("pk", flat=True)[0]]
        erase_values(AuditEvent.objects.filter(pk__in=found), {"actor_repr": ""})
        assert not Rollup.objects.exclude(base=b"", recent=b"").exists()
        same(admin_client)

    def test_events_are_deleted_by_sql(self, admin_client, same):
        fill()
        same(admin_client)
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {TABLE} WHERE object_id = '1'")
            cursor.execute("SELECT pg_stat_force_next_flush()")
        same(admin_client)

    def test_a_day_is_gone_with_its_partition(self, admin_client, same, monkeypatch):
        fill()
        same(admin_client)
        # Nothing counts what goes with a table.
        monkeypatch.setattr(rollups, "_STATE", rollups._STATE.replace("SUM(", "0 * SUM("))
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {TABLE} WHERE recorded_at < %s", [NOW - 4 * DAY])
        same(admin_client)

    def test_events_come_from_a_fixture(self, admin_client, same, tmp_path):
        fill()
        lost = AuditEvent.objects.order_by("pk")[100]
        text, file = StringIO(), tmp_path / "events.json"
        call_command("dumpdata", "django_signal_audit.auditevent", pks=str(lost.pk), stdout=text)
        file.write_text(text.getvalue(), encoding="utf-8")
        delete_pruned(AuditEvent.objects.filter(pk=lost.pk))
        before = same(admin_client)
        call_command("loaddata", str(file), verbosity=0)
        assert AuditEvent.objects.filter(pk=lost.pk).exists()
        assert same(admin_client) != before

    def test_counts_of_another_database_are_not_taken_over(self, admin_client, same, tmp_path):
        fill()
        same(admin_client)
        text, file = StringIO(), tmp_path / "counts.json"
        call_command("dumpdata", "django_signal_audit.rollup", stdout=text)
        file.write_text(text.getvalue(), encoding="utf-8")
        call_command("loaddata", str(file), verbosity=0)
        assert not kept().exists()

    def test_days_pass(self, admin_client, same):
        fill(2000)
        same(admin_client)
        row = kept().get()
        for day in range(1, 6):
            with time_machine.travel(NOW + day * DAY, tick=False):
                admin_client.force_login(User.objects.get(is_superuser=True))
                fill(30, seed=day, recorded_at=NOW + day * DAY)
                same(admin_client)
                same(admin_client, "days=7")
                # For some days, what has left the period is subtracted.
                assert (bytes(kept().get(pk=row.pk).base) == bytes(row.base)) is (day <= 3)

    def test_days_to_come(self, admin_client, same):
        fill()
        make_event(recorded_at=NOW + 2 * DAY)
        same(admin_client)
        assert not kept().exists()

    def test_users_see_their_own(self, admin_client, log_in, same):
        fill()
        everything = same(admin_client)
        groups = same(log_in("view_group"))
        assert 0 < sum(value for *_, value in groups[0]["users"]) < sum(value for *_, value in everything[0]["users"])
        assert same(admin_client) == everything
        assert not any("/auth.user/" in url for _, url, _ in groups[0]["objects"])

    def test_users_see_some_rows(self, admin_client, log_in, same):
        class Few(admin.ModelAdmin):
            def get_queryset(self, request):
                return super().get_queryset(request).filter(pk__lte=5)

        Group.objects.bulk_create(Group(pk=number, name=f"{number}") for number in range(1, 30))
        fill()
        with registered(Group, Few):
            same(admin_client)
            few = same(log_in("view_group", "view_user"))
        keys = {url for _, url, _ in few[0]["objects"] if "/auth.group/" in url}
        assert len(keys) <= 5
        Group.objects.all().delete()

    def test_each_zone_has_its_days(self, admin_client, same):
        fill()
        for zone in ("Asia/Kolkata", "America/New_York"):
            with timezone.override(zone):
                same(admin_client)
        assert kept().count() == 2

    def test_each_tenant_has_its_own(self, admin_client, same, audit):
        audit(TENANT=FUNCTION)
        fill(tenant="red")
        fill(100, seed=5, tenant="blue")
        found = []
        try:
            for name in ("red", "blue", ""):
                here(name)
                found.append(same(admin_client)[1][0][1])
            rollups.keep_all("default")
            here("red")
            same(admin_client)
        finally:
            here("")
        assert found == ["300", "100", "400"]
        assert kept().count() == 3


@on_postgresql
class TestAtTheSameTime:
    """Others write, prune and count while somebody counts."""

    def test_an_event_with_a_lower_id_commits_later(self, admin_client, same):
        fill()
        make = lambda: make_event(object_id="slow", recorded_at=NOON)  # noqa: E731
        with elsewhere(make):
            fill(seed=4)
            same(admin_client)
            assert not kept().exists()
        assert "slow" not in str(same(admin_client)[0]["objects"])
        assert kept().exists()
        with elsewhere(lambda: [make() for _ in range(90)]):
            fill(50, seed=5)
            before, row = same(admin_client), kept().get()
            assert not row.recent
        after = same(admin_client)
        assert ("slow" in str(before), "/slow/" in str(after)) == (False, True)
        found = kept().get()
        assert (bytes(found.base), bytes(found.recent)) != (bytes(row.base), bytes(row.recent))

    def test_an_event_of_a_transaction_that_was_just_about_to_write(self, admin_client, same):
        """The lock of the table comes before the id."""
        fill()

        def lock():
            with connection.cursor() as cursor:
                cursor.execute(f"UPDATE {TABLE} SET id = id WHERE false")

        with elsewhere(lock):
            same(admin_client)
            assert not kept().exists()

    def test_what_is_about_to_be_taken_away_is_not_kept(self, admin_client, same):
        fill()
        with elsewhere(lambda: delete_pruned(AuditEvent.objects.filter(object_id="0"))):
            assert same(admin_client)
            assert not kept().exists()
        same(admin_client)
        assert kept().exists()

    def test_nothing_is_kept_of_what_was_pruned_while_it_was_counted(self, admin_client, same, monkeypatch):
        fill()
        count = rollups._count

        def and_prune(*arguments):
            found = count(*arguments)
            prune = threading.Thread(target=lambda: (delete_pruned(AuditEvent.objects.all()), connection.close()))
            prune.start()
            prune.join()
            return found

        with monkeypatch.context() as patch:
            patch.setattr(rollups, "_count", and_prune)
            shown(admin_client)
        assert not kept().exists()
        same(admin_client)

    def test_one_counts_at_a_time(self, admin_client, same):
        fill()
        scope = rollups.Scope.current("default", 30, "")
        with elsewhere(lambda: rollups._is_alone(scope)):
            same(admin_client)
            assert not kept().exists()

    def test_a_request_that_has_written_keeps_nothing(self, admin_client, same):
        with transaction.atomic():
            fill()
            same(admin_client)
        assert not kept().exists()

    @pytest.mark.parametrize("setting", ["SET TRANSACTION READ ONLY", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"])
    def test_a_transaction_that_must_not_keep_anything(self, settings, setting):
        fill()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(setting)
            assert rollups.keep(rollups.Scope.current("default", 30, ""), 1) is None


@on_postgresql
class TestAfterwards:
    """What a prune or an erasure makes invalid is counted by it, and not by the next view."""

    def works(self, client):
        """Return how often a view counts all of the period."""
        with CaptureQueriesContext(connection) as queries:
            shown(client)
        return sum("row_number()" in query["sql"] for query in queries)

    @pytest.fixture
    def viewed(self, admin_client):
        fill()
        assert (self.works(admin_client), self.works(admin_client)) == (2, 0)
        return admin_client

    def test_a_queryset_is_pruned(self, viewed, same):
        assert AuditEvent.objects.filter(object_id="0").prune()
        assert self.works(viewed) == 0
        same(viewed)

    @pytest.mark.parametrize("option", [{"older_than": "1d"}, {"keep_last": 2}])
    def test_the_command_prunes(self, viewed, same, option):
        call_command("audit_prune", **option, batch_size=20, verbosity=0, stdout=StringIO())
        assert self.works(viewed) == 0
        same(viewed)

    def test_values_are_erased(self, viewed, same):
        user = AuditEvent.objects.exclude(actor_id="").first().actor_id
        call_command("audit_erase", subject=["auth.User", user], stdout=StringIO())
        base = bytes(kept().get().base)
        shown(viewed)
        assert bytes(kept().get().base) == base
        same(viewed)

    def test_it_cannot_count(self, viewed, same, monkeypatch, caplog):
        def fail(*_arguments, **_options):
            raise DatabaseError("no room")

        with monkeypatch.context() as patch:
            patch.setattr(rollups, "keep", fail)
            assert AuditEvent.objects.filter(object_id="0").prune()
        assert "could not be kept" in caplog.text
        assert not kept().exists()
        same(viewed)


@on_postgresql
class TestWorker:
    def test_it_counts_again_what_was_pruned(self, admin_client, same):
        fill()
        same(admin_client)
        delete_pruned(AuditEvent.objects.filter(object_id="0"))
        assert not kept().exists()
        call_command("audit_deliver", once=True, verbosity=0, stdout=StringIO())
        assert kept().exists()
        same(admin_client)

    def test_each_day_it_counts_all(self, admin_client, same):
        fill()
        same(admin_client)
        before = bytes(kept().get().base)
        with time_machine.travel(NOW + DAY, tick=False):
            rollups.keep_all("default")
            assert bytes(kept().get().base) != before
            admin_client.force_login(User.objects.get(is_superuser=True))
            same(admin_client)

    def test_what_nobody_asks_for_is_dropped(self, admin_client):
        fill()
        shown(admin_client)
        with time_machine.travel(NOW + 10 * DAY, tick=False):
            admin_client.force_login(User.objects.get(is_superuser=True))
            shown(admin_client)
        with time_machine.travel(NOW + 20 * DAY, tick=False):
            rollups.keep_all("default")
            assert kept().exists()
        with time_machine.travel(NOW + 30 * DAY, tick=False):
            rollups.keep_all("default")
        assert not kept().exists()

    def test_a_zone_that_is_unknown_here(self, admin_client):
        fill()
        shown(admin_client)
        Rollup.objects.exclude(pk=LOSSES).update(scope={"days": 30, "tenant": "", "zone": "Mars/Olympus"})
        AuditEvent.objects.filter(object_id="0").prune()
        rollups.keep_all("default")
        assert not kept().exists()


@on_postgresql
class TestWork:
    def test_what_was_counted_is_not_read_again(self, admin_client, monkeypatch):
        for name, value in {"MOST_NEW": 500, "_KEPT_OF_ONE": (1000, 1000)}.items():
            monkeypatch.setattr(rollups, name, value)
        works = []
        for count in (1000, 3000):
            fill(count)
            for _ in range(2):
                shown(admin_client)
            fill(20, seed=5)
            with CaptureQueriesContext(connection) as queries:
                shown(admin_client)
            with connection.cursor() as cursor:
                cursor.execute(f"ANALYZE {TABLE}; SET enable_seqscan = off")
            found = [of_postgresql(query["sql"]) for query in queries if TABLE in query["sql"]]
            works.append(sum(work for _, work in found))
            with connection.cursor() as cursor:
                cursor.execute("RESET enable_seqscan")
        assert works[1] < works[0] + 200
