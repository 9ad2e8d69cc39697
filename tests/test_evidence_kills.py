"""Sealers and writers that are killed: every event has exactly one leaf, and every checkpoint rebuilds."""

from __future__ import annotations

from pathlib import Path

import pytest

from .processes import stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


def test_clean_histories_of_several_writers_raise_no_alarm_while_they_are_written(tmp_path: Path) -> None:
    histories = stage.choose(30, 1000)
    report = stage.run(
        "histories", databases=stage.databases(tmp_path), audit=stage.EVERYTHING, histories=histories, seed=11
    )
    assert report["problems"] == []
    assert (report["histories"], report["missing"], report["leaves"]) == (histories, 0, report["events"])
    assert report["events"] > 10 * histories
    # Twice or more for each ten: how often depends on the machine.
    assert report["verified"] >= histories // 5
    assert report["rolled_back"] > 0


def test_a_sealer_killed_at_any_statement_leaves_every_event_with_one_leaf(tmp_path: Path) -> None:
    report = stage.run(
        "seals",
        databases=stage.databases(tmp_path),
        audit=stage.EVERYTHING,
        rounds=stage.choose(3, 24),
        seed=7,
        longest=stage.choose(3, 10) / 10,
    )
    assert report["problems"] == []
    assert (report["missing"], report["leaves"]) == (0, report["events"])
    assert report["statements"] > 6
    assert report["kills"] == 4 * stage.choose(3, 24)
    assert report["events"] > 50
