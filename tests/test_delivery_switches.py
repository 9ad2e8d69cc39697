"""Switching delivery off, trying a channel, discarding what waits, and refusing a copy of a database."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from django_signal_audit import record, suspend_auditing
from django_signal_audit.channels.email import HAS_MAILERS
from django_signal_audit.checks import check_deployment
from django_signal_audit.delivery import identity
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import AuditEvent, ConfirmedDatabase, Notification
from django_signal_audit.models.events import utc_now
from django_signal_audit.testing import fake_notifications

from .app.models import Category, Product, Tag
from .notices import EMAIL, INBOX, LOG, audit_settings, make_notification, receiving
from .people import make_user

pytestmark = pytest.mark.django_db
CHANNELS = {"inbox": {"BACKEND": INBOX}, "log": {"BACKEND": LOG}, "mail": {"BACKEND": EMAIL}}


@pytest.fixture(autouse=True)
def messages(settings):
    settings.SIGNAL_AUDIT = audit_settings(CHANNELS)
    identity.forget()
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    with receiving() as messages:
        yield messages
    identity.forget()


def run(capsys, *arguments):
    call_command("audit_deliver", *arguments)
    return capsys.readouterr().out


class TestEnabled:
    @pytest.fixture(autouse=True)
    def rules(self, settings):
        rules = [
            {"name": "all", "model": "app.*", "notify": ["take"]},
            {"name": "others", "events": ["thing_happened", "login", "request"], "notify": ["take"]},
        ]
        settings.SIGNAL_AUDIT = {**audit_settings(), "RULES": rules, "ENABLED": False}

    def test_nothing_is_recorded_while_it_is_false(self, client):
        category = Category.objects.create(name="Tea")
        product = Product.objects.create(name="Tea", price=1, category=category)
        product.name = "Green tea"
        product.save()
        product.tags.add(Tag.objects.create(name="hot"))
        Product.objects.bulk_create([Product(name="Oil", price=1, category=category)])
        Product.objects.update(price=2)
        Product.objects.all().delete()
        assert record("thing_happened") is None
        with suspend_auditing(Product, reason="a test"):
            pass
        client.force_login(User.objects.create(username="ada"))
        client.get("/")
        assert list(AuditEvent.objects.values_list("event_type")) == []
        assert not Notification.objects.exists()

    def test_it_takes_effect_at_once_in_both_directions(self, settings):
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "ENABLED": True}
        Category.objects.create(name="Tea")
        assert AuditEvent.objects.count() == 1
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "ENABLED": False}
        Category.objects.create(name="Oil")
        assert AuditEvent.objects.count() == 1

    def test_what_waits_is_not_sent_before_it_is_true_again(self, settings, messages, capsys):
        make_notification(rule="all")
        assert deliver().attempted == 0
        assert run(capsys) == 'Nothing is sent: SIGNAL_AUDIT["ENABLED"] is False.\n'
        assert run(capsys, "--watch") == 'Nothing is sent: SIGNAL_AUDIT["ENABLED"] is False.\n'
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "ENABLED": True}
        assert run(capsys) == "1 sent\n"

    def test_events_stay_unchangeable_and_what_somebody_does_to_the_log_is_recorded(self):
        event = AuditEvent.objects.create(event_type="x", source="manual", recorded_at=utc_now() - dt.timedelta(days=1))
        with pytest.raises(TypeError):
            AuditEvent.objects.filter(pk=event.pk).update(event_type="y")
        call_command("audit_prune", "--older-than", "1s", verbosity=0)
        assert [found.event_type for found in AuditEvent.objects.all()] == ["events_pruned"]

    def test_the_checks_for_deployment_warn_of_it(self, settings):
        assert [problem.id for problem in check_deployment()] == ["django_signal_audit.W056"]
        settings.SIGNAL_AUDIT = {"ENABLED": True}
        assert check_deployment() == []


class TestConfirmedDatabase:
    def test_the_first_database_that_delivers_is_confirmed_and_stays_so(self):
        make_notification()
        assert deliver().sent == 1
        (row,) = ConfirmedDatabase.objects.all()
        assert row.name == identity.identity("default")
        identity.forget()
        make_notification()
        assert deliver().sent == 1
        assert ConfirmedDatabase.objects.count() == 1

    @pytest.fixture
    def copied(self):
        """Make the database a copy of another, from which messages were sent."""
        ConfirmedDatabase.objects.create(key="0" * 64, name='"shop" at "db.example.com" (PostgreSQL)')

    @pytest.mark.usefixtures("copied")
    def test_from_a_copy_nothing_is_sent_by_anybody(self, messages, capsys, settings, caplog):
        make_notification()
        assert deliver().attempted == 0
        assert deliver().attempted == 0
        (logged,) = [entry for entry in caplog.records if "Nothing is sent" in entry.message]
        assert "It may be a copy" in logged.message
        for mode in ((), ("--watch",)):
            with pytest.raises(CommandError, match=re.escape('sent from "shop" at "db.example.com"')) as error:
                run(capsys, *mode)
            assert "\n" not in str(error.value)
        with pytest.raises(SystemExit) as ended:
            run(capsys, "--health")
        assert ended.value.code == 4
        assert "nothing is sent: this database is" in capsys.readouterr().out
        assert messages == []
        with fake_notifications() as fake:
            record("thing_happened")
            fake.assert_sent()

    @pytest.mark.usefixtures("copied")
    def test_until_somebody_says_that_it_is_to_be_sent_from(self, messages, capsys):
        make_notification()
        assert deliver().attempted == 0
        assert run(capsys, "--confirm-database") == f"Messages are sent from {identity.identity('default')}.\n"
        assert messages == []
        assert deliver().sent == 1

    @pytest.mark.usefixtures("copied")
    def test_a_copy_discards_what_waits_and_then_sends_what_is_its_own(self, messages, capsys):
        for status in ("pending", "failed", "claimed"):
            make_notification(status=status)
        shown = run(capsys, "--discard-pending", "--confirm-database")
        assert shown.startswith("3 notifications discarded.\nMessages are sent from ")
        assert set(Notification.objects.values_list("status", "last_error")) == {
            ("skipped", "Discarded by audit_deliver --discard-pending.")
        }
        event = AuditEvent.objects.get(event_type="notifications_discarded")
        assert (event.data, event.level) == ({"count": 3}, "warning")
        make_notification()
        assert run(capsys) == "1 sent\n"


class TestDiscarding:
    def test_what_is_done_stays_as_it_is(self, capsys):
        for status in ("sent", "dead", "skipped"):
            make_notification(status=status)
        assert run(capsys, "--discard-pending") == "0 notifications discarded.\n"
        assert not AuditEvent.objects.filter(event_type="notifications_discarded").exists()

    def test_one_channel_alone(self, capsys):
        make_notification(channel="take")
        make_notification(channel="boom")
        assert run(capsys, "--discard-pending", "--channel", "boom") == "1 notification discarded.\n"
        assert dict(Notification.objects.values_list("channel", "status")) == {"take": "pending", "boom": "skipped"}

    def test_one_that_has_gone_from_the_settings(self, capsys):
        make_notification(channel="gone")
        make_notification(channel="take")
        assert run(capsys, "--discard-pending", "--channel", "gone") == "1 notification discarded.\n"
        assert dict(Notification.objects.values_list("channel", "status")) == {"take": "pending", "gone": "skipped"}
        with pytest.raises(CommandError, match='has no "gone"'):
            run(capsys, "--channel", "gone")

    def test_a_worker_that_holds_one_has_lost_it(self, messages, monkeypatch, capsys):
        row = make_notification()

        def discard(message):
            run(capsys, "--discard-pending")

        monkeypatch.setattr("tests.notices.take", discard)
        report = deliver()
        assert (report.sent, report.lost) == (0, 1)
        row.refresh_from_db()
        assert row.status == "skipped"


class TestTest:
    def test_a_mail_goes_to_an_address_or_to_a_user(self, mailoutbox, capsys):
        make_user("ann")
        assert run(capsys, "--test", "mail", "--to", "x@example.com") == 'Sent to x@example.com by channel "mail".\n'
        assert run(capsys, "--test", "mail", "--to", "user:ann") == 'Sent to ann@example.com by channel "mail".\n'
        assert [mail.to for mail in mailoutbox] == [["x@example.com"], ["ann@example.com"]]
        assert mailoutbox[0].subject == "Test message of the channel “mail”"
        assert "audit_deliver --test" in mailoutbox[0].body
        assert not Notification.objects.exists()
        assert not AuditEvent.objects.exists()

    def test_the_inbox_keeps_it_for_its_user(self, capsys):
        user = make_user("ann")
        run(capsys, "--test", "inbox", "--to", str(user.pk))
        (row,) = Notification.objects.for_recipient(user)
        assert (row.status, row.subject) == ("sent", "Test message of the channel “inbox”")
        client = Client()
        client.force_login(user)
        assert "Test message of the channel" in client.get("/inbox/").content.decode()

    def test_a_function_and_a_log_need_nobody(self, messages, capsys, caplog):
        assert run(capsys, "--test", "take") == 'Sent by channel "take".\n'
        assert (messages[0].rule, messages[0].event.event_type) == ("test", "test")
        with caplog.at_level("INFO"):
            assert run(capsys, "--test", "log") == 'Sent by channel "log".\n'
        assert "Test message" in caplog.text

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("--test", "boom", "--to", "bob"), 'The channel "boom" could not send: ValueError: no way to bob'),
            (("--test", "never"), "the account is closed"),
            (("--test", "mail"), "Say to whom: --to ADDRESS."),
            (("--test", "mail", "--to", "user:nobody"), 'There is no user "nobody".'),
            (("--test", "inbox", "--to", "nobody"), 'There is no user "nobody".'),
            (("--test", "mail", "--to", "not an address"), "isn't an e-mail address"),
            (("--test", "mial"), "Did you mean 'mail'?"),
            (("--test", "inbox"), "Say to whom: --to user:NAME."),
            (("--test", "inbox", "--to", "ann"), 'There is no user "ann". For a username, write "user:ann".'),
            (("--test", "mail", "--to", "superusers"), 'not "superusers"'),
            (("--test", "mail", "--to", "group:Bosses"), 'not "group:Bosses"'),
            (("--test", ""), 'has no "".'),
            (("--to", "ann"), "--to goes with --test."),
        ],
    )
    def test_what_fails_is_one_line(self, capsys, arguments, expected):
        with pytest.raises(CommandError, match=re.escape(expected)) as error:
            run(capsys, *arguments)
        assert "\n" not in str(error.value)
