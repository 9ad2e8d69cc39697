from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from django.contrib.auth.models import User
from django.utils import timezone, translation

from django_signal_audit.channels.inbox import InboxChannel
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .notices import INBOX, audit_settings, make_event, make_notification

pytestmark = pytest.mark.django_db
NOON = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
TEMPLATE = "{{ new.price }} {{ event.recorded_at|date:'l H:i' }}"


@pytest.fixture
def inbox(settings):
    """Put an inbox in force that takes what it can from users' names, as a project would from their profiles."""

    def configure(message="", **options):
        options = {"check_permission": False, **options}
        settings.SIGNAL_AUDIT = audit_settings({"inbox": {"BACKEND": INBOX, "OPTIONS": options}}, message=message)

    return configure


def body_for(recipient):
    row = make_notification(make_event(recorded_at=NOON), "inbox", recipient=recipient)
    deliver()
    row.refresh_from_db()
    assert row.status == "sent", row.last_error
    return row.body


def test_each_reads_in_his_language_and_his_time(inbox):
    inbox(TEMPLATE, language="user.first_name", time_zone="user.last_name")
    for name, language, zone in (
        ("ann", "de", "Asia/Tokyo"),
        ("bob", "pt-br", "America/New_York"),
        ("eve", "klingon", "Mars/Olympus"),
        ("joe", "", ""),
    ):
        User.objects.create(username=name, first_name=language, last_name=zone)
    with translation.override("fr"), timezone.override("Asia/Kolkata"):
        assert body_for("user:ann") == "9,00 Dienstag 21:00"
        assert body_for("user:bob") == "9,00 Terça-feira 08:00"
        assert body_for("user:eve") == body_for("user:joe") == "9.00 Tuesday 13:00"


def test_default_texts_are_in_them_too(inbox):
    inbox(language="user.first_name", time_zone="user.last_name")
    User.objects.create(username="ann", first_name="de", last_name="Asia/Tokyo")
    User.objects.create(username="bob")
    assert "Am 10. März 2026, 21:00 JST." in body_for("user:ann")
    assert "On March 10, 2026, 12:00 UTC." in body_for("user:bob")


def test_a_channel_may_have_a_language_of_its_own(inbox):
    inbox(TEMPLATE, language="de", time_zone="Asia/Tokyo")
    User.objects.create(username="ann")
    assert body_for("user:ann") == "9,00 Dienstag 21:00"


def test_everybody_of_a_group_has_his_own(inbox):
    inbox(TEMPLATE, language="user.first_name")
    for name, language in (("ann", "de"), ("bob", "en")):
        User.objects.create(username=name, first_name=language, is_superuser=True)
    make_notification(make_event(recorded_at=NOON), "inbox", recipient="superusers")
    assert deliver().sent == 2
    rows = Notification.objects.order_by("id")
    assert [row.body for row in rows] == ["9,00 Dienstag 13:00", "9.00 Tuesday 13:00"]


def test_an_attribute_may_be_a_zone_or_missing_altogether(inbox, monkeypatch):
    monkeypatch.setattr(User, "zone", zoneinfo.ZoneInfo("Asia/Tokyo"), raising=False)
    User.objects.create(username="ann")
    inbox(TEMPLATE, time_zone="user.zone", language="user.profile.language")
    assert body_for("user:ann") == "9.00 Tuesday 21:00"


class TestCheck:
    def check(self, **options):
        return " ".join(f"{problem.msg} {problem.hint}" for problem in InboxChannel("inbox", options).check())

    def test_right_options_are_no_mistake(self):
        assert self.check(language="de", time_zone="Europe/Vienna") == ""
        assert self.check(language="user.last_name", time_zone="user.groups.zone") == ""

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"language": "english"}, "is 'english', which LANGUAGES does not have"),
            ({"time_zone": "Europe/Wien"}, "Did you mean 'Europe/"),
            ({"language": "user.langage"}, "auth.User has no 'langage'"),
            ({"time_zone": "user.last_nam"}, "Did you mean 'last_name'?"),
            ({"language": 7}, '["language"] must be a language such as'),
        ],
    )
    def test_wrong_options_are_named(self, options, expected):
        assert expected in self.check(**options)
