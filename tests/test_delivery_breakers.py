"""A channel that fails again and again is suspended for a growing while, by every worker and by the requests."""

from __future__ import annotations

import datetime as dt
import smtplib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection, transaction

from django_signal_audit.delivery.breakers import Breakers, is_out_of_reach, pause
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.exceptions import GiveUp, RetryLater
from django_signal_audit.models import AuditEvent, ChannelState, Notification

from .notices import HERE, audit_settings, calling, make_event, make_notification, receiving, wake

START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


class Server:
    """What a channel talks to: it fails with an error, or answers if there is none."""

    def __init__(self) -> None:
        self.error: Exception | None = ConnectionRefusedError("nobody listens")
        self.calls = 0

    def take(self, message: Any) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error

    def counted(self) -> int:
        """Return how often it was called since the last time."""
        calls, self.calls = self.calls, 0
        return calls


@pytest.fixture(autouse=True)
def server(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    settings.SIGNAL_AUDIT = audit_settings({"mail": calling("boom", check_permission=False)})
    server = Server()
    monkeypatch.setattr(f"{HERE}.boom", server.take)
    with receiving():
        yield server


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(START, tick=False) as clock:
        yield clock


def write(count: int, channel: str = "mail") -> list[Notification]:
    event = make_event()
    return [make_notification(event, channel) for _ in range(count)]


@pytest.mark.django_db
class TestStates:
    def test_where_nobody_answers_one_message_is_enough(self, server):
        write(10)
        report = deliver()
        assert server.counted() == 1
        assert (report.attempted, report.failed) == (1, 1)
        waiting = Notification.objects.filter(status="pending", attempts=0)
        assert waiting.count() == 9
        assert deliver().attempted == 0

    def test_other_errors_need_five_messages_in_a_row(self, server):
        server.error = ValueError("it may be the message")
        write(10)
        deliver()
        assert server.counted() == 5
        assert Notification.objects.filter(status="pending", attempts=0).count() == 5

    def test_a_message_that_fails_again_and_again_is_one_message(self, server, clock):
        server.error = ValueError("it is the message")
        write(1)
        for _ in range(8):
            deliver()
            clock.shift(dt.timedelta(days=2))
        assert server.counted() == 8
        assert ChannelState.objects.get().until is None

    def test_one_that_is_sent_begins_the_count_anew(self, server):
        for error in (ValueError("no"), None, ValueError("no")):
            server.error = error
            write(4)
            deliver()
        assert server.counted() == 12
        assert ChannelState.objects.get().failures == 4

    @pytest.mark.parametrize("error", [GiveUp("no such account"), None])
    def test_a_message_that_is_refused_for_good_was_answered(self, server, error):
        server.error = ValueError("no")
        write(4)
        deliver()
        server.error = error
        write(1)
        deliver()
        assert ChannelState.objects.get().failures == 0

    def test_then_one_message_is_tried_and_the_pause_grows(self, server, clock):
        write(30)
        waits = []
        for _ in range(9):
            deliver()
            assert server.counted() == 1
            state = ChannelState.objects.get()
            waits.append((state.until - dt.datetime.now(dt.UTC)).total_seconds())
            clock.move_to(state.until - dt.timedelta(seconds=1))
            deliver()
            assert server.counted() == 0
            clock.shift(dt.timedelta(seconds=2))
        assert waits == [15, 30, 60, 120, 240, 480, 900, 900, 900]
        assert Notification.objects.filter(attempts=0).count() == 21

    def test_one_that_is_sent_closes_it(self, server, clock):
        write(10)
        deliver()
        server.error = None
        clock.shift(dt.timedelta(seconds=16))
        assert deliver().sent == 9
        state = ChannelState.objects.get()
        assert (state.failures, state.openings, state.until, state.since) == (0, 0, None, None)
        server.error = OSError("again")
        write(1)
        deliver()
        assert ChannelState.objects.get().openings == 1

    def test_only_one_worker_tries(self, server, clock):
        write(3)
        deliver()
        clock.shift(dt.timedelta(seconds=16))
        ours, theirs = Breakers("default"), Breakers("default")
        ours.refresh()
        theirs.refresh()
        assert ours.may_send("mail")
        assert not theirs.may_send("mail")
        assert deliver().attempted == 0
        # It died meanwhile.
        clock.shift(dt.timedelta(seconds=71))
        server.error = None
        assert deliver().sent == 3

    def test_a_message_that_comes_to_no_send_leaves_the_try_to_the_next(self, server, clock):
        write(1)
        deliver()
        clock.shift(dt.timedelta(seconds=16))
        server.error = None
        Notification.objects.all().delete()
        make_notification(None, "mail", recipient="user:nobody", available_at=START)
        write(2)
        report = deliver()
        assert (report.skipped, report.sent) == (1, 2)

    def test_other_channels_go_on(self, server):
        write(3)
        write(3, "take")
        assert deliver().sent == 3

    def test_a_rule_or_a_recipient_that_fails_says_nothing_of_the_channel(self, server):
        for _ in range(8):
            make_notification(channel="mail", recipient="tests.test_delivery_breakers.nobody_knows")
        assert deliver().failed == 8
        assert not ChannelState.objects.exists()

    def test_a_pause_by_a_clock_that_was_wrong_does_not_count(self, server, clock):
        write(2)
        deliver()
        server.error = None
        clock.shift(dt.timedelta(hours=-1))
        Notification.objects.update(available_at=START - dt.timedelta(hours=2))
        assert deliver().sent == 2


def nobody_knows(event: AuditEvent) -> None:
    raise ConnectionError("the directory is down")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (smtplib.SMTPServerDisconnected("gone"), True),
        (smtplib.SMTPConnectError(421, "too busy"), True),
        (smtplib.SMTPDataError(451, "greylisted"), False),
        (smtplib.SMTPRecipientsRefused({}), False),
        (FileNotFoundError(), False),
        (ValueError(), False),
        (RetryLater("a server that did answer"), False),
    ],
)
def test_what_says_that_nobody_answers(error, expected):
    assert is_out_of_reach(error) is expected
    outer = RetryLater("not now")
    outer.__cause__ = error
    assert is_out_of_reach(outer) is expected


