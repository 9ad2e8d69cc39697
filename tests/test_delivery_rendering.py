from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone, translation

from django_signal_audit.delivery.rendering import render
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .notices import audit_settings, make_event, make_notification, receiving

pytestmark = pytest.mark.django_db
NOON = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)


@pytest.fixture
def rule(settings):
    def change(channels=None, **rule):
        settings.SIGNAL_AUDIT = audit_settings(channels, **rule)

    change()
    return change


def message(event=None, *others, **values):
    event = event or make_event()
    row = make_notification(event, recipient="bob", attempts=3, **values)
    return render(row, [event, *others], "bob@example.com")


class TestDefaults:
    def test_the_default_text_of_an_update(self, rule):
        made = message(make_event(actor_repr="ann", recorded_at=NOON))
        assert made.subject == "update Product: Oil"
        assert made.body == "Price: 10.00 → 9.00\nby ann\nat 2026-03-10 12:00:00 UTC"
        assert (made.rule, made.channel, made.recipient, made.attempt) == ("watch", "take", "bob@example.com", 3)

    def test_a_create_has_the_new_and_a_delete_the_old_values(self, rule):
        changes = {"price": [None, "9.00"], "category": [None, None]}
        assert message(make_event(event_type="create", changes=changes)).body.startswith(
            "Price: 9.00\nCategory: -\nat "
        )
        assert message(make_event(event_type="delete", changes={"price": ["9.00", None]})).body.startswith(
            "Price: 9.00"
        )

    def test_values_as_people_write_them(self, rule):
        changes = {"is_active": [True, False], "attributes": [{"a": None}, {"a": True}]}
        lines = message(make_event(changes=changes)).body.splitlines()
        assert lines[:2] == ["Is active: yes → no", 'Attributes: {"a": null} → {"a": true}']
        changes = {"status": ["sent", "odd"]}
        [line, _moment] = message(
            make_event(model="django_signal_audit.notification", changes=changes)
        ).body.splitlines()
        assert line == "Status: sent → odd"

    def test_members_and_data(self, rule):
        event = make_event(
            event_type="m2m", changes={"tags": {"added": [3, 5], "removed": [7]}}, data={"rows": 5, "token": "x"}
        )
        assert message(event).body.startswith("Tags: +3, +5, -7\nrows: 5\n")

    def test_an_event_without_an_object_and_one_of_a_model_that_is_gone(self, rule):
        assert (
            message(make_event(event_type="login_failed", model="", object_id="", object_repr="")).subject
            == "login failed"
        )
        gone = make_event(model="old.thing", object_repr="", object_id="4")
        assert message(gone).subject == "update old.thing: 4"
        assert "price: 10.00 → 9.00" in message(gone).body

    def test_masked_and_digested_values_are_never_in_clear(self, rule):
        changes = {
            "api_token": [{"$masked": "hmac-sha256:aaaa"}, {"$masked": "hmac-sha256:bbbb"}],
            "blob": [None, {"$digest": "sha256:" + "c" * 64, "length": 9}],
        }
        event = make_event(changes=changes, data={"pin": {"$masked": "hmac-sha256:dddd"}})
        body = message(event).body
        assert "Api token: ******** → ********" in body
        assert "pin: ********" in body
        assert "(9 bytes)" in body
        assert "hmac" not in body

    def test_the_default_text_of_a_digest(self, rule):
        events = [make_event(object_repr=name) for name in ("Oil", "Gas")]
        made = message(*events)
        assert made.subject == "update Product: 2 events"
        assert made.body.startswith("update Product: Oil\nPrice: 10.00 → 9.00\n")
        assert "\n\nupdate Product: Gas\n" in made.body
        assert made.event == events[0]
        assert message(make_event(), make_event(event_type="delete")).subject == "watch: 2 events"

    def test_a_long_digest_is_cut_and_says_so(self, rule):
        event = make_event()
        body = message(*[event] * 60).body
        assert body.endswith("and 10 more events")
        assert body.count("update Product: Oil") == 50

    def test_a_rule_that_is_gone(self, settings):
        settings.SIGNAL_AUDIT = {}
        assert message(rule="forgotten").subject == "update Product: Oil"


