"""No storms: several messages become one, or wait, or are left out and counted."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection, connections

from django_signal_audit import audit_context, record
from django_signal_audit.delivery import digests, outbox
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import AuditEvent, Notification, Throttle
from django_signal_audit.models.events import utc_now
from django_signal_audit.testing import fake_notifications

from .notices import audit_settings, calling, make_event, make_notification, receiving

pytestmark = pytest.mark.django_db
WORKER = "django_signal_audit.dispatchers.WorkerDispatcher"


def by_worker(notify):
    return {**audit_settings(notify=notify), "DISPATCHER": WORKER}


@pytest.fixture
def messages():
    with receiving() as messages:
        yield messages


@pytest.fixture
def clock():
    with time_machine.travel(dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC), tick=False) as traveller:
        yield traveller


@pytest.fixture
def notify(settings):
    def apply(**entry):
        settings.SIGNAL_AUDIT = by_worker([{"channel": "take", "to": "a@example.com", **entry}])

    return apply


def uids(message):
    return [event.uid for event in message.events]


class TestDigest:
    def test_the_events_of_a_window_are_one_message_at_its_end(self, notify, messages, clock):
        notify(digest="10m")
        for _ in range(3):
            record("thing_happened")
            clock.shift(60)
        assert deliver().attempted == 0
        clock.shift(8 * 60)
        assert deliver().sent == 1
        (message,) = messages
        assert uids(message) == list(AuditEvent.objects.order_by("id").values_list("uid", flat=True))
        row = Notification.objects.get()
        assert (row.status, row.event, row.data["count"], len(row.data["events"])) == ("sent", None, 3, 3)
        assert row.message_id == message.id
        clock.shift(3600)
        assert deliver().attempted == 0

    def test_what_comes_later_is_another_window(self, notify, messages, clock):
        notify(digest="10m")
        record("thing_happened")
        clock.shift(601)
        deliver()
        record("thing_happened")
        assert deliver().attempted == 0
        clock.shift(601)
        deliver()
        assert [len(message.events) for message in messages] == [1, 1]
        assert Notification.objects.filter(event=None).count() == 0

    def test_rules_channels_and_recipients_have_windows_of_their_own(self, settings, messages, clock):
        entries = [{"channel": "take", "to": ["a", "b"], "digest": "1h"}, {"channel": "take_async", "digest": "1h"}]
        audit = by_worker(entries)
        settings.SIGNAL_AUDIT = {**audit, "RULES": [*audit["RULES"], {**audit["RULES"][0], "name": "other"}]}
        for _ in range(2):
            record("thing_happened")
        clock.shift(3601)
        assert deliver().sent == 6
        found = {(message.rule, message.channel, message.recipient) for message in messages}
        assert len(found) == 6
        assert {len(message.events) for message in messages} == {2}

    def test_the_actor_is_asked_of_each_event(self, notify, messages, clock):
        ada, bob = (User.objects.create(username=name) for name in ("ada", "bob"))
        notify(to="actor", digest="10m")
        for actor in (ada, bob, ada):
            with audit_context(actor=actor):
                record("thing_happened")
        assert deliver().collected == 3
        assert deliver().attempted == 0
        assert set(Notification.objects.values_list("status", "attempts")) == {("pending", 0)}
        clock.shift(601)
        assert deliver().sent == 2
        assert {message.recipient: len(message.events) for message in messages} == {str(ada.pk): 2, str(bob.pk): 1}

    def test_a_group_is_told_by_one_digest_each(self, notify, messages, clock):
        for name in ("ada", "bob"):
            User.objects.create(username=name, is_superuser=True)
        notify(to="superusers", digest="10m")
        record("thing_happened")
        record("thing_happened")
        clock.shift(601)
        assert deliver().sent == 2
        assert [len(message.events) for message in messages] == [2, 2]

    def test_what_was_told_of_several_at_once_joins_in(self, notify, messages, clock):
        notify()
        one, two, three = (make_event() for _ in range(3))
        key = {"digest_key": "same", "available_at": utc_now()}
        both = make_notification(two, data={"events": [str(one.uid), str(two.uid)], "count": 2}, **key)
        Notification.objects.filter(pk=both.pk).update(event=None)
        make_notification(three, **key)
        assert deliver().sent == 1
        assert uids(messages[0]) == [one.uid, two.uid, three.uid]

    def test_a_fake_leaves_them_waiting_and_does_not_hang(self, notify):
        notify(to="actor", digest="10m")
        user = User.objects.create(username="ada")
        with fake_notifications() as fake:
            with audit_context(actor=user):
                record("thing_happened")
            fake.assert_nothing_sent()

    def test_a_digest_that_fails_is_retried_whole(self, messages, clock, settings):
        settings.SIGNAL_AUDIT = by_worker([{"channel": "boom", "digest": "10m"}])
        record("thing_happened")
        record("thing_happened")
        clock.shift(601)
        assert deliver().failed == 1
        record("thing_happened")
        channels = {**settings.SIGNAL_AUDIT["CHANNELS"], "boom": calling("take", check_permission=False)}
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "CHANNELS": channels}
        Notification.objects.filter(status="failed").update(available_at=utc_now())
        assert deliver().sent == 1
        assert len(messages[0].events) == 2
        assert Notification.objects.get(status="pending").event is not None


@pytest.mark.django_db(transaction=True)
class TestRivals:
    def test_two_windows_opened_at_the_same_instant_are_one_message(self, notify, messages):
        if connection.vendor == "sqlite":
            pytest.skip("threads of a test share the database in memory")
        notify(digest="10m")

        def act(_):
            try:
                record("thing_happened")
            finally:
                connections.close_all()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(act, range(2)))
        with time_machine.travel(utc_now() + dt.timedelta(minutes=11)):
            assert deliver().sent == 1
        assert len(messages[0].events) == 2
        assert Notification.objects.count() == 1

    def test_of_two_workers_that_close_a_window_one_has_all(self):
        if not connection.features.has_select_for_update_skip_locked:
            pytest.skip("needs a database that locks rows")
        for _ in range(10):
            make_notification(digest_key="same")
        (mine,), (theirs,) = outbox.claim("default", limit=1), outbox.claim("default", limit=1)

        def close(row):
            try:
                return row.data["count"] if digests.close(row) else 0
            finally:
                connections.close_all()

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(close, [mine, theirs])) == [0, 10]
        assert Notification.objects.count() == 1


class TestThrottle:
    def test_what_is_too_much_is_skipped_with_the_reason(self, notify, messages, clock):
        notify(throttle="2/1h")
        for _ in range(5):
            record("thing_happened")
            clock.shift(60)
            deliver()
        assert len(messages) == 2
        reason = 'Throttled: rule "watch" sends this recipient at most 2/1h by channel "take".'
        assert list(Notification.objects.filter(status="skipped").values_list("last_error", flat=True)) == [reason] * 3

    def test_it_is_any_stretch_of_that_length(self, notify, messages, clock):
        notify(throttle="2/1h")
        for minutes in (50, 20, 20, 20):
            record("thing_happened")
            deliver()
            clock.shift(minutes * 60)
        # The third came 70 minutes after the first, and 20 after the second.
        assert [row.status for row in Notification.objects.order_by("id")] == ["sent", "sent", "sent", "skipped"]

    def test_a_recipient_does_not_use_up_anothers(self, notify, messages):
        notify(to=["a", "b"], throttle="1h")
        record("thing_happened")
        record("thing_happened")
        report = deliver()
        assert (report.sent, report.skipped) == (2, 2)
        assert {message.recipient for message in messages} == {"a", "b"}

    def test_a_retry_is_not_another_message(self, settings, messages):
        settings.SIGNAL_AUDIT = by_worker([{"channel": "boom", "throttle": "1h"}])
        record("thing_happened")
        assert deliver().failed == 1
        Notification.objects.update(available_at=utc_now())
        assert deliver().failed == 1
        assert len(Throttle.objects.get().moments) == 1

    def test_a_digest_counts_as_one(self, notify, messages, clock):
        notify(digest="10m", throttle="1h")
        for _ in range(3):
            record("thing_happened")
        clock.shift(601)
        assert (deliver().sent, len(messages)) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_workers_count_together(notify, messages):
    if connection.vendor == "sqlite":
        pytest.skip("threads of a test share the database in memory")
    notify(throttle="3/1h")
    for _ in range(12):
        record("thing_happened")

    def work(_):
        try:
            return deliver(limit=3)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(work, range(4)))
    assert sum(report.attempted for report in reports) == 12
    assert sum(report.sent for report in reports) == len(messages) == 3
