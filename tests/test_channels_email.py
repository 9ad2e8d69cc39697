from __future__ import annotations

import smtplib
import socket
import warnings
from contextlib import nullcontext

import pytest
from aiosmtpd.controller import Controller
from django.contrib.auth.models import User
from django.test import override_settings

from django_signal_audit.channels.email import HAS_MAILERS, EmailChannel
from django_signal_audit.checks import check_plugins
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .notices import EMAIL, audit_settings, make_event, make_notification

pytestmark = pytest.mark.django_db
needs_mailers = pytest.mark.skipif(not HAS_MAILERS, reason="MAILERS came with Django 6.1")
SMTP = "django.core.mail.backends.smtp.EmailBackend"
LOCMEM = "django.core.mail.backends.locmem.EmailBackend"


@pytest.fixture(autouse=True)
def _settings(settings):
    settings.SIGNAL_AUDIT = mail_settings(from_email="Shop <shop@example.com>")
    settings.DEFAULT_FROM_EMAIL = "default@example.com"
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": LOCMEM}}


def mail_settings(rule=None, **options):
    return audit_settings({"mail": {"BACKEND": EMAIL, "OPTIONS": options}}, **(rule or {}))


def send(recipient="bob@example.com", **values):
    row = make_notification(channel="mail", recipient=recipient, **values)
    deliver()
    row.refresh_from_db()
    return row


class Server:
    """An SMTP server that refuses some recipients and some texts."""

    def __init__(self):
        self.envelopes = []

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone"):
            return "550 no such mailbox"
        if address.startswith("full"):
            return "452 mailbox full"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if b"SPAM" in envelope.content:
            return "554 not wanted here"
        self.envelopes.append(envelope)
        return "250 OK"


@pytest.fixture
def smtp():
    server = Server()
    with socket.create_server(("127.0.0.1", 0)) as free:
        server.port = free.getsockname()[1]
    controller = Controller(server, hostname="127.0.0.1", port=server.port)
    controller.start()
    yield server
    controller.stop()


def smtp_settings(port, timeout=5):
    if HAS_MAILERS:
        options = {"host": "127.0.0.1", "port": port, "timeout": timeout}
        return override_settings(MAILERS={"default": {"BACKEND": SMTP, "OPTIONS": options}})
    return override_settings(EMAIL_BACKEND=SMTP, EMAIL_HOST="127.0.0.1", EMAIL_PORT=port, EMAIL_TIMEOUT=timeout)


PRICE_CHANGED = "Product “Oil”: Price changed from 10.00 to 9.00"


