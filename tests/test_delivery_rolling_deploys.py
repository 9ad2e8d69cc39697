"""Workers of two versions at once: what one of them does not know, it leaves to the other."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
from django.core.management import call_command

from django_signal_audit.channels.email import HAS_MAILERS
from django_signal_audit.delivery.turns import Turns
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification
from django_signal_audit.models.events import utc_now

from .notices import EMAIL, audit_settings, make_notification, receiving

pytestmark = pytest.mark.django_db
HOUR = dt.timedelta(minutes=61)


@pytest.fixture(autouse=True)
def messages(settings):
    settings.SIGNAL_AUDIT = audit_settings()
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    with receiving() as messages:
        yield messages


def newer(settings, *rules, **channels):
    """Put the settings of the new version in force."""
    old = audit_settings(channels)
    settings.SIGNAL_AUDIT = {**old, "RULES": [*old["RULES"], *rules]}


NEW_RULE = {"name": "new", "events": ["thing_happened"], "notify": ["take"], "subject": "new: {{ event.event_type }}"}


class TestRule:
    def test_a_row_of_a_rule_that_is_not_known_waits_for_a_worker_that_knows_it(self, settings, messages, caplog):
        rows = [make_notification(rule="new") for _ in range(2)]
        known = make_notification()
        report = deliver()
        assert (report.sent, report.left, report.attempted) == (1, 2, 1)
        assert [message.id for message in messages] == [known.message_id]
        row = Notification.objects.get(pk=rows[0].pk)
        assert (row.status, row.attempts) == ("pending", 0)
        assert row.last_error == 'Left to other workers: the settings of this one don\'t know the rule "new".'
        warnings = [entry for entry in caplog.records if "Left to other workers" in entry.message]
        assert len(warnings) == 1
        newer(settings, NEW_RULE)
        assert deliver().sent == 2
        assert messages[-1].subject == "new: update"
        row.refresh_from_db()
        assert (row.status, row.last_error, row.unknown_since) == ("sent", "", None)

    @pytest.mark.parametrize("change", [{"enabled": False}, {"level": "no-level"}, {"notify": ["boom"]}])
    def test_nor_one_that_is_off_or_wrong_or_does_not_notify_by_the_channel(self, settings, messages, change):
        newer(settings, {**NEW_RULE, **change})
        make_notification(rule="new")
        assert deliver().left == 1
        assert messages == []

    def test_what_failed_before_stays_failed_and_keeps_its_attempts(self):
        make_notification(rule="new", status="failed", attempts=3)
        assert deliver().left == 1
        assert Notification.objects.values_list("status", "attempts").get() == ("failed", 3)

    def test_hundreds_of_them_do_not_keep_the_others_waiting(self, messages):
        for _ in range(250):
            make_notification(rule="new")
        late = make_notification()
        assert deliver().sent == 1
        assert messages[0].id == late.message_id


class TestChannel:
    def test_a_channel_that_is_not_known_is_not_claimed_at_all(self, settings, messages, caplog):
        row = make_notification(channel="sms")
        assert deliver().attempted == 0
        row.refresh_from_db()
        assert (row.status, row.lease_no) == ("pending", 0)
        assert 'the channel "sms"' in caplog.text
        newer(settings, sms=audit_settings()["CHANNELS"]["take"])
        assert deliver().sent == 1

    def test_a_channel_without_its_template_leaves_all_of_its_messages(self, settings, mailoutbox, tmp_path, caplog):
        newer(settings, mail={"BACKEND": EMAIL, "OPTIONS": {"html": "new.html", "to": "a@example.com"}})
        for _ in range(3):
            make_notification(channel="mail", recipient="a@example.com")
        make_notification()
        report = deliver()
        assert (report.sent, report.left, report.dead) == (1, 3, 0)
        assert caplog.text.count("Left to other workers") == 1
        (tmp_path / "new.html").write_text("{{ message.subject }}", encoding="utf-8")
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
        assert deliver().sent == 3
        assert len(mailoutbox) == 3


class TestAlarm:
    def health(self, capsys):
        try:
            call_command("audit_deliver", "--health")
        except SystemExit as end:
            return end.code, capsys.readouterr().out
        return 0, capsys.readouterr().out

    def test_it_is_said_at_once_and_an_alarm_after_an_hour(self, capsys, caplog):
        for _ in range(2):
            make_notification(rule="new")
        deliver()
        code, shown = self.health(capsys)
        assert code == 0
        assert '2 of rule "new" by channel "take" wait since ' in shown
        Notification.objects.update(unknown_since=utc_now() - HOUR)
        caplog.clear()
        deliver()
        (logged,) = [entry for entry in caplog.records if entry.levelname == "ERROR"]
        assert '2 of rule "new" by channel "take"' in logged.message
        assert self.health(capsys)[0] == 4

    def test_those_that_are_not_claimed_any_more_have_that_hour_too_and_are_counted(self, capsys):
        since = utc_now() - dt.timedelta(minutes=10)
        for _ in range(5):
            make_notification(rule="new", available_at=since)
        for status in ("claimed", "sent"):
            make_notification(rule="new", status=status, available_at=utc_now() + HOUR)
        later = make_notification(rule="new", available_at=utc_now() + HOUR)
        assert deliver(turns=Turns("default", first=1)).left == 1
        assert Notification.objects.filter(unknown_since__isnull=False).count() == 5
        code, shown = self.health(capsys)
        assert code == 0
        assert '5 of rule "new" by channel "take" wait since ' in shown
        later.refresh_from_db()
        assert later.unknown_since is None

    def test_so_have_those_of_a_channel_without_its_template(self, settings, capsys):
        newer(settings, mail={"BACKEND": EMAIL, "OPTIONS": {"html": "new.html", "to": "a@example.com"}})
        since = utc_now() - dt.timedelta(minutes=10)
        for _ in range(3):
            make_notification(channel="mail", recipient="a@example.com", available_at=since)
        assert deliver(turns=Turns("default", first=1)).sent == 0
        code, shown = self.health(capsys)
        assert code == 0
        assert '3 of rule "watch" by channel "mail" wait since ' in shown

    def test_those_of_a_slow_channel_are_not_claimed_again_and_again(self, settings, monkeypatch):
        newer(settings, mail={"BACKEND": EMAIL, "OPTIONS": {"html": "new.html", "to": "a@example.com"}})
        # Of a channel that takes long, one message is claimed at a time.
        monkeypatch.setattr("django_signal_audit.delivery.turns.HORIZON_SECONDS", 0)
        for _ in range(3):
            make_notification(channel="mail", recipient="a@example.com")
        looks = itertools.count()
        assert deliver(turns=Turns("default", first=1), should_stop=lambda: next(looks) > 100).left == 1
        assert next(looks) < 20

    def test_so_is_a_channel_that_nobody_has(self, capsys):
        row = make_notification(channel="sms")
        assert self.health(capsys)[0] == 0
        Notification.objects.filter(pk=row.pk).update(available_at=utc_now() - HOUR)
        code, shown = self.health(capsys)
        assert code == 4
        assert '1 of rule "watch" by channel "sms" waits since ' in shown
        assert "nothing is due" in shown

    def test_figures_for_prometheus(self, capsys):
        make_notification(rule="new")
        deliver()
        call_command("audit_deliver", "--stats", "--format", "prometheus")
        assert 'signal_audit_left_to_others{database="default"} 1\n' in capsys.readouterr().out