class TestTemplates:
    def test_subject_and_message_with_typed_values(self, rule):
        rule(
            subject="{{ object }} dropped from {{ old.price }} to {{ new.price }}",
            message="{% if new.price < old.price %}{{ actor }} <{{ rule.name }}> {{ event.event_type }}{% endif %}",
        )
        made = message(make_event(actor_repr="Ann & Co", changes={"price": ["10.00", "9.00"]}))
        assert made.subject == "Oil dropped from 10.00 to 9.00"
        assert made.body == "Ann & Co <watch> update"
        assert made.event.new["price"] == Decimal("9.00")

    def test_all_events_of_a_digest_are_there(self, rule):
        rule(message="{% for event in events %}{{ event.object_repr }};{% endfor %}")
        assert message(make_event(object_repr="Oil"), make_event(object_repr="Gas")).body == "Oil;Gas;"

    def test_a_subject_is_one_line(self, rule):
        rule(subject="{{ object }}\n!")
        assert message(make_event(object_repr="a\r\nBcc: x\u2028y")).subject == "a Bcc: x y !"

    def test_a_masked_value_is_stars_in_a_template_too(self, rule):
        rule(subject="{{ old.api_token }} {{ new.api_token }}")
        made = message(
            make_event(changes={"api_token": [{"$masked": "hmac-sha256:aa"}, {"$masked": "hmac-sha256:bb"}]})
        )
        assert made.subject == "******** ********"

    def test_a_notify_entry_has_its_own(self, rule):
        rule(
            subject="the rule's",
            message="the rule's text",
            notify=[
                {"channel": "take", "to": ["ann"], "subject": "ann's"},
                {"channel": "take", "to": ["group:staff"], "subject": "the staff's"},
                {"channel": "take", "subject": "anybody's"},
                {"channel": "boom"},
            ],
        )
        event = make_event()

        def subject(**values):
            return render(make_notification(event, **values), [event], "").subject

        assert subject(recipient="ann") == "ann's"
        assert subject(recipient="x@example.com", entry="group:staff") == "the staff's"
        assert subject(recipient="bob") == "anybody's"
        assert subject(recipient="bob", channel="boom") == "the rule's"
        assert render(make_notification(event, recipient="ann"), [event], "").body == "the rule's text"

    def test_language_and_zone_are_the_projects(self, rule, settings):
        settings.LANGUAGE_CODE = "de"
        rule(subject="{{ new.price }} {{ event.recorded_at|date:'H:i' }}")
        with translation.override("en"), timezone.override("America/New_York"):
            made = message(make_event(recorded_at=NOON))
        assert made.subject == "9,00 13:00"

    def test_odd_characters_of_the_trail_pass_through(self, rule):
        rule(subject='{{ "a"|add:event.context.odd }}')
        made = message(make_event(context={"odd": "\x01b"}))
        assert made.subject == "a\x01b"


class TestFaults:
    def test_a_template_that_fails_is_dead_at_once_and_the_others_go_on(self, rule):
        rule(subject="{{ event.no_such.thing }}{{ event.audit_fails }}", notify=["take", {"channel": "take_async"}])

        def fail(self):
            raise ZeroDivisionError("in the template")

        from django_signal_audit.models import AuditEvent

        AuditEvent.audit_fails = property(fail)
        event = make_event()
        try:
            row = make_notification(event)
            other = make_notification(event, rule="another")
            with receiving() as messages:
                report = deliver()
                assert len(messages) == 1
        finally:
            del AuditEvent.audit_fails
        assert (report.dead, report.sent) == (1, 1)
        row, other = Notification.objects.get(pk=row.pk), Notification.objects.get(pk=other.pk)
        assert (row.status, row.attempts, other.status) == ("dead", 1, "sent")
        assert row.last_error == 'The subject of rule "watch" cannot be rendered: ZeroDivisionError: in the template'
