from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from django_signal_audit.delivery import outbox
from django_signal_audit.events.prepared import prepare_no_more
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now

from .notices import make_event, make_notification

pytestmark = pytest.mark.django_db
AGO = dt.timedelta(hours=1)
NOTED = ("status", "status_changed", "modified", "sent_at")


def fresh(row):
    return Notification.objects.get(pk=row.pk)


def due(count=1, **values):
    event = make_event()
    return [make_notification(event, **{"available_at": utc_now() - AGO, **values}) for _ in range(count)]


class TestClaim:
    def test_it_takes_what_is_due_the_longest_due_first_up_to_the_limit(self):
        late, first, _future = (
            make_notification(available_at=utc_now() + dt.timedelta(minutes=minutes)) for minutes in (-1, -9, 9)
        )
        assert outbox.claim("default", limit=1) == [first]
        assert outbox.claim("default", limit=5) == [late]
        assert outbox.claim("default", limit=5) == []

    def test_a_claim_is_a_lease_with_a_number_and_spends_an_attempt(self):
        due()
        before = utc_now()
        (row,) = outbox.claim("default", limit=5)
        for seen in (row, fresh(row)):
            assert (seen.status, seen.lease_no, seen.attempts) == ("claimed", 1, 1)
            assert before + outbox.LEASE <= seen.available_at <= utc_now() + outbox.LEASE
            assert seen.status_changed >= before
            assert seen.modified >= before

    @pytest.mark.parametrize("status", ["sent", "dead", "skipped"])
    def test_what_is_done_is_never_taken(self, status):
        due(status=status)
        assert outbox.claim("default", limit=5) == []

    def test_a_lapsed_claim_is_taken_over_and_its_old_holder_is_shut_out(self):
        due()
        (old,) = outbox.claim("default", limit=5)
        Notification.objects.update(available_at=utc_now() - AGO)
        (new,) = outbox.claim("default", limit=5)
        assert (new.lease_no, new.attempts) == (2, 2)
        assert not outbox.finish(old, "sent")
        assert not outbox.hold(old)
        assert fresh(new).status == "claimed"
        assert outbox.finish(new, "sent", sent_at=utc_now())
        assert fresh(new).status == "sent"

    def test_lapsed_claims_are_taken_one_at_a_time_so_that_a_killer_goes_alone(self):
        due(3, status="claimed")
        assert len(outbox.claim("default", limit=50)) == 1

    def test_old_failures_get_their_share_while_new_rows_keep_coming(self):
        due(6, status="pending")
        due(6, status="failed")
        before = dict.fromkeys(("pending", "failed"), 6)
        claimed = {row.pk for row in outbox.claim("default", limit=6)}
        left = {status: Notification.objects.filter(status=status).count() for status in before}
        assert left == {"pending": 3, "failed": 3}
        assert len(claimed) == 6

    def test_with_ids_only_those_that_nobody_tried_yet(self):
        mine, _other = due(2)
        (tried,) = due(status="failed")
        assert outbox.claim("default", limit=5, ids=[mine.pk, tried.pk]) == [mine]

    def test_without_row_locks_what_a_rival_took_meanwhile_is_left_to_him(self):
        due(3)
        seen = list(Notification.objects.order_by("id"))
        (theirs,) = outbox.claim("default", limit=1, ids=[seen[1].pk])
        assert outbox._take_unlocked(seen, "default") == [seen[0], seen[2]]
        assert theirs.pk == seen[1].pk
        assert set(Notification.objects.values_list("lease_no", flat=True)) == {1}


class TestRelease:
    def test_the_attempt_is_given_back(self):
        due()
        outbox.release(outbox.claim("default", limit=5))
        row = Notification.objects.get()
        assert (row.status, row.attempts, row.lease_no) == ("pending", 0, 1)
        assert row.available_at <= utc_now()

    def test_a_failed_one_stays_failed(self):
        due(status="failed", attempts=3)
        outbox.release(outbox.claim("default", limit=5))
        row = Notification.objects.get()
        assert (row.status, row.attempts) == ("failed", 3)


class TestCounting:
    def test_stats_name_every_status_and_the_oldest_pending(self):
        due(2)
        due(status="dead")
        assert outbox.count_by_status("default") == {
            "pending": 2,
            "claimed": 0,
            "sent": 0,
            "failed": 0,
            "dead": 1,
            "skipped": 0,
        }
        assert AGO <= outbox.oldest_pending_age("default") < AGO + dt.timedelta(minutes=1)
        assert outbox.count_due("default") == 2

    def test_nothing_pending_has_no_age(self):
        assert outbox.oldest_pending_age("default") is None

    def test_only_the_dead_are_retried(self):
        (dead,) = due(status="dead", attempts=10)
        (skipped,) = due(status="skipped")
        assert outbox.retry_dead("default") == 1
        assert (fresh(dead).status, fresh(dead).attempts) == ("pending", 0)
        assert fresh(skipped).status == "skipped"


