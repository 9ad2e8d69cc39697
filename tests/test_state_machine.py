"""Whatever is written, in whatever order and transaction: folding the events gives the tables.

The default profile takes seconds and always the same examples. ``AUDIT_TEST_THOROUGH=1`` looks for minutes, and
``HYPOTHESIS_PROFILE=thorough`` for longer, at other examples each time.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from django_signal_audit.capture.connection import reconnect
from django_signal_audit.capture.sources.base import registered_sources

from .app.models import Product
from .conftest import Audit
from .machine import oracle, world, writes
from .processes.stage import THOROUGH

_COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}
settings.register_profile("default", max_examples=5, stateful_step_count=20, derandomize=True, **_COMMON)
settings.register_profile("long", max_examples=150, stateful_step_count=40, **_COMMON)
settings.register_profile("thorough", max_examples=1500, stateful_step_count=40, **_COMMON)
settings.register_profile(
    "explore", max_examples=300, stateful_step_count=20, phases=[Phase.generate], report_multiple_bugs=False, **_COMMON
)
PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "long" if THOROUGH else "default"))


class Undo(Exception):
    """Raised to roll a block back."""


def outcome(write: Any) -> Exception | None:
    """Run a write in a savepoint and return the error it ended with."""
    try:
        with transaction.atomic():
            write()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is compared
        return error
    return None


def rehearse(write: Any) -> Exception | None:
    """Return the error a write ends with where nothing is audited, after undoing what it did."""
    for source in registered_sources():
        source.disconnect()
    try:
        with transaction.atomic():
            error = outcome(write)
            transaction.set_rollback(True)
        return error
    finally:
        reconnect()


class WritesInTransactions(RuleBasedStateMachine):
    """Writes in nested transactions that come and go, all of them inside one that is rolled back at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[transaction.Atomic] = []
        self.replays = False
        self.begin()

    @initialize()
    def furnish(self) -> None:
        """Have rows to write to."""
        world.furnish()

    @rule(data=st.data(), draws=st.lists(st.sampled_from(writes.WRITES), min_size=1, max_size=3))
    def write(self, data: Any, draws: Any) -> None:
        """Write something; what is refused leaves nothing behind, and is what is refused without the audit."""
        for draw_write in draws:
            write = draw_write(data.draw)
            expected = rehearse(write)
            error = outcome(write)
            assert type(error) is type(expected), (error, expected)
            self.the_trail_replays()

    @rule(step=st.sampled_from(["begin", "commit", "roll back"]))
    def transact(self, step: str) -> None:
        """Begin a savepoint, release it, or roll back to it."""
        if step == "begin" or len(self.blocks) == 1:
            self.begin()
        elif step == "commit":
            self.blocks.pop().__exit__(None, None, None)
        else:
            self.blocks.pop().__exit__(Undo, Undo(), None)

    def begin(self) -> None:
        """Begin a transaction or a savepoint."""
        block = transaction.atomic()
        block.__enter__()
        self.blocks.append(block)

    @invariant()
    def the_trail_replays(self) -> None:
        """Compare the trail with the tables."""
        self.replays = False
        oracle.check()
        self.replays = True

    def teardown(self) -> None:
        """Compare the typed states, and leave nothing."""
        try:
            if self.replays:
                oracle.check_typed()
        finally:
            while self.blocks:
                self.blocks.pop().__exit__(Undo, Undo(), None)


# It takes seconds and is not marked slow: nothing else finds what one version of Django writes in another way.
@pytest.mark.django_db
def test_writes_in_transactions(audit: Audit) -> None:
    audit({"name": "all", "model": "app.*"})
    ContentType.objects.get_for_model(Product)
    run_state_machine_as_test(WritesInTransactions, settings=PROFILE)
