"""Processes that are killed at random moments: the tables and the audit log agree, and every message is sent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import OperationalError, connection

from django_signal_audit import record
from django_signal_audit.delivery.worker import deliver as deliver_here
from django_signal_audit.exceptions import EventNotWritten
from django_signal_audit.models import AuditEvent, Notification

from .processes import server, stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


@pytest.mark.server
def test_no_change_without_its_event_and_no_event_without_its_change(tmp_path: Path) -> None:
    report = stage.run(
        "kills",
        databases=stage.databases(tmp_path),
        audit=stage.EVERYTHING,
        rounds=stage.choose(4, 50),
        writers=2,
        seed=7,
        longest=1.0,
    )
    assert report["problems"] == []
    assert report["kills"] == 2 * report["comparisons"]
    assert report["events"] > 100
    assert report["rows"] > 10


@pytest.mark.parametrize("concurrency", [1, pytest.param(4, marks=pytest.mark.server)])
def test_no_message_is_lost_and_none_is_repeated_more_often_than_a_worker_is_killed(
    tmp_path: Path, concurrency: int, record_property: Callable[[str, object], None]
) -> None:
    messages, kills = stage.choose(300, 2000), stage.choose(3, 20)
    report = deliver(tmp_path, messages=messages, kills=kills, concurrency=concurrency)
    record_property("deliveries", report)
    assert report["statuses"] == {"sent": messages}
    assert (report["events"], report["messages"]) == (messages, messages)
    assert (report["lost"], report["unknown"]) == (0, 0)
    # Each kill may come between sending and noting, of as many messages as are under way.
    assert report["repeated"] <= kills * concurrency


def test_nor_if_some_sends_hang_besides(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    messages, kills, hanging = stage.choose(300, 2000), stage.choose(3, 20), 3
    report = deliver(tmp_path, messages=messages, kills=kills, concurrency=4, hanging=hanging)
    record_property("deliveries", report)
    assert report["statuses"] == {"sent": messages}
    assert (report["lost"], report["unknown"]) == (0, 0)
    assert report["late"] == hanging
    assert report["repeated"] <= kills * 4 + 2 * hanging


def record_many(count: int) -> None:
    for _ in range(count):
        record("told", data={"text": "long " * 2000})


@pytest.mark.server
def test_a_full_disk_loses_nothing(settings: Any) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite can be told how large it may become")
    settings.SIGNAL_AUDIT = {
        "RULES": [{"name": "all", "events": ["told"], "notify": ["inbox"], "message": "{{ event.data.text }}"}],
        "CHANNELS": {"inbox": {"BACKEND": "django_signal_audit.channels.inbox.InboxChannel", "OPTIONS": {"to": ["7"]}}},
        "DISPATCHER": stage.WORKER,
    }
    User.objects.create_superuser("ada", pk=7)
    record_many(30)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")  # else the free pages of tests before would be room
        cursor.execute("PRAGMA page_count")
        pages = cursor.fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count = {pages + 20}")
        try:
            # Where the disk still has room to note that a message failed, the worker goes on.
            with suppress(OperationalError):
                deliver_here()
            assert Notification.objects.exclude(status="sent").exists()
            # Neither an event without its change nor the other way round.
            before = AuditEvent.objects.count()
            with pytest.raises((OperationalError, EventNotWritten), match="full"):
                record_many(50)
            assert Notification.objects.count() == AuditEvent.objects.count() >= before
        finally:
            cursor.execute("PRAGMA max_page_count = 1073741823")
    # The leases are over, and what failed is due again.
    with time_machine.travel(dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)):
        deliver_here()
    assert set(Notification.objects.values_list("status", flat=True)) == {"sent"}


def trouble(path: Path, name: str, databases: dict[str, Any] | None = None, **arguments: Any) -> Any:
    """Send by two workers with four threads each, in spite of some trouble, and report who got what."""
    received = str(path / "received")
    channel = {"BACKEND": "tests.processes.troubles.SubjectChannel", "OPTIONS": {"path": received}}
    told = {"name": "all", "events": ["told"], "notify": ["file"]}
    news = {"name": "news", "events": ["news"], "notify": ["file"], "subject": "the news"}
    settings = {"RULES": [told, news], "CHANNELS": {"file": channel}, "DISPATCHER": stage.WORKER}
    if name == "versions":
        arguments["older"] = {**settings, "RULES": [told]}
    return stage.run(
        "troubles",
        databases=databases or stage.databases(path),
        audit=settings,
        trouble=name,
        path=received,
        workers=2,
        concurrency=4,
        **arguments,
    )


def test_a_clock_that_jumps_by_an_hour_loses_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    messages, hours = stage.choose(400, 4000), [1.0, -1.0, -1.0, 1.0]
    report = trouble(tmp_path, "jumps", messages=messages, hours=hours)
    record_property("clock", report)
    assert report["statuses"] == {"sent": messages}
    assert (report["lost"], report["unknown"]) == (0, 0)
    # What is under way at a jump may be taken over, and again when its workers are killed.
    assert report["repeated"] <= (len(hours) + 2) * 2 * 4


@pytest.mark.server
def test_connections_that_are_cut_under_load_lose_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("a file has no connections to cut")
    messages, count = stage.choose(400, 4000), stage.choose(5, 40)
    report = trouble(tmp_path, "cuts", messages=messages, count=count)
    record_property("cuts", report)
    assert report["statuses"] == {"sent": messages}
    assert (report["lost"], report["unknown"]) == (0, 0)
    assert report["cut"] > count
    assert report["repeated"] <= report["cut"] * 4


@pytest.mark.server
@pytest.mark.parametrize("crashes", [False, True])
def test_a_server_that_is_restarted_under_load_loses_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None], crashes: bool
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("of the databases, PostgreSQL's server alone is started here")
    if reason := server.why_not():
        pytest.skip(reason)
    messages, count = stage.choose(1000, 8000), stage.choose(2, 12)
    with server.own_server() as own:
        databases = server.with_databases(own["entry"])
        stage.run("tables", databases=databases, audit={})
        commands = [own["restarts"][crashes]] * count
        report = trouble(tmp_path, "restarts", databases, messages=messages, commands=commands, account=own["account"])
    record_property("restarts", report)
    assert report["statuses"] == {"sent": messages}
    assert (report["lost"], report["unknown"]) == (0, 0)
    assert report["left"] > 0
    if not crashes:
        assert report["repeated"] <= count * 2 * 4


def test_two_versions_of_the_settings_at_once_send_each_message_as_its_rule_says(tmp_path: Path) -> None:
    report = trouble(tmp_path, "versions", messages=200, newer=100)
    assert report["statuses"] == {"sent": 300}
    assert (report["lost"], report["unknown"], report["repeated"]) == (0, 0, 0)
    assert report["left"] == 100
    subjects = (tmp_path / "received.subjects").read_text(encoding="utf-8").splitlines()
    assert sum(line.endswith(" the news") for line in subjects) == 100


def deliver(path: Path, **arguments: int) -> Any:
    """Send by two workers, some of which are killed, and report who got what."""
    received = str(path / "received")
    return stage.run(
        "deliveries",
        databases=stage.databases(path),
        audit={
            "RULES": [
                {"name": "all", "events": ["told"], "notify": ["file"]},
                {"name": "hung", "events": ["hung"], "notify": ["hanging"]},
            ],
            "CHANNELS": {
                "file": {"BACKEND": "tests.processes.deliveries.FileChannel", "OPTIONS": {"path": received}},
                "hanging": {
                    "BACKEND": "tests.processes.deliveries.HangingChannel",
                    "OPTIONS": {"path": received, "SEND_TIMEOUT": 2},
                },
            },
            "DISPATCHER": stage.WORKER,
        },
        path=received,
        workers=2,
        seed=7,
        **arguments,
    )
