from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection

from .processes.stage import EVERYTHING, choose, databases, run
from .test_concurrency import LEVELS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


class TestReverting:
    """Of several users who revert the same change at once, one does, and the others are told why not."""

    @pytest.mark.parametrize("what", ["update", "delete"])
    @pytest.mark.parametrize("level", ["default", "the server's default", "repeatable read", "serializable"])
    def test_one_of_all_does(self, level: str, what: str, tmp_path: Path) -> None:
        options = LEVELS[connection.vendor].get(level)
        if options is None:
            pytest.skip("another database's level")
        rounds = choose(3, 60)
        report = run(
            "reverts",
            databases=databases(tmp_path, **options),
            audit={**EVERYTHING, "MASK_FIELDS": []},
            processes=4,
            rounds=rounds,
            what=what,
        )
        assert report["problems"] == []
        assert report["outcomes"] == {"done refused refused refused": rounds}
        assert report["left"] == {"old 0": rounds}

    @pytest.mark.parametrize(
        ("meanwhile", "outcomes", "left"),
        [
            ("rename", {"done", "refused"}, {"other 0"}),
            ("save", {"done", "refused"}, {"other 0"}),
            ("count", {"done"}, {"old 1"}),
            ("delete", {"done", "refused"}, {"nothing"}),
        ],
    )
    def test_while_another_writes_the_row(
        self, meanwhile: str, outcomes: set[str], left: set[str], tmp_path: Path
    ) -> None:
        report = run(
            "reverts",
            databases=databases(tmp_path),
            audit=EVERYTHING,
            processes=1,
            rounds=choose(4, 60),
            meanwhile=meanwhile,
        )
        assert report["problems"] == []
        assert set(report["outcomes"]) <= outcomes
        assert set(report["left"]) == left
