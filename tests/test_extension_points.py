"""Everything one may add is one class in one's own code: no file of the package is edited for any of these."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import ClassVar, TextIO

import pytest
from django.core.checks import run_checks
from django.core.management import call_command

from django_signal_audit import Change, record
from django_signal_audit.capture.connection import reconnect
from django_signal_audit.capture.sources import base
from django_signal_audit.capture.sources.base import CaptureSource, register_source
from django_signal_audit.channels.base import Channel, Message
from django_signal_audit.dispatchers import Dispatcher
from django_signal_audit.enums import Source
from django_signal_audit.recorder import record_changes
from django_signal_audit.reports.base import Report
from django_signal_audit.reports.formats.base import ReportFormat
from django_signal_audit.rules.registry import Registry
from django_signal_audit.testing import drain

from .app.models import Category
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db
HERE = "tests.test_extension_points"


class PigeonChannel(Channel):
    flown: ClassVar[list[Message]] = []

    def send(self, message: Message) -> None:
        self.flown.append(message)


class ListDispatcher(Dispatcher):
    woken: ClassVar[list[tuple[str, list[int]]]] = []

    def wake(self, using: str, ids: Sequence[int]) -> None:
        self.woken.append((using, list(ids)))


def begins_with_a(change: Change) -> bool:
    return str(change.new["name"]).startswith("a")


class CountingFormat(ReportFormat):
    def write(self, report: Report, stream: TextIO) -> None:
        stream.write(f"{len(list(report.rows))} rows of {', '.join(column.name for column in report.columns)}\n")


class BellSource(CaptureSource):
    """Somebody rings; it is neither a model nor a signal."""

    connected: ClassVar[list[str]] = []

    def connect(self, registry: Registry) -> None:
        self.connected.extend(rule.name for rule in registry.rules if "bell" in rule.events)

    def disconnect(self) -> None:
        self.connected.clear()

    def ring(self) -> None:
        record_changes([Change(event_type="bell", source=Source.MANUAL, using="default")], "default")


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    PigeonChannel.flown.clear()
    ListDispatcher.woken.clear()


def test_a_channel_a_condition_and_a_dispatcher(audit: Audit) -> None:
    audit(
        {"name": "a", "model": "app.Category", "when": f"{HERE}.begins_with_a", "notify": ["pigeon"]},
        CHANNELS={"pigeon": {"BACKEND": f"{HERE}.PigeonChannel", "OPTIONS": {"to": ["the loft"]}}},
        DISPATCHER=f"{HERE}.ListDispatcher",
    )
    assert [message for message in run_checks(tags=["signals"]) if message.id.startswith("django_signal_audit")] == []
    Category.objects.create(name="abc")
    Category.objects.create(name="xyz")
    assert len(ListDispatcher.woken) == 1
    assert drain() == 1
    (message,) = PigeonChannel.flown
    assert (message.recipient, message.rule, message.event) == ("the loft", "a", last())


def test_an_event_kind(audit: Audit) -> None:
    audit({"name": "k", "events": ["stock_taken"], "level": "warning"})
    record("stock_taken", data={"items": 3})
    assert (last().event_type, last().level, last().data) == ("stock_taken", "warning", {"items": 3})


def test_a_report_format(audit: Audit) -> None:
    audit(REPORT_FORMATS={"counted": f"{HERE}.CountingFormat"})
    Category.objects.create(name="a")
    output = io.StringIO()
    call_command("audit_report", "--by", "event", "--format", "counted", stdout=output)
    assert output.getvalue().startswith("1 rows of event")


def test_a_capture_source(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_sources", list(base.registered_sources()))
    register_source(BellSource)
    register_source(BellSource)
    audit({"name": "bells", "events": ["bell"]})
    assert BellSource.connected == ["bells"]
    reconnect()
    assert BellSource.connected == ["bells"]
    BellSource().ring()
    assert [(event.event_type, event.rules) for event in events()] == [("bell", ["bells"])]
