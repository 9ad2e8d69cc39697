from __future__ import annotations

import subprocess
import sys

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import TestCase, override_settings

from django_signal_audit.enums import Source
from django_signal_audit.events.changes import Change
from django_signal_audit.models import Notification
from django_signal_audit.pytest_plugin import audit_drain, audit_events, audit_notifications
from django_signal_audit.recorder import record_changes
from django_signal_audit.testing import capture_events, drain, fake_notifications

from .notices import INBOX, LOG, audit_settings, make_notification, receiving

__all__ = ["audit_drain", "audit_events", "audit_notifications"]

SETTINGS = audit_settings(
    {"inbox": {"BACKEND": INBOX}, "log": {"BACKEND": LOG}},
    notify=["take", {"channel": "inbox", "to": ["user:ann"], "subject": "for Ann"}],
)


def happen(event_type="thing_happened"):
    change = Change(event_type=event_type, source=Source.MANUAL, using="default", data={"rows": 3})
    return record_changes([change], "default")


@override_settings(SIGNAL_AUDIT=SETTINGS)
class TestInTestCase(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.ann = User.objects.create(username="ann", email="ann@example.com")

    def test_events_are_captured(self):
        with capture_events() as events:
            happen()
            assert [event.event_type for event in events] == ["thing_happened"]
        happen("other_thing")
        assert len(events) == 1

    def test_drain_delivers_by_the_real_channels(self):
        with receiving() as messages:
            happen()
            assert messages == []
            assert drain() == 2
            assert drain() == 0
            assert len(messages) == 1
        assert Notification.objects.for_recipient(self.ann).get().subject == "for Ann"

    def test_the_fake_renders_and_sends_nothing(self):
        with receiving() as messages, fake_notifications() as fake:
            happen()
            (found,) = fake.assert_sent("watch", channel="inbox", to=self.ann, subject="Ann", times=1)
            assert found.recipient == str(self.ann.pk)
            fake.assert_sent(channel="take", times=1)
            fake.assert_sent(times=2)
            assert len(fake.sent) == 2
            assert "rows: 3" in fake.sent[0].body
            assert messages == []

    def test_its_assertions_fail_when_they_should_and_say_what_there_was(self):
        with fake_notifications() as fake:
            fake.assert_nothing_sent()
            with pytest.raises(AssertionError, match=r"Expected at least one message \(any\), found 0."):
                fake.assert_sent()
            happen()
            with pytest.raises(AssertionError, match="found 2"):
                fake.assert_nothing_sent()
            with pytest.raises(AssertionError, match=r"Expected 2 messages \(channel='take'\), found 1"):
                fake.assert_sent(channel="take", times=2)
            for wrong in ({"rule": "x"}, {"channel": "x"}, {"to": "x"}, {"subject": "x"}):
                with pytest.raises(AssertionError) as error:
                    fake.assert_sent(**wrong)
                assert f"watch → inbox {self.ann.pk}: for Ann" in str(error.value)

    def test_what_could_not_be_sent_is_shown(self):
        with fake_notifications() as fake:
            make_notification(recipient="user:nobody")
            with pytest.raises(AssertionError, match=r"user:nobody: skipped There is no user"):
                fake.assert_sent()

    def test_what_was_written_before_is_left_alone(self):
        happen()
        with fake_notifications() as fake:
            fake.assert_nothing_sent()
        assert Notification.objects.filter(status="pending").count() == 2

    def test_what_was_not_asked_about_is_not_left_to_be_sent_later(self):
        with receiving() as messages:
            with fake_notifications():
                happen()
            assert drain() == 0
            assert messages == []


@pytest.mark.django_db(transaction=True)
@override_settings(SIGNAL_AUDIT=SETTINGS)
def test_the_fake_works_where_commit_hooks_run_too():
    with receiving() as messages, fake_notifications() as fake:
        with transaction.atomic():
            happen()
        fake.assert_sent("watch", channel="take", times=1)
        assert messages == []


class TestFixtures:
    @pytest.fixture(autouse=True)
    def _settings(self, settings):
        settings.SIGNAL_AUDIT = SETTINGS

    def test_the_fixture_of_events_has_them(self, db, audit_events):
        happen()
        assert len(audit_events) == 1

    def test_the_fixture_of_notifications_asserts_on_them(self, audit_notifications):
        with receiving() as messages:
            happen()
            audit_notifications.assert_sent("watch", channel="take")
            assert messages == []

    def test_the_fixture_of_draining_delivers(self, audit_drain):
        with receiving() as messages:
            happen()
            assert audit_drain() == 1
            assert len(messages) == 1


def test_the_plugin_imports_nothing_of_django():
    code = "import sys, django_signal_audit.pytest_plugin; print([name for name in sys.modules if name == 'django.db'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