class TestMail:
    def test_one_mail_per_recipient_with_subject_body_and_sender(self, mailoutbox):
        event = make_event()
        make_notification(event, "mail", recipient="ann@example.com")
        make_notification(event, "mail", recipient="bob@example.com")
        assert deliver().sent == 2
        assert [item.to for item in mailoutbox] == [["ann@example.com"], ["bob@example.com"]]
        assert mailoutbox[0].subject == PRICE_CHANGED
        assert "Price: 10.00 → 9.00" in mailoutbox[0].body
        assert mailoutbox[0].from_email == "Shop <shop@example.com>"
        assert mailoutbox[0].message()["Auto-Submitted"] == "auto-generated"

    def test_the_message_id_is_the_notifications_and_stays_over_retries(self, mailoutbox):
        row = send()
        Notification.objects.filter(status="sent").update(status="pending", available_at=row.created)
        deliver()
        ids = [item.message()["Message-ID"] for item in mailoutbox]
        assert ids == [f"<{row.message_id}@example.com>"] * 2

    def test_the_sender_is_the_projects_unless_the_channel_names_one(self, settings, mailoutbox):
        settings.SIGNAL_AUDIT = mail_settings(reply_to=["help@example.com"])
        send()
        assert mailoutbox[0].from_email == "default@example.com"
        assert mailoutbox[0].reply_to == ["help@example.com"]

    def test_a_hostile_subject_cannot_make_another_header(self, settings, mailoutbox):
        settings.SIGNAL_AUDIT = mail_settings({"subject": "{{ object }} changed"})
        row = send(event=make_event(object_repr="Oil\r\nBcc: eve@example.com\n\nboo\x0b\u2028!"))
        assert row.status == "sent", row.last_error
        assert mailoutbox[0].subject == "Oil Bcc: eve@example.com boo ! changed"
        parsed = mailoutbox[0].message()
        assert parsed["Bcc"] is None
        assert "eve@example.com" not in mailoutbox[0].recipients()

    @pytest.mark.parametrize("recipient", ["bob@example.com\nBcc: eve@example.com", "bob@", "a@b@c", "<>", "bob smith"])
    def test_what_is_no_address_is_given_up_at_once(self, recipient, mailoutbox):
        row = send(recipient)
        assert (row.status, row.attempts) == ("dead", 1)
        assert "isn't an e-mail address" in row.last_error
        assert mailoutbox == []

    @pytest.mark.parametrize("recipient", ["root", "Bob <bob@example.com>", "bob@exämple.com"])
    def test_local_mailboxes_names_and_other_alphabets_are_addresses(self, recipient, mailoutbox):
        assert send(recipient).status == "sent"
        assert mailoutbox[0].to == [recipient]

    @pytest.mark.parametrize("kind", ["locmem", "smtp"])
    def test_what_no_mail_can_be_made_of_is_given_up_at_once(self, kind, settings, smtp, mailoutbox):
        settings.SIGNAL_AUDIT = mail_settings(from_email="shop@example.com\nBcc: eve@example.com")
        with smtp_settings(smtp.port) if kind == "smtp" else nullcontext():
            row = send()
        assert (row.status, mailoutbox, smtp.envelopes) == ("dead", [], [])
        assert "It can't be sent as an email" in row.last_error

    def test_an_error_of_the_backend_itself_is_tried_again(self, monkeypatch):
        monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", lambda *args: int("x"))
        row = send()
        assert (row.status, "invalid literal" in row.last_error) == ("failed", True)

    def test_without_a_recipient_it_says_what_to_add(self):
        row = send("")
        assert row.status == "dead"
        assert 'Add "to" to the rule' in row.last_error


class TestHTML:
    def html(self, mailoutbox):
        (alternative,) = mailoutbox[-1].alternatives
        assert alternative.mimetype == "text/html"
        return alternative.content

    def test_the_mail_is_text_and_html(self, mailoutbox):
        send()
        html = self.html(mailoutbox)
        assert '<html lang="en">' in html
        assert f">{PRICE_CHANGED}</h1>" in html
        assert "<s>10.00</s>" in html
        assert "<strong>9.00</strong>" in html
        assert "notifies bob@example.com. To stop these messages, ask an administrator." in html
        assert mailoutbox[0].message().get_content_type() == "multipart/alternative"

    def test_what_users_typed_is_escaped_in_it_and_plain_in_the_text(self, settings, mailoutbox):
        hostile = "<script>alert('&')</script>"
        settings.SIGNAL_AUDIT = mail_settings(
            {"subject": "{{ object }}", "message": "{{ object }}\n\n{{ object|safe }}"}
        )
        send(event=make_event(object_repr=hostile))
        html = self.html(mailoutbox)
        assert "<script" not in html
        assert html.count("&lt;script&gt;") == 4
        assert mailoutbox[0].body.startswith(f"{hostile}\n\n{hostile}\n\n-- \nYou're receiving this because ")
        assert mailoutbox[0].subject == hostile

    def test_it_is_written_in_the_readers_language_and_direction(self, settings, mailoutbox):
        settings.SIGNAL_AUDIT = mail_settings(language="user.first_name", check_permission=False)
        User.objects.create(username="ann", email="ann@example.com", first_name="he")
        send("user:ann")
        assert '<html lang="he" dir="rtl">' in self.html(mailoutbox)

    def test_it_can_be_left_out(self, settings, mailoutbox):
        settings.SIGNAL_AUDIT = mail_settings(html=False)
        send()
        assert mailoutbox[0].alternatives == []

    def test_or_be_the_projects(self, settings, mailoutbox, tmp_path):
        (tmp_path / "ours.html").write_text(
            "<b>{{ message.subject }}</b> {{ message.events|length }}", encoding="utf-8"
        )
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
        settings.SIGNAL_AUDIT = mail_settings(html="ours.html")
        assert EmailChannel("mail", {"html": "ours.html"}).check() == []
        send(event=make_event(object_repr="<Oil>"))
        assert self.html(mailoutbox) == "<b>Product “&lt;Oil&gt;”: Price changed from 10.00 to 9.00</b> 1"

    def test_one_that_cannot_be_rendered_is_dead_at_once(self, settings, mailoutbox, tmp_path):
        (tmp_path / "ours.html").write_text("{% include message %}", encoding="utf-8")
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
        settings.SIGNAL_AUDIT = mail_settings(html="ours.html")
        row = send()
        assert (row.status, row.attempts) == ("dead", 1)
        assert row.last_error.startswith('The HTML of channel "mail" cannot be rendered: ')

    def test_one_that_is_not_there_is_left_to_other_workers_and_an_error_of_check(self, settings, mailoutbox):
        settings.SIGNAL_AUDIT = mail_settings(html="no-such.html")
        row = send()
        assert (row.status, row.attempts) == ("pending", 0)
        assert row.last_error.endswith('don\'t know the template "no-such.html" of the channel "mail".')
        (problem,) = EmailChannel("mail", {"html": "no-such.html"}).check()
        assert "which cannot be loaded: TemplateDoesNotExist" in problem.msg
        (problem,) = EmailChannel("mail", {"html": 7}).check()
        assert "must be True, False, or the name of a template" in problem.msg


