from __future__ import annotations

import json
import logging
import threading

import pytest
from django.contrib.auth.models import User

from django_signal_audit import record
from django_signal_audit.channels.apprise import AppriseChannel
from django_signal_audit.checks import check_plugins
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .notices import audit_settings, make_event, make_notification
from .receivers import receiver

pytestmark = pytest.mark.django_db

APPRISE = "django_signal_audit.channels.apprise.AppriseChannel"


@pytest.fixture
def chat():
    with receiver() as found:
        yield found


@pytest.fixture
def phone():
    with receiver() as found:
        yield found


def url(server, path="T0KEN-of-ours"):
    return f"json://bob:hunter22@127.0.0.1:{server.port}/{path}"


@pytest.fixture
def reaching(settings):
    """Put an Apprise channel in force."""

    def configure(urls, **options):
        channels = {"chat": {"BACKEND": APPRISE, "OPTIONS": {"urls": urls, **options}}}
        settings.SIGNAL_AUDIT = audit_settings(channels, notify=["chat"])

    return configure


def send(recipient="", **values):
    row = make_notification(channel="chat", recipient=recipient, **values)
    deliver()
    row.refresh_from_db()
    return row


class TestSend:
    def test_the_service_gets_subject_text_and_level(self, chat, reaching):
        reaching(url(chat))
        row = send(event=make_event(level="critical"))
        assert row.status == "sent", row.last_error
        (request,) = chat.requests
        found = json.loads(request.body)
        assert (found["title"], found["type"]) == ("Product “Oil”: Price changed from 10.00 to 9.00", "failure")
        assert found["message"].startswith("Oil (Product)\n\nPrice: 10.00 → 9.00")
        assert "because of the rule watch" in found["message"]

    def test_each_url_is_a_message_of_its_own_and_only_what_failed_is_tried_again(self, chat, phone, reaching):
        reaching({"team": url(chat), "duty": url(phone)})
        chat.status = 500
        record("thing_happened")
        deliver()
        rows = Notification.objects.order_by("recipient")
        assert [(row.recipient, row.status) for row in rows] == [("duty", "sent"), ("team", "failed")]
        chat.status = 200
        Notification.objects.filter(status="failed").update(available_at=rows[0].created)
        assert deliver().sent == 1
        assert (len(chat.requests), len(phone.requests)) == (2, 1)

    def test_a_rule_may_name_one_of_them(self, chat, phone, reaching):
        reaching({"team": url(chat), "duty": url(phone)})
        assert send("duty").status == "sent"
        assert (len(chat.requests), len(phone.requests)) == (0, 1)

    def test_retries_are_left_to_the_outbox(self, chat, reaching):
        reaching(f"{url(chat)}?retry=3&wait=0.01")
        chat.status = 503
        assert send().status == "failed"
        assert len(chat.requests) == 1

    def test_redirects_are_not_followed(self, chat, phone, reaching):
        reaching(url(chat))
        chat.status, chat.headers = 307, {"Location": phone.url("/stolen")}
        assert send().status == "failed"
        assert phone.requests == []

    def test_one_that_hangs_is_left_after_the_timeout(self, chat, reaching):
        reaching(url(chat), timeout=0.3)
        over = threading.Event()
        chat.pause = lambda _: over.wait(10)
        try:
            row = send()
        finally:
            over.set()
        assert row.status == "failed"
        assert row.last_error.startswith("JSON did not take it (")

    def test_a_name_that_is_gone_is_given_up(self, chat, reaching):
        reaching({"team": url(chat)})
        row = send("taem")
        assert (row.status, row.attempts) == ("dead", 1)
        assert row.last_error == '"taem" isn\'t the name of a URL of the channel "chat".'

    def test_users_cannot_be_reached_by_it(self, chat, reaching):
        reaching({"team": url(chat)}, check_permission=False)
        User.objects.create(username="ann")
        row = send("user:ann")
        assert row.status == "skipped"
        assert "has no address" in row.last_error


class TestSecrets:
    @pytest.mark.parametrize("status", [401, 500])
    def test_neither_the_row_nor_the_log_has_any_of_the_url(self, chat, reaching, caplog, status):
        reaching({"team": url(chat)})
        chat.status = status
        chat.text = "T0KEN-of-ours hunter22"
        with caplog.at_level(logging.DEBUG, logger="apprise"):
            row = send("team")
        assert "JSON POST URL" in caplog.text
        assert row.status == "failed"
        assert row.last_error.startswith("JSON did not take it (failure)")
        everything = f"{row.last_error} {row.recipient} {row.data} {caplog.text}"
        for secret in ("T0KEN", "hunter22"):
            assert secret not in everything

    def test_one_that_is_down(self, reaching, caplog):
        reaching("json://bob:hunter22@127.0.0.1:1/T0KEN-of-ours")
        row = send()
        assert "A Connection error occurred" in row.last_error
        for secret in ("T0KEN", "hunter22"):
            assert secret not in row.last_error + caplog.text

    def test_one_that_cannot_be_read(self, reaching, caplog):
        reaching("jsno://bob:hunter22@127.0.0.1:1/T0KEN-of-ours")
        row = send()
        assert row.status == "dead"
        for secret in ("T0KEN", "hunter22"):
            assert secret not in row.last_error + caplog.text


class TestCheck:
    def check(self, **options):
        return " ".join(f"{problem.msg} {problem.hint}" for problem in AppriseChannel("chat", options).check())

    def test_right_options_are_no_mistake(self):
        assert self.check(urls="json://e.org", timeout=5) == ""
        assert self.check(urls={"a": "json://e.org", "b": "mailto://u:p@e.org"}, to="a") == ""

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, '["urls"] is missing'),
            ({"urls": []}, '["urls"] must be an Apprise URL, or a dict'),
            ({"urls": {"a": ""}}, '["urls"] must be'),
            ({"urls": "jsno://hunter22@e.org"}, "has one that Apprise cannot read"),
            ({"urls": {"team": "slack://hunter22"}}, "by the name 'team'"),
            ({"urls": "hunter22"}, "has one that Apprise cannot read"),
            ({"urls": "json://e.org", "timeout": 0}, '["timeout"] must be seconds'),
        ],
    )
    def test_wrong_ones_are_named_without_their_secrets(self, options, expected, caplog):
        found = self.check(**options)
        assert expected in found
        assert "hunter22" not in found + caplog.text

    @pytest.mark.parametrize("there", ["rule", "channel"])
    def test_a_name_that_no_url_has(self, settings, there):
        options = {"urls": {"team": "json://e.org"}, **({"to": "taem"} if there == "channel" else {})}
        entry = {"channel": "chat", **({"to": "taem"} if there == "rule" else {})}
        settings.SIGNAL_AUDIT = {
            "RULES": [{"name": "watch", "events": ["x"], "notify": [entry]}],
            "CHANNELS": {"chat": {"BACKEND": APPRISE, "OPTIONS": options}},
        }
        (problem,) = check_plugins()
        assert problem.id == "django_signal_audit.E027"
        assert problem.hint == "Did you mean 'team'?"

    def test_a_channel_without_urls_is_reported_and_stops_nothing(self, settings):
        settings.SIGNAL_AUDIT = {
            "RULES": [{"name": "watch", "events": ["x"], "notify": ["chat"]}],
            "CHANNELS": {"chat": {"BACKEND": APPRISE}},
        }
        (problem,) = check_plugins()
        assert '["urls"] is missing' in problem.msg
