"""The helpers of ``django_signal_audit.testing`` as pytest fixtures; Django is imported only when one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .models import AuditEvent
    from .testing import FakeNotifications


@pytest.fixture
def audit_events() -> Iterator[list[AuditEvent]]:
    """Return the list of the audit events the test records."""
    from .testing import capture_events

    with capture_events() as events:
        yield events


@pytest.fixture
def audit_notifications(db: None) -> Iterator[FakeNotifications]:
    """Send no notification in the test; return what would have been sent, with its assertions."""
    from .testing import fake_notifications

    with fake_notifications() as fake:
        yield fake


@pytest.fixture
def audit_drain(db: None) -> Callable[..., int]:
    """Return the function that delivers what is due by the real channels."""
    from .testing import drain

    return drain