class TestServer:
    def test_it_takes_the_mail(self, smtp):
        with smtp_settings(smtp.port):
            row = send()
        assert row.status == "sent", row.last_error
        (envelope,) = smtp.envelopes
        assert envelope.rcpt_tos == ["bob@example.com"]
        assert envelope.mail_from == "shop@example.com"
        assert f"Message-ID: <{row.message_id}@example.com>".encode() in envelope.content

    def test_a_recipient_refused_for_good_is_given_up_and_the_others_get_theirs(self, smtp):
        event = make_event()
        rows = [make_notification(event, "mail", recipient=f"{name}@example.com") for name in ("gone", "full", "bob")]
        with smtp_settings(smtp.port):
            report = deliver()
        assert (report.sent, report.failed, report.dead) == (1, 1, 1)
        for row in rows:
            row.refresh_from_db()
        assert [row.status for row in rows] == ["dead", "failed", "sent"]
        assert "550 no such mailbox" in rows[0].last_error
        assert "452 mailbox full" in rows[1].last_error

    def test_a_text_refused_for_good_is_given_up(self, smtp, settings):
        settings.SIGNAL_AUDIT = mail_settings({"message": "SPAM"})
        with smtp_settings(smtp.port):
            row = send()
        assert row.status == "dead"
        assert "554 not wanted here" in row.last_error

    def test_a_server_that_is_down_is_tried_again(self, smtp):
        with smtp_settings(1):
            row = send()
        assert (row.status, row.attempts) == ("failed", 1)
        assert "ConnectionRefusedError" in row.last_error


class TestMailers:
    def options(self, **options):
        return EmailChannel("mail", options).check()

    @needs_mailers
    def test_a_mailer_is_chosen_by_its_alias_without_a_warning(self, settings, mailoutbox):
        settings.MAILERS = {"default": {"BACKEND": LOCMEM}, "alerts": {"BACKEND": LOCMEM}}
        send()
        settings.SIGNAL_AUDIT = mail_settings(mailer="alerts")
        send()
        assert [item.sent_using for item in mailoutbox] == ["default", "alerts"]

    @needs_mailers
    def test_email_settings_still_work_without_a_warning_of_ours(self, settings, mailoutbox):
        del settings.MAILERS
        old = override_settings(EMAIL_BACKEND=LOCMEM)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the setting itself is deprecated
            old.enable()
        row = send()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            old.disable()
        assert row.status == "sent", row.last_error
        assert len(mailoutbox) == 1

    @needs_mailers
    def test_an_unknown_mailer_is_an_error(self, settings):
        settings.MAILERS = {"alerts": {"BACKEND": LOCMEM}}
        (problem,) = self.options(mailer="alert")
        assert problem.hint == "Did you mean 'alerts'?"
        assert self.options(mailer="alerts") == []

    def test_before_django_6_1_there_are_none(self, monkeypatch, mailoutbox, settings):
        monkeypatch.setattr("django_signal_audit.channels.email.HAS_MAILERS", False)
        (problem,) = self.options(mailer="alerts")
        assert "needs Django 6.1" in problem.msg
        settings.SIGNAL_AUDIT = mail_settings(mailer="alerts")
        assert send().status == "sent"


