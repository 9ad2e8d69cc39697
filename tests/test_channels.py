from __future__ import annotations

import logging

import pytest
from django.contrib.auth.models import User

from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .notices import INBOX, LOG, audit_settings, make_event, make_notification, receiving

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _settings(settings):
    settings.SIGNAL_AUDIT = audit_settings(
        {
            "inbox": {"BACKEND": INBOX, "OPTIONS": {"check_permission": False}},
            "log": {"BACKEND": LOG},
            "loud": {"BACKEND": LOG, "OPTIONS": {"logger": "shop", "level": "error"}},
        }
    )


class TestInbox:
    def test_the_row_is_the_users_copy_of_the_message(self):
        ann = User.objects.create(username="ann")
        make_notification(channel="inbox", recipient="user:ann")
        assert deliver().sent == 1
        (row,) = Notification.objects.for_recipient(ann).unread()
        assert row.subject == "Product “Oil”: Price changed from 10.00 to 9.00"
        assert "Price: 10.00 → 9.00" in row.body
        assert (row.status, row.recipient) == ("sent", str(ann.pk))
        assert row.sent_at is not None
        Notification.objects.for_recipient(ann).mark_read()
        assert not Notification.objects.for_recipient(ann).unread().exists()

    def test_a_plain_recipient_is_a_users_key(self):
        ann = User.objects.create(username="ann")
        make_notification(channel="inbox", recipient=str(ann.pk))
        make_notification(channel="inbox", recipient="ann")
        report = deliver()
        assert (report.sent, report.skipped) == (1, 1)
        assert 'There is no user "ann"' in Notification.objects.get(status="skipped").last_error

    def test_other_channels_leave_no_copy_of_the_text(self):
        row = make_notification(channel="log")
        deliver()
        row.refresh_from_db()
        assert (row.subject, row.body, row.data) == ("", "", {})


class TestLog:
    def test_one_line_at_the_events_level(self, caplog):
        caplog.set_level(logging.INFO)
        event = make_event(level="warning", object_repr="Oil\nERROR forged")
        row = make_notification(event, "log")
        deliver()
        (record,) = [item for item in caplog.records if item.name == "django_signal_audit.notifications"]
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith(
            "Product “Oil ERROR forged”: Price changed from 10.00 to 9.00 | Oil ERROR forged (Product) | Price: "
        )
        assert "\n" not in record.getMessage()
        assert (record.rule, record.message_id, record.event_uid) == ("watch", row.message_id, str(event.uid))
        assert record.reason.startswith("You're receiving this because of the rule watch.")

    def test_logger_and_level_are_options(self, caplog):
        make_notification(channel="loud")
        deliver()
        assert [(item.name, item.levelname) for item in caplog.records] == [("shop", "ERROR")]


class TestCallable:
    def test_the_function_gets_the_message(self):
        event = make_event()
        row = make_notification(event, "take", recipient="somebody")
        with receiving() as messages:
            deliver()
            (message,) = messages
        assert (message.id, message.rule, message.channel, message.recipient, message.attempt) == (
            row.message_id,
            "watch",
            "take",
            "somebody",
            1,
        )
        assert message.event == event
        assert message.events == [event]

    def test_an_async_function_is_run_to_its_end(self):
        make_notification(channel="take_async")
        with receiving() as messages:
            assert deliver().sent == 1
            assert len(messages) == 1
