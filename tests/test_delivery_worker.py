from __future__ import annotations

import datetime as dt
import time

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError, connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_signal_audit.delivery import identity, outbox, worker
from django_signal_audit.delivery.worker import BATCH_SIZE, deliver
from django_signal_audit.exceptions import GiveUp
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.signals import notification_failed, notification_sent

from .notices import HERE, audit_settings, calling, make_event, make_notification, receiving

pytestmark = pytest.mark.django_db
NOW = dt.timedelta(seconds=30)


@pytest.fixture(autouse=True)
def messages(settings):
    settings.SIGNAL_AUDIT = audit_settings({"clash": {**calling("clash")}, "broken": {"BACKEND": "no.such.Channel"}})
    settings.SIGNAL_AUDIT["CHANNELS"]["clash"]["OPTIONS"]["target"] = "tests.test_delivery_worker.clash"
    with receiving() as messages:
        yield messages


def clash(message):
    User.objects.create(username="same")
    User.objects.create(username="same")


def fresh(row):
    return Notification.objects.get(pk=row.pk)


def test_what_is_sent_says_so(messages):
    row = make_notification(recipient="somebody", last_error="an older one")
    before = utc_now()
    report = deliver()
    assert (report.attempted, report.sent) == (1, 1)
    sent = fresh(row)
    assert (sent.status, sent.attempts, sent.last_error, sent.recipient) == ("sent", 1, "", "somebody")
    assert before <= sent.sent_at <= utc_now()
    assert sent.status_changed >= before
    assert [message.id for message in messages] == [row.message_id]


def test_what_is_written_on_a_row_while_its_message_is_sent_stays(monkeypatch):
    row = make_notification(recipient="ann@example.com")

    def erase(message):
        Notification.objects.filter(pk=row.pk).update(recipient="erased")

    monkeypatch.setattr(f"{HERE}.take", erase)
    assert deliver().sent == 1
    assert Notification.objects.get(pk=row.pk).recipient == "erased"


def test_what_cannot_be_given_back_is_nobodys_and_not_sent_with_the_next_batch(monkeypatch, messages):
    """The connection is cut: what was claimed lapses, and is not taken for rows whose events were pruned."""
    event = make_event()
    first, second = make_notification(event), make_notification(event)
    sender = worker.Sender("default", lambda: False, lambda: None, worker.Turns("default"))

    def cut(*_, **__):
        raise OperationalError("terminating connection")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "Loaded", cut)
        patch.setattr(outbox, "release", cut)
        with pytest.raises(OperationalError):
            sender.send_batch(outbox.claim("default", limit=1))
    assert not sender.flight.waiting
    sender.send_batch(outbox.claim("default", limit=1))
    assert [message.id for message in messages] == [second.message_id]
    assert fresh(first).status == "claimed"
    assert fresh(second).status == "sent"


def test_no_message_is_given_up_before_its_event_was_asked_for_by_itself(messages):
    row = make_notification()
    assert worker.Loaded([], "default").events(row)
    AuditEvent.objects.prune()
    with pytest.raises(GiveUp, match="no longer in the audit log"):
        worker.Loaded([], "default").events(row)


def test_nothing_due_is_nothing_done(messages):
    make_notification(available_at=utc_now() + NOW)
    assert deliver().attempted == 0
    assert messages == []


def test_one_that_fails_does_not_stop_the_others(messages):
    event = make_event()
    boom = make_notification(event, "boom", recipient="bob")
    clash = make_notification(event, "clash")
    broken = make_notification(event, "broken")
    take = make_notification(event, "take")
    report = deliver()
    assert (report.attempted, report.sent, report.failed) == (4, 1, 3)
    assert fresh(take).status == "sent"
    for row, reason in (
        (boom, "ValueError: no way to bob (tests/notices.py:"),
        (clash, "IntegrityError"),
        (broken, "cannot import 'no.such.Channel'"),
    ):
        assert fresh(row).status == "failed"
        assert reason in fresh(row).last_error
    assert not User.objects.filter(username="same").exists() or not connections["default"].in_atomic_block


