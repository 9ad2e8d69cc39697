"""A channel that is slow or hangs delays its own messages and no others."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_signal_audit import record
from django_signal_audit.delivery.turns import BATCH_SIZE, Turns
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .notices import INBOX, audit_settings, make_event, make_notification, receiving
from .processes import stage

WAITING = "tests.processes.lanes.WaitingChannel"
MANY = [f"hanging{number}" for number in range(16)]
NAMES = ("slow", "hanging", "quick", "late", "heard", *MANY)
LOST = {"channel": "lost", "to": "tests.processes.lanes.find_nobody"}


@pytest.fixture(autouse=True)
def messages(settings):
    settings.SIGNAL_AUDIT = audit_settings()
    with receiving() as messages:
        yield messages


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
class TestLoad:
    """Ten messages of 30 seconds, three that never come back, and fifty that take no time."""

    def run(self, path: Path, **arguments: Any) -> Any:
        return stage.run(
            "lanes",
            databases=stage.databases(path),
            audit={
                "RULES": [
                    *({"name": name, "events": [f"{name}_happened"], "notify": [name]} for name in NAMES),
                    {"name": "lost", "events": ["lost_happened"], "notify": [LOST]},
                ],
                "CHANNELS": {
                    **{name: {"BACKEND": WAITING} for name in NAMES},
                    "lost": {"BACKEND": WAITING, "OPTIONS": {"seconds": 0}},
                    "heard": {"BACKEND": WAITING, "OPTIONS": {"seconds": 0}},
                    "slow": {"BACKEND": WAITING, "OPTIONS": {"seconds": 30}},
                    "quick": {"BACKEND": WAITING, "OPTIONS": {"seconds": 0}},
                    "late": {"BACKEND": WAITING, "OPTIONS": {"seconds": 0.7}},
                },
                "DISPATCHER": stage.WORKER,
            },
            **{"slow": 10, "hanging": 3, "quick": 50, "concurrency": 4, "patience": 30, **arguments},
        )

    @pytest.mark.parametrize("workers", [1, 3])
    @pytest.mark.parametrize("is_first", [True, False], ids=["at once", "later"])
    def test_what_is_quick_is_sent_within_five_seconds(
        self, tmp_path: Path, workers: int, is_first: bool, record_property: Any
    ) -> None:
        report = self.run(tmp_path, workers=workers, is_first=is_first)
        record_property("waited", report["waited"])
        assert report["waited"] < 5
        states = {(channel, status): count for channel, status, count in report["states"]}
        assert states["quick", "sent"] == 50
        # No more is claimed than can be sent at once.
        claimed = states.get(("slow", "claimed"), 0) + states.get(("hanging", "claimed"), 0)
        assert 0 < claimed <= 3 * workers

    @pytest.mark.parametrize("workers", [1, 3])
    @pytest.mark.parametrize(
        "beside",
        [{"lost": 8}, {"heard": 8}, dict.fromkeys(MANY, 2)],
        ids=["recipients", "receivers", "many channels"],
    )
    def test_nor_does_it_wait_for_whatever_else_may_hang(
        self, tmp_path: Path, workers: int, beside: dict[str, int]
    ) -> None:
        report = self.run(tmp_path, workers=workers, slow=0, hanging=0, is_first=False, beside=beside)
        assert report["waited"] < 5

    def test_with_two_threads_too(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, workers=1, concurrency=2, is_first=False)["waited"] < 5

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_a_slow_channel_does_not_wait_for_one_that_hangs(self, tmp_path: Path, concurrency: int) -> None:
        report = self.run(
            tmp_path, workers=1, concurrency=concurrency, is_first=False, slow=0, hanging=20, quick=20, late=2
        )
        assert report["waited"] < 5
        states = {(channel, status): count for channel, status, count in report["states"]}
        assert states["hanging", "claimed"] == max(1, concurrency - 1)


@pytest.mark.django_db
class TestTurns:
    def turns(self, *channels: str, **options: Any) -> Turns:
        event = make_event()
        for channel in channels:
            make_notification(event, channel)
        turns = Turns("default", **options)
        turns.refresh()
        return turns

    def test_each_channel_has_a_thread_before_any_has_two(self):
        turns = self.turns("take", "boom", threads=4)
        assert [turns.take().alias for _ in range(2)] == ["take", "boom"]

    def test_of_one_that_sent_nothing_yet_nobody_knows_so_it_has_one(self):
        turns = self.turns("take", "take", "boom", "boom", threads=4)
        assert [turns.take().alias for _ in range(2)] == ["take", "boom"]
        assert turns.take() is None

    def test_all_that_are_slow_leave_the_last_thread_to_others(self):
        turns = self.turns("take", "boom", threads=4)
        for turn in [turns.take(), turns.take()]:
            turns.give_back(turn, claimed=1, tried=1, seconds=30)
        assert Counter(turns.take().alias for _ in range(3)) == {"take": 2, "boom": 1}
        assert turns.take() is None
        make_notification(channel="later")
        turns.refresh()
        assert turns.take().alias == "later"

    def test_a_quick_one_leaves_it_too_as_it_may_be_slow_the_next_time(self):
        turns = self.turns("take", "boom", threads=4)
        first = turns.take()
        assert first.alias == "take"
        turns.give_back(first, claimed=1, tried=1, seconds=0.001)
        assert Counter(turns.take().alias for _ in range(4)) == {"take": 3, "boom": 1}
        assert turns.take() is None

    def test_one_that_hangs_counts_as_slow_before_it_is_over(self):
        turns = self.turns("take", "boom", threads=3)
        for turn in [turns.take(), turns.take()]:
            turns.give_back(turn, claimed=1, tried=1, seconds=0.001)
        assert Counter(turns.take().alias for _ in range(2)) == {"take": 1, "boom": 1}
        turns.note_slow("take", 2.0)
        turns.note_slow("boom", 2.0)
        assert turns.take() is None

    def test_with_one_thread_a_channel_that_hangs_gets_no_more_of_those_that_are_added_for_others(self):
        turns = self.turns("take", "take", "boom", threads=1)
        assert turns.take().alias == "take"
        turns.note_slow("take", 2.0)
        assert turns.missing(1)
        turns.note_threads(2)
        boom = turns.take()
        assert boom.alias == "boom"
        turns.give_back(boom, claimed=1, tried=1, seconds=0.001)
        turns.refresh()
        assert [turns.take().alias, turns.take()] == ["boom", None]

    def test_one_that_is_slow_too_gets_a_further_thread_and_one_more_is_left_for_what_is_quick(self):
        turns = self.turns("take", "boom", threads=3)
        take, boom = turns.take(), turns.take()
        turns.give_back(take, claimed=1, tried=1, seconds=30)
        Notification.objects.filter(channel="boom").delete()
        turns.give_back(boom, claimed=0, tried=1, seconds=1)
        assert [turns.take().alias, turns.take().alias, turns.take()] == ["take", "take", None]
        assert not turns.missing(2)
        make_notification(channel="boom")
        turns.refresh()
        assert turns.take() is None
        assert not turns.missing(1)
        assert turns.missing(2)
        turns.note_threads(4)
        assert [turns.take().alias, turns.take()] == ["boom", None]
        assert not turns.missing(3)
        make_notification(channel="later")
        turns.refresh()
        assert turns.take().alias == "later"

    def test_of_many_that_may_hang_none_waits_for_another_to_be_found_out(self):
        turns = self.turns("take", "take_async", "boom", "later", threads=1)
        assert turns.take().alias == "take"
        assert turns.missing(0) == 0
        turns.note_slow("take", 2.0)
        assert turns.missing(1) == 3
        turns.note_threads(4)
        assert [turns.take().alias for _ in range(3)] == ["take_async", "boom", "later"]
        assert turns.missing(1) == 0

    def test_a_channel_alone_has_all_threads(self):
        turns = self.turns("take", threads=4)
        assert [turns.take().alias for _ in range(4)] == ["take"] * 4

    def test_no_more_is_claimed_than_can_be_sent_soon(self):
        turns = self.turns("take", threads=2)
        for seconds, size in ((None, 1), (0.0001, BATCH_SIZE), (0.005, 50), (0.2, 1), (30, 1)):
            turn = turns.take()
            assert turn.size == (size if seconds is None else turn.size)
            turns.give_back(turn, claimed=turn.size, tried=1, seconds=seconds or 0.0001)
            following = turns.take()
            assert seconds is None or following.size == size
            turns.give_back(following, claimed=following.size, tried=1, seconds=None)

    def test_what_may_be_repeated_is_claimed_by_the_hundred(self, settings):
        settings.SIGNAL_AUDIT = audit_settings({"inbox": {"BACKEND": INBOX}})
        assert self.turns("inbox", threads=4).take().size == BATCH_SIZE

    def test_what_another_look_has_found_is_not_forgotten(self):
        turns = self.turns("take")
        turn = turns.take()
        turns.refresh()
        turns.give_back(turn, claimed=0, tried=0, seconds=None)
        assert turns.take() is not None

    def test_a_turn_ends_once(self):
        turns = self.turns("take", limit=5)
        turn = turns.take()
        for _ in range(2):
            turns.give_back(turn, claimed=1, tried=1, seconds=None)
        assert turns.left == 4


@pytest.mark.django_db
class TestPriority:
    @pytest.fixture(autouse=True)
    def rules(self, settings):
        levels = ("info", "warning", "critical")
        rules = [{"name": level, "events": [level], "level": level, "notify": ["take"]} for level in levels]
        settings.SIGNAL_AUDIT = {
            **audit_settings(),
            "RULES": rules,
            "DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher",
        }

    def test_critical_comes_before_warning_before_info(self, messages):
        for level in ("info", "critical", "warning", "info", "critical"):
            record(level)
        deliver()
        assert [message.rule for message in messages] == ["critical", "critical", "warning", "info", "info"]

    def test_nothing_waits_for_ever_while_more_urgent_messages_come(self, messages):
        for level in ("info", "warning"):
            for _ in range(5):
                record(level)
        for _ in range(100):
            record("critical")
        turns = Turns("default", first=1)
        for _ in range(40):
            turns._is_stale = True
            turn = turns.take()
            deliver(limit=1, turns=_Only(turns, turn))
        assert {message.rule for message in messages} == {"info", "warning", "critical"}

    def test_so_do_the_people_that_a_message_is_for(self, django_user_model, settings):
        for name in ("ann", "bob"):
            django_user_model.objects.create(username=name, is_superuser=True)
        settings.SIGNAL_AUDIT["RULES"][2]["notify"] = [{"channel": "inbox", "to": "superusers"}]
        settings.SIGNAL_AUDIT = {
            **settings.SIGNAL_AUDIT,
            "CHANNELS": {**settings.SIGNAL_AUDIT["CHANNELS"], "inbox": {"BACKEND": INBOX}},
        }
        record("critical")
        deliver()
        assert set(Notification.objects.values_list("priority", "status")) == {(0, "sent")}


class _Only:
    """One turn and no more."""

    def __init__(self, turns: Turns, turn: Any) -> None:
        self.turns, self.turn = turns, turn
        self.breakers, self.unknown = turns.breakers, turns.unknown

    def take(self, wait: float = 0.0) -> Any:
        turn, self.turn = self.turn, None
        return turn and turn.__class__(turn.alias, 1, turn.statuses, turn.look, turn.number, turn.favoured)

    def give_back(self, turn: Any, **values: Any) -> None:
        self.turns.give_back(turn, **{**values, "seconds": None})


@pytest.mark.django_db
class TestOptions:
    def run(self, *arguments: str) -> None:
        call_command("audit_deliver", *arguments, verbosity=0)

    def states(self) -> dict[str, str]:
        return dict(Notification.objects.values_list("channel", "status"))

    def test_a_worker_of_its_own(self):
        event = make_event()
        for channel in ("take", "take_async", "boom"):
            make_notification(event, channel)
        self.run("--channel", "take")
        assert self.states() == {"take": "sent", "take_async": "pending", "boom": "pending"}
        self.run("--exclude-channel", "boom")
        assert self.states() == {"take": "sent", "take_async": "sent", "boom": "pending"}

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("--channel", "tkae"), 'SIGNAL_AUDIT["CHANNELS"] has no "tkae". Did you mean \'take\'?'),
            (("--exclude-channel", "tkae"), "Did you mean 'take'?"),
            (("--concurrency", "0"), "--concurrency must be at least 1."),
            (("--grace", "-1"), "--grace must be at least 0 seconds."),
        ],
    )
    def test_a_wrong_option_is_one_line(self, arguments, expected):
        with pytest.raises(CommandError, match=re.escape(expected)):
            self.run(*arguments)
