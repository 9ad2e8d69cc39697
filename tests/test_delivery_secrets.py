"""A secret reaches no message, no row of ours and no line of a log, whatever templates and receivers do."""

from __future__ import annotations

import json
import logging

import pytest
from django.core import mail

from django_signal_audit.channels.email import HAS_MAILERS
from django_signal_audit.channels.webhook import WebhookChannel
from django_signal_audit.checks import check_plugins
from django_signal_audit.delivery.redaction import describe
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .app.models import Product
from .notices import CALLABLE, EMAIL, LOG, audit_settings, make_event, make_notification
from .receivers import receiver

pytestmark = pytest.mark.django_db

SECRET = "tok-7f3a-secret"
WEBHOOK = "django_signal_audit.channels.webhook.WebhookChannel"
APPRISE = "django_signal_audit.channels.apprise.AppriseChannel"
INBOX = "django_signal_audit.channels.inbox.InboxChannel"
LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
HOSTILE = (
    "{{ new.api_token }} {{ old.api_token }} {{ new }} {{ event.changes }} {{ event.new.api_token }} {{ events }} "
    "{{ event.data }} {{ event.context }} {{ event.field_changes }} {{ event.model_class }} "
    "{% for name, pair in event.changes.items %}{{ name }}={{ pair }}{% endfor %}{{ rule.notify }}"
    "{{ settings.SECRET_KEY }}"
)


@pytest.fixture
def server():
    with receiver() as found:
        yield found


@pytest.fixture
def everything(settings, server, admin_user):
    """Put a rule in force that tells of a product by every channel, with a template that shows all it can."""

    def configure(**rule):
        channels = {
            "mail": {"BACKEND": EMAIL, "OPTIONS": {"to": "a@example.com"}},
            "inbox": {"BACKEND": INBOX, "OPTIONS": {"to": "superusers"}},
            "log": {"BACKEND": LOG},
            "hook": {
                "BACKEND": WEBHOOK,
                "OPTIONS": {"url": server.url(), "secret": "whsec_c2VjcmV0", "allow_http": True, "allow_private": True},
            },
            "chat": {"BACKEND": APPRISE, "OPTIONS": {"urls": f"json://127.0.0.1:{server.port}/chat"}},
            "code": {"BACKEND": CALLABLE, "OPTIONS": {"target": "tests.test_delivery_secrets.complain"}},
        }
        if HAS_MAILERS:
            settings.MAILERS = {"default": {"BACKEND": LOCMEM}}
        rule = {"name": "watch", "model": "app.Product", "notify": list(channels), **rule}
        settings.SIGNAL_AUDIT = {
            "RULES": [rule],
            "CHANNELS": channels,
            "DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher",
        }

    return configure


def complain(message):
    raise ValueError(f"cannot take {message.subject} {message.body} of {message.events}")


def everywhere(server, caplog):
    """Return all that left this process or stayed in the outbox, in one text."""
    rows = [json.dumps(row, default=str) for row in Notification.objects.values()]
    mails = [str(item.message()) + str(item.body) + str(item.alternatives) for item in mail.outbox]
    return "\n".join([*rows, *mails, *(str(request) for request in server.requests), caplog.text])


@pytest.mark.parametrize(
    ("texts", "attributes"),
    [
        ({}, {"login": [{"password": SECRET}]}),
        ({"subject": "{{ new.attributes }}", "message": "{{ new }} {{ old }}"}, {"login": [{"password": SECRET}]}),
        ({"subject": HOSTILE, "message": HOSTILE}, {}),
    ],
)
def test_a_masked_value_leaves_by_no_channel(everything, server, caplog, texts, attributes):
    everything(**texts)
    with caplog.at_level(logging.INFO):
        product = Product.objects.create(name="Oil", api_token=SECRET, attributes=attributes)
        product.api_token = f"{SECRET}-2"
        product.save()
        deliver()
    found = set(Notification.objects.values_list("channel", "status"))
    sent = {(name, "sent") for name in ("mail", "inbox", "log", "hook", "chat")}
    assert found == {*sent, ("code", "failed")}
    text = everywhere(server, caplog)
    assert "********" in text
    assert "Oil" in text
    assert "tok-7f3a" not in text.replace("\\", "")


def test_what_a_rule_masks_is_no_address(everything, caplog, server):
    everything(mask=["name"], notify=[{"channel": "code", "to": "name"}])
    Product.objects.create(name=SECRET, slug="oil")
    assert deliver().dead == 1
    assert Notification.objects.get().last_error == 'The recipient "name" passes "name", which is private.'
    (problem,) = [item for item in check_plugins() if item.id == "django_signal_audit.E027"]
    assert "passes 'name', which is private" in problem.msg


def test_a_message_about_an_object_that_is_gone_leaves_by_every_channel(everything, server, mailoutbox):
    everything(notify=["mail", "inbox", "log", "hook", "chat"])
    product = Product.objects.create(name="Oil")
    product.delete()
    Product.objects.all().delete()
    report = deliver()
    assert (report.sent, report.attempted) == (10, 10)
    assert [item.subject for item in mailoutbox] == ["Product “Oil” was created", "Product “Oil” was deleted"]


def test_a_template_that_cannot_be_rendered_is_dead_at_once_and_the_others_go_on(everything, server):
    everything(notify=["hook", {"channel": "log", "message": "{{ event.objects.all }}"}, "inbox"])
    Product.objects.create(name="Oil")
    report = deliver()
    assert (report.sent, report.dead) == (2, 1)
    row = Notification.objects.get(status="dead")
    assert (row.channel, row.attempts) == ("log", 1)
    assert row.last_error.startswith('The message of rule "watch" cannot be rendered: AttributeError')


@pytest.mark.parametrize("before", [0, 150, 170, 190, 199, 1960, 1990])
@pytest.mark.parametrize("status", [400, 410, 429, 500])
def test_an_answer_is_cut_after_its_secrets_are_hidden(settings, server, status, before):
    secret = "whsec_YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBjaGFyYWN0ZXJz"
    options = {"url": server.url(), "secret": secret, "allow_http": True, "allow_private": True}
    settings.SIGNAL_AUDIT = audit_settings({"hook": {"BACKEND": WEBHOOK, "OPTIONS": options}})
    server.status, server.text = status, "p" * before + secret
    row = make_notification(channel="hook")
    deliver()
    row.refresh_from_db()
    assert row.last_error.startswith(f"It answered {status}")
    assert secret[:10] not in row.last_error


def test_backslashes_without_end_in_an_error_take_no_longer_than_other_letters(server):
    options = {"url": server.url(), "secret": "whsec_c2VjcmV0", "headers": {"X-Key": "a b\\c" * 9}}
    channel = WebhookChannel("hook", options)
    assert "\\" in describe(ValueError("\\" * 19_999), channel)


def test_a_secret_option_is_hidden_from_whatever_a_channel_raises(settings, caplog):
    options = {"target": "tests.test_delivery_secrets.complain", "api_key": SECRET}
    settings.SIGNAL_AUDIT = {"CHANNELS": {"code": {"BACKEND": CALLABLE, "OPTIONS": options}}}
    make_notification(make_event(object_repr=SECRET), "code")
    deliver()
    assert SECRET not in Notification.objects.get().last_error + caplog.text