def test_a_failure_is_retried_with_backoff_and_the_same_id(messages, settings):
    row = make_notification(channel="boom")
    deliver()
    failed = fresh(row)
    wait = (failed.available_at - utc_now()).total_seconds()
    assert 14 < wait < 25
    assert failed.sent_at is None
    assert deliver().attempted == 0
    Notification.objects.update(available_at=utc_now(), channel="take")
    assert deliver().sent == 1
    assert [(message.id, message.attempt) for message in messages] == [(row.message_id, 2)]


def test_the_receivers_wish_is_kept():
    row = make_notification(channel="later")
    deliver()
    assert fresh(row).status == "failed"
    assert 85 < (fresh(row).available_at - utc_now()).total_seconds() < 91


def test_after_the_last_attempt_it_is_dead():
    row = make_notification(channel="boom", status="failed", attempts=9)
    assert deliver().dead == 1
    assert (fresh(row).status, fresh(row).attempts) == ("dead", 10)
    assert deliver().attempted == 0


def test_giving_up_is_at_once_and_says_why():
    row = make_notification(channel="never")
    assert deliver().dead == 1
    assert (fresh(row).status, fresh(row).last_error) == ("dead", "the account is closed")


def test_a_message_whose_workers_keep_dying_ends_dead(messages):
    row = make_notification(status="claimed", attempts=10, available_at=utc_now() - NOW)
    assert deliver().dead == 1
    assert "never finished it" in fresh(row).last_error
    assert messages == []


def test_pruned_events_leave_nothing_to_tell():
    row = make_notification(recipient="actor")
    AuditEvent.objects.prune()
    assert deliver().dead == 1
    assert "no longer in the audit log" in fresh(row).last_error


def test_a_limit_is_a_number_of_attempts(messages):
    event = make_event()
    for _ in range(4):
        make_notification(event)
    make_notification(event, "boom", available_at=utc_now() - NOW)
    assert deliver(limit=3).attempted == 3
    assert len(messages) == 2
    assert Notification.objects.filter(status="pending", attempts=0).count() == 2


def test_after_the_deadline_none_begins_and_no_attempt_is_spent(messages, monkeypatch):
    event = make_event()
    for _ in range(5):
        make_notification(event)
    real, passed = time.monotonic, []
    monkeypatch.setattr(time, "monotonic", lambda: real() + 60 * len(messages))
    report = deliver(deadline=real() + 90)
    passed.append(report)
    assert report.sent == 2
    assert list(Notification.objects.filter(status="pending").values_list("attempts", flat=True)) == [0, 0, 0]


def test_more_than_a_batch_is_delivered_in_few_queries(messages, monkeypatch, django_assert_max_num_queries):
    # A slow machine would claim fewer rows at a time.
    monkeypatch.setattr("django_signal_audit.delivery.turns.HORIZON_SECONDS", 1e9)
    event = make_event()
    Notification.objects.bulk_create(
        Notification(event=event.uid, rule="watch", channel="take") for _ in range(BATCH_SIZE * 2 + 1)
    )
    batches = 3 + 1  # and the one that finds nothing
    per_batch = 3 + 6  # three statuses looked at; savepoint, claim and release, the events
    extra = BATCH_SIZE * 2 + 1 if not connections["default"].features.has_select_for_update_skip_locked else 0
    identity.obstacle("default")  # asked once per process
    # In a test's transaction each send has a savepoint: three statements a message with the update that finishes it.
    # A slow machine looks again at what changes with time: it may take one more for each second, not for each message.
    slow = BATCH_SIZE
    with django_assert_max_num_queries((BATCH_SIZE * 2 + 1) * 3 + batches * per_batch + extra + slow):
        assert deliver().sent == BATCH_SIZE * 2 + 1
    assert len(messages) == BATCH_SIZE * 2 + 1


def test_a_lease_about_to_lapse_is_lengthened_before_the_send(monkeypatch):
    make_notification()
    held = []

    def claim(*args, **kwargs):
        rows = real(*args, **kwargs)
        for row in rows:
            row.available_at = utc_now() + NOW
        return rows

    real = outbox.claim
    monkeypatch.setattr(outbox, "claim", claim)
    monkeypatch.setattr(outbox, "hold", lambda row, **changes: held.append(row.pk) or True)
    assert deliver().sent == 1
    assert len(held) == 1


