"""Writers that are killed at random moments: afterwards the tables and the trail agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from .processes import stage


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.xdist_group("processes")
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