@pytest.mark.django_db(transaction=True)
def test_only_claims_and_notes_do_not_wait_for_the_disk():
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL lets a statement choose")
    due()
    (row,) = outbox.claim("default", limit=1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('synchronous_commit'), current_setting('enable_bitmapscan')")
        assert cursor.fetchone() == ("on", "on")
    with CaptureQueriesContext(connection) as queries:
        assert outbox.finish(row, "sent", sent_at=utc_now())
    (query,) = queries
    assert "'synchronous_commit', 'off'" in query["sql"]
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)


def analyze():
    with connection.cursor() as cursor:
        table = connection.ops.quote_name(Notification._meta.db_table)
        cursor.execute(f"ANALYZE TABLE {table}" if connection.vendor == "mysql" else f"ANALYZE {table}")


@pytest.mark.django_db(transaction=True)
class TestRivals:
    def test_no_row_is_claimed_twice(self):
        if not connection.features.has_select_for_update_skip_locked:
            pytest.skip("needs a database that locks rows; test_delivery_command has two processes on SQLite")
        event = make_event()
        Notification.objects.bulk_create(
            Notification(event=event.uid, rule="watch", channel="take", available_at=utc_now() - AGO)
            for _ in range(300)
        )

        def work(_):
            claimed = []
            try:
                while batch := outbox.claim("default", limit=7, channel="take"):
                    claimed += [row.pk for row in batch]
            finally:
                connections.close_all()
            return claimed

        with ThreadPoolExecutor(4) as pool:
            shares = list(pool.map(work, range(4)))
        everything = [pk for share in shares for pk in share]
        assert len(everything) == len(set(everything)) == 300
        assert sum(1 for share in shares if share) > 1
        assert set(Notification.objects.values_list("lease_no", "attempts", "status")) == {(1, 1, "claimed")}

    @pytest.mark.parametrize("is_analyzed", [False, True])
    def test_a_claim_neither_waits_for_nor_blocks_another(self, is_analyzed):
        if not connection.features.has_select_for_update_skip_locked:
            pytest.skip("needs a database that locks rows")
        due(20)
        if is_analyzed:
            # By fresh statistics, MariaDB would rather read and lock all of a small table, and sort it.
            analyze()

        def claim_elsewhere():
            try:
                return {row.pk for row in outbox.claim("default", limit=10, channel="take")}
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as pool, transaction.atomic():
            mine = {row.pk for row in outbox.claim("default", limit=10, channel="take")}
            theirs = pool.submit(claim_elsewhere).result(timeout=10)
        assert len(mine) == len(theirs) == 10
        assert not mine & theirs

    def test_mariadb_is_told_the_index_as_it_would_not_always_choose_it(self):
        if connection.vendor != "mysql":
            pytest.skip("other databases read a small table by the index too, or lock only what they return")
        due()
        with CaptureQueriesContext(connection) as queries:
            outbox.claim("default", limit=10, channel="take")
        picks = [query["sql"] for query in queries if "FOR UPDATE" in query["sql"]]
        assert picks
        assert all("FORCE INDEX (dsa_notification_lane)" in sql for sql in picks)

    @pytest.mark.parametrize("is_analyzed", [False, True])
    def test_what_is_noted_is_found_by_its_key_and_not_among_all_that_was_ever_claimed(self, is_analyzed):
        if connection.vendor != "postgresql":
            pytest.skip("other databases take the primary key by themselves")
        due(50)
        for row in outbox.claim("default", limit=50):
            if is_analyzed:
                analyze()
            prepare_no_more(connections["default"])
            with CaptureQueriesContext(connection) as queries:
                assert outbox.finish(row, "sent", sent_at=utc_now())
            for plan in (self.plan(queries[0]["sql"]), self.plan_of_what_is_kept()):
                assert f"{Notification._meta.db_table}_pkey" in plan, plan

    @staticmethod
    def plan(sql, *before):
        with transaction.atomic(), connection.cursor() as cursor:
            # By statistics taken just now, the few pages of this test are read as fast without any index.
            cursor.execute("SET LOCAL enable_seqscan = off")
            for statement in before:
                cursor.execute(statement)
            cursor.execute(f"EXPLAIN {sql}")
            return "\n".join(line for (line,) in cursor.fetchall())

    def plan_of_what_is_kept(self):
        """Return the plan for any values, which the server makes for a statement that it keeps."""
        first, *parts = outbox._sql("default", NOTED, True).split("%s")
        sql = first + "".join(f"${number}{part}" for number, part in enumerate(parts, 1))
        before = ("DEALLOCATE ALL", f"PREPARE noted AS {sql}", "SET LOCAL plan_cache_mode = force_generic_plan")
        return self.plan(f"EXECUTE noted ({', '.join(['NULL'] * len(parts))})", *before)