def test_the_pauses_have_a_bound():
    assert pause(1000) == dt.timedelta(minutes=15)


@pytest.mark.django_db(transaction=True)
class TestRequests:
    def commit(self, count: int = 1) -> None:
        with transaction.atomic():
            wake(*write(count))

    def test_a_request_pays_a_dead_server_once_and_not_at_each_commit(self, server):
        for _ in range(6):
            self.commit(3)
        assert server.counted() == 1
        assert Notification.objects.filter(status="pending", attempts=0).count() == 17

    def test_one_that_took_long_is_enough(self, server, monkeypatch):
        server.error = ValueError("after a while")
        real = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: real() + 1.1 * server.calls)
        for _ in range(3):
            self.commit()
        assert server.counted() == 1

    def test_what_a_worker_found_holds_for_requests_too(self, server):
        write(1)
        deliver()
        self.commit()
        assert server.counted() == 1

    def test_the_one_that_is_tried_may_be_a_requests(self, server):
        with time_machine.travel(START, tick=False) as clock:
            self.commit()
            server.error = None
            clock.shift(dt.timedelta(seconds=16))
            self.commit(2)
        assert server.counted() == 3
        assert ChannelState.objects.get().until is None


@pytest.mark.django_db
class TestWhatIsSeen:
    def test_events_say_when_it_begins_and_when_it_is_over(self, server, clock):
        write(3)
        deliver()
        clock.shift(dt.timedelta(seconds=16))
        deliver()
        server.error = None
        clock.shift(dt.timedelta(seconds=31))
        deliver()
        failing, recovered = AuditEvent.objects.exclude(event_type="update").order_by("id")
        assert (failing.event_type, failing.level, failing.actor_repr) == ("channel_failing", "warning", "")
        assert failing.data["channel"] == "mail"
        assert "nobody listens" in failing.data["error"]
        assert failing.data["until"] == "2026-03-01T12:00:15+00:00"
        assert (recovered.event_type, recovered.level) == ("channel_recovered", "info")
        assert recovered.data == {"channel": "mail", "failures": 2, "since": "2026-03-01T12:00:00+00:00"}

    def test_a_rule_can_tell_somebody_by_another_channel(self, server, settings):
        rule = {"name": "failing", "events": ["channel_failing"], "notify": ["take"]}
        settings.SIGNAL_AUDIT = {
            **settings.SIGNAL_AUDIT,
            "RULES": [*settings.SIGNAL_AUDIT["RULES"], rule],
            "DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher",
        }
        write(1)
        deliver()
        assert Notification.objects.get(rule="failing").status == "sent"

    def test_health_and_stats_name_it(self, capsys, server, clock):
        write(1)
        deliver()
        expected = (
            'channel "mail" fails since 2026-03-01 12:00:00 UTC and is suspended until 2026-03-01 12:00:15 UTC: '
            "ConnectionRefusedError: nobody listens"
        )
        for option in ("--health", "--stats"):
            call_command("audit_deliver", option)
            assert expected in capsys.readouterr().out
        call_command("audit_deliver", "--stats", "--format", "prometheus")
        assert 'signal_audit_channel_failing{database="default",channel="mail"} 1\n' in capsys.readouterr().out

    def test_secrets_are_hidden(self, server, settings):
        settings.SECRET_KEY = "the secret of this project"
        server.error = OSError("the secret of this project")
        write(1)
        deliver()
        assert "secret" not in ChannelState.objects.get().last_error


@pytest.mark.django_db(transaction=True)
def test_a_worker_with_threads_leaves_it_alone_too(server):
    if connection.vendor == "sqlite":
        pytest.skip("threads of a test share the database in memory")
    write(30)
    write(10, "take")
    call_command("audit_deliver", "--concurrency", "4", verbosity=0)
    assert server.counted() <= 4
    assert Notification.objects.filter(channel="take", status="sent").count() == 10
    assert Notification.objects.filter(status="pending", attempts=0).count() >= 26
