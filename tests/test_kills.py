"""Processes that are killed at random moments: the tables and the audit log agree, and every message is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .processes import stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


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


def test_no_message_is_lost_and_none_is_repeated_more_often_than_a_worker_is_killed(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    messages, kills, path = stage.choose(300, 2000), stage.choose(3, 20), str(tmp_path / "received")
    channel = {"BACKEND": "tests.processes.deliveries.FileChannel", "OPTIONS": {"path": path}}
    report = stage.run(
        "deliveries",
        databases=stage.databases(tmp_path),
        audit={
            "RULES": [{"name": "all", "events": ["told"], "notify": ["file"]}],
            "CHANNELS": {"file": channel},
            "DISPATCHER": stage.WORKER,
        },
        path=path,
        messages=messages,
        kills=kills,
        workers=2,
        seed=7,
    )
    record_property("deliveries", report)
    assert report["statuses"] == {"sent": messages}
    assert (report["events"], report["messages"]) == (messages, messages)
    assert (report["lost"], report["unknown"]) == (0, 0)
    assert report["repeated"] <= kills