def test_a_result_that_comes_after_the_claim_lapsed_is_dropped(monkeypatch):
    row = make_notification(channel="slow")

    def slow(message):
        Notification.objects.update(lease_no=7, last_error="by another worker")

    monkeypatch.setattr(f"{HERE}.take", slow)
    with override_settings(SIGNAL_AUDIT=audit_settings({"slow": calling("take")})):
        report = deliver()
    assert (report.lost, report.sent) == (1, 0)
    assert (fresh(row).status, fresh(row).lease_no, fresh(row).last_error) == ("claimed", 7, "by another worker")


def test_what_was_not_begun_is_given_back_when_the_worker_is_interrupted(monkeypatch):
    event = make_event()
    first, second = make_notification(event), make_notification(event)

    def interrupt(message):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{HERE}.take", interrupt)
    with pytest.raises(KeyboardInterrupt):
        deliver()
    assert fresh(first).status == "claimed"
    assert (fresh(second).status, fresh(second).attempts) == ("pending", 0)


class TestRepeatable:
    """What an inbox shows is the row itself, so many rows are noted at a time."""

    @pytest.fixture(autouse=True)
    def users(self, settings):
        inbox = {"BACKEND": "django_signal_audit.channels.inbox.InboxChannel"}
        settings.SIGNAL_AUDIT = audit_settings({"inbox": inbox})
        user = User.objects.create(username="ada", is_superuser=True)
        event = make_event()
        Notification.objects.bulk_create(
            Notification(event=event.uid, rule="watch", channel="inbox", recipient=str(user.pk), user=str(user.pk))
            for _ in range(30)
        )

    def test_many_are_noted_at_a_time(self, monkeypatch):
        # On a busy machine thirty may take longer than one waits at most to be noted.
        monkeypatch.setattr(worker, "LATEST", 60)
        with CaptureQueriesContext(connections["default"]) as queries:
            assert deliver().sent == 30
        assert set(Notification.objects.values_list("status", "attempts", "last_error")) == {("sent", 1, "")}
        assert {row.body for row in Notification.objects.all()} == {Notification.objects.first().body} != {""}
        if connections["default"].vendor == "postgresql":
            assert len([query for query in queries if query["sql"].startswith("UPDATE")]) == 2  # and the claim

    def test_each_has_its_own_text_when_they_are_noted_together(self, monkeypatch):
        monkeypatch.setattr(worker, "LATEST", 60)
        names = ["plain", 'a "quoted" {brace}, \\ and %s', "Öl ☕", "two\nlines\tand a tab"]
        rows = [make_notification(make_event(object_repr=name), "inbox", recipient="ada") for name in names]
        Notification.objects.filter(pk__in=[row.pk for row in rows]).update(recipient=User.objects.get().pk)
        assert deliver().sent == 34
        for row, name in zip(rows, names, strict=True):
            assert fresh(row).body.startswith(" ".join(name.split()))

    def test_one_that_another_has_taken_over_is_his(self, monkeypatch):
        gone = Notification.objects.order_by("pk")[7].pk

        def take_over(row, *args):
            if row.pk == gone:
                Notification.objects.filter(pk=gone).update(lease_no=9)
            return real(row, *args)

        real = worker.render
        monkeypatch.setattr(worker, "render", take_over)
        report = deliver()
        assert (report.sent, report.lost) == (29, 1)
        assert Notification.objects.get(status="claimed").pk == gone

    def test_they_are_noted_before_a_channel_that_may_take_long(self, messages, monkeypatch):
        make_notification(channel="take", available_at=utc_now() + NOW)
        states = []
        count = Notification.objects.of_status("sent").count
        monkeypatch.setattr(f"{HERE}.take", lambda message: states.append(count()))
        with time_machine.travel(utc_now() + 2 * NOW):
            assert deliver().sent == 31
        assert states == [30]