def test_other_answers_of_the_server_are_left_to_the_backoff(monkeypatch):
    def refuse(self, **_):
        raise smtplib.SMTPSenderRefused(550, b"not you", "shop@example.com")

    monkeypatch.setattr("django.core.mail.EmailMessage.send", refuse)
    row = send()
    assert row.status == "failed"
    assert "not you" in row.last_error


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("to", ["sound@example.com", "x@example.com\nBcc: evil@example.com"]),
        ("to", "no@domain@example.com"),
        ("to", ["no address"]),
        ("from_email", "our shop"),
        ("from_email", "shop@example.com\nBcc: evil@example.com"),
        ("reply_to", ["sound@example.com", "x@example.com\r\nBcc: evil@example.com"]),
    ],
)
def test_what_is_no_address_is_an_error_of_check(option, value):
    [problem] = EmailChannel("mail", {option: value}).check()
    assert problem.id == "django_signal_audit.E015"
    assert f'["{option}"] names ' in problem.msg
    assert "which isn't an e-mail address" in problem.msg


def test_other_words_than_addresses_are_none_of_its_business():
    words = ["actor", "superusers", "user:a b@c", "group:Front desk", "owner.email", "5", "root"]
    assert EmailChannel("mail", {"to": words, "from_email": "The shop <shop@example.com>"}).check() == []


@pytest.mark.parametrize(
    ("recipient", "count"),
    [
        ("no address", 1),
        ("bob@", 1),
        ("Root <root>", 0),
        ("root", 0),
        ("Bob <bob@example.com>", 0),
        ("group:On call", 0),
    ],
)
def test_what_is_no_address_is_an_error_of_check_in_rules_too(recipient, count, settings):
    settings.SIGNAL_AUDIT = mail_settings({"notify": [{"channel": "mail", "to": [recipient, "sound@example.com"]}]})
    messages = [(item.id, item.msg, item.hint) for item in check_plugins()]
    where = 'SIGNAL_AUDIT["RULES"][0]["notify"][0]["to"]'
    said = f"{where} names {recipient!r}, which isn't an e-mail address."
    assert messages == [("django_signal_audit.E027", said, "Correct the address.")] * count


def test_an_address_that_is_none_is_reported_once_where_it_stands(settings):
    settings.SIGNAL_AUDIT = mail_settings(to="no address")
    messages = [item.msg for item in check_plugins()]
    assert messages == [
        'SIGNAL_AUDIT["CHANNELS"]["mail"]["OPTIONS"]["to"] names \'no address\', which isn\'t an e-mail address.'
    ]


class TestTimeout:
    @pytest.fixture
    def silent(self):
        """A mail server that takes connections and says nothing."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield server.getsockname()[1]

    def test_a_server_that_says_nothing_is_not_waited_for_for_ever(self, silent, monkeypatch):
        monkeypatch.setattr("django_signal_audit.channels.email.TIMEOUT_SECONDS", 0.2)
        with smtp_settings(silent, timeout=None):
            row = send()
        assert row.status == "failed"
        assert "timed out" in row.last_error

    def test_check_warns_of_django_that_waits_for_ever(self):
        with smtp_settings(25, timeout=None):
            [problem] = EmailChannel("mail", {"to": "ann@example.com"}).check()
        assert problem.id == "django_signal_audit.W014"
        assert "Django waits forever" in problem.msg

    def test_a_timeout_of_the_project_is_used(self, silent):
        with smtp_settings(silent, timeout=0.2):
            assert EmailChannel("mail", {"to": "ann@example.com"}).check() == []
            assert "timed out" in send().last_error

    def test_mail_that_goes_by_no_network_needs_none(self):
        assert EmailChannel("mail", {"to": "ann@example.com"}).check() == []