class TestSignals:
    def test_both_tell_what_became_of_the_row(self):
        told = []

        def sent(notification, **_):
            told.append(("sent", notification.pk, notification.status, notification.sent_at is not None))

        def failed(notification, error, final, **_):
            told.append(("failed", notification.pk, notification.status, type(error), final))

        event = make_event()
        rows = [make_notification(event, channel) for channel in ("take", "boom", "never")]
        notification_sent.connect(sent, sender=Notification)
        notification_failed.connect(failed, sender=Notification)
        try:
            deliver()
        finally:
            notification_sent.disconnect(sent, sender=Notification)
            notification_failed.disconnect(failed, sender=Notification)
        assert told == [
            ("sent", rows[0].pk, "sent", True),
            ("failed", rows[1].pk, "failed", ValueError, False),
            ("failed", rows[2].pk, "dead", GiveUp, True),
        ]

    def test_a_receiver_that_raises_changes_nothing(self):
        def raises(**_):
            raise RuntimeError("receiver")

        row = make_notification()
        notification_sent.connect(raises)
        try:
            assert deliver().sent == 1
        finally:
            notification_sent.disconnect(raises)
        assert fresh(row).status == "sent"


def kept_statements():
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'UPDATE%notification%'")
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connections["default"].Database.__name__ != "psycopg", reason="only psycopg 3 keeps statements")
class TestWhatPostgreSQLKeeps:
    @pytest.fixture(autouse=True)
    def fresh_connection(self):
        connections["default"].close()

    def send(self, count):
        for _ in range(count):
            make_notification()
        assert deliver().sent == count

    def test_what_becomes_of_each_message_is_noted_by_one_statement_that_the_server_keeps(self):
        self.send(1)
        assert kept_statements() == 0
        self.send(4)
        assert kept_statements() == 1

    def test_it_is_sent_as_text_once_the_server_has_forgotten_it(self):
        self.send(5)
        with connections["default"].cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
        self.send(5)
        assert kept_statements() == 0

    def test_behind_a_pooler_nothing_is_kept(self, monkeypatch):
        # The server's process is another than the one that the driver has connected to.
        monkeypatch.setattr("django_signal_audit.events.prepared.PROCESS", "-1")
        self.send(5)
        assert kept_statements() == 0


@pytest.mark.django_db(transaction=True)
def test_a_send_that_takes_long_keeps_its_claim(monkeypatch):
    if connections["default"].vendor == "sqlite":
        pytest.skip("threads of a test share the database in memory")
    row = make_notification()
    monkeypatch.setattr(outbox, "LEASE", dt.timedelta(seconds=0.6))
    lapses = []

    def take(message):
        end = time.monotonic() + 20
        while len(set(lapses)) < 4 and time.monotonic() < end:
            lapses.append(fresh(row).available_at)
            time.sleep(0.02)

    monkeypatch.setattr(f"{HERE}.take", take)
    assert deliver().sent == 1
    assert len(set(lapses)) == 4
    assert (fresh(row).status, fresh(row).lease_no) == ("sent", 1)


@pytest.mark.django_db(transaction=True)
def test_messages_are_sent_outside_any_transaction(settings, monkeypatch):
    states = []
    monkeypatch.setattr(f"{HERE}.take", lambda message: states.append(connections["default"].in_atomic_block))
    make_notification()
    assert deliver().sent == 1
    assert states == [False]


@pytest.mark.django_db(transaction=True)
def test_an_error_of_the_database_in_a_reaction_is_like_any_other(messages):
    event = make_event()
    row, other = make_notification(event, "clash"), make_notification(event, "take")
    report = deliver()
    assert (report.failed, report.sent) == (1, 1)
    assert IntegrityError.__name__ in fresh(row).last_error
    assert fresh(other).status == "sent"


@pytest.mark.django_db(databases=["default", "other"])
def test_another_database_has_its_own_outbox(messages):
    event = AuditEvent(event_type="update", source="orm", object_repr="Elsewhere")
    event.save(using="other")
    Notification(event=event.uid, rule="watch", channel="take").save(using="other")
    assert deliver("default").attempted == 0
    assert deliver("other").sent == 1
    assert messages[0].event.object_repr == "Elsewhere"
    assert Notification.objects.using("other").get().status == "sent"
