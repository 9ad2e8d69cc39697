from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone, translation

from django_signal_audit.channels import get_channel
from django_signal_audit.delivery import texts
from django_signal_audit.delivery.rendering import render
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification
from django_signal_audit.reports.display import show_fields
from django_signal_audit.testing import fake_notifications

from .app.models import Category, Tag
from .notices import EMAIL, INBOX, audit_settings, calling, make_event, make_notification, receiving

pytestmark = pytest.mark.django_db
MINUS = "\N{MINUS SIGN}"
NOON = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)


@pytest.fixture
def rule(settings):
    def change(channels=None, **rule):
        settings.SIGNAL_AUDIT = audit_settings(channels, **rule)

    change({"inbox": {"BACKEND": INBOX}})
    return change


def message(event=None, *others, **values):
    event = event or make_event()
    row = make_notification(event, recipient="bob", attempts=3, **values)
    return render(row, [event, *others], "bob@example.com")


def many(count):
    return [make_event(object_id=str(number), object_repr=f"Oil {number}") for number in range(count)]


class TestDefaults:
    def test_the_default_text_of_an_update(self, rule):
        made = message(make_event(actor_repr="ann", recorded_at=NOON, context={"reason": "the market"}))
        assert made.subject == "Product “Oil”: Price changed from 10.00 to 9.00"
        assert made.body == (
            f"Oil (Product)\n\nPrice: 10.00 → 9.00 ({MINUS}10.0 %)\n\n"
            "ann changed it on March 10, 2026, 12:00 UTC.\nReason: the market"
        )
        assert (made.rule, made.channel, made.recipient, made.attempt) == ("watch", "take", "bob@example.com", 3)

    def test_the_fields_of_an_event_are_put_in_words_once_for_the_subject_and_the_body(self, rule, monkeypatch):
        shown = []
        monkeypatch.setattr(texts, "show_fields", lambda *given: shown.append(given) or show_fields(*given))
        assert "10.00 to 9.00" in message().subject
        assert len(shown) == 1

    def test_of_several_fields_the_subject_has_the_names_and_of_long_values_too(self, rule):
        changes = {"price": ["1", "2"], "name": ["a", "b"], "stock": [1, 2], "weight": [1.0, 2.0]}
        assert (
            message(make_event(changes=changes)).subject == "Product “Oil” was changed: Name, Price, Weight and 1 more"
        )
        made = message(make_event(changes={"name": ["a" * 50, "b"]}))
        assert made.subject == "Product “Oil” was changed: Name"
        assert "a" * 50 in made.body

    def test_a_create_has_the_new_and_a_delete_the_old_values_as_far_as_they_say_something(self, rule):
        made = message(make_event(event_type="create", changes={"price": [None, "9.00"], "category": [None, None]}))
        assert made.subject == "Product “Oil” was created"
        assert made.body.startswith("Product “Oil” was created\n\nPrice: 9.00\n\nOn ")
        made = message(make_event(event_type="delete", changes={"price": ["9.00", None]}))
        assert made.subject == "Product “Oil” was deleted"
        assert made.body.startswith("Product “Oil” was deleted\n\nPrice: 9.00\n\nOn ")

    def test_a_rule_with_fields_tells_of_these_and_not_of_what_other_rules_record(self, rule):
        event = make_event(changes={"name": ["Oil", "Oils"], "price": ["10.00", "9.00"], "stock": [1, 2]})
        rule(fields=["price", "weight"])
        made = message(event)
        assert made.subject == "Product “Oil”: Price changed from 10.00 to 9.00"
        assert f"\n\nPrice: 10.00 → 9.00 ({MINUS}10.0 %)\n\n" in made.body
        rule(exclude=["stock"])
        assert message(event).subject == "Product “Oil” was changed: Name, Price"
        two = message(event, make_event())
        assert "Stock" not in two.body
        # A field that was renamed, or a rule that was changed, meanwhile: better all than nothing.
        rule(fields=["weight"])
        assert message(event).subject == "Product “Oil” was changed: Name, Price, Stock"
        assert event.changes.keys() == {"name", "price", "stock"}

    def test_a_rule_with_fields_tells_of_one_that_was_renamed_before_the_message_is_sent(self, rule, settings):
        event = make_event(changes={"cost": ["10.00", "9.00"], "weight": [1.0, 2.0], "stock": [1, 2], "units": [1, 2]})
        rule(fields=["price", "weight"])
        settings.SIGNAL_AUDIT |= {"RENAMED": {"app.Product.cost": "app.Product.price"}}
        assert message(event).subject == "Product “Oil” was changed: Price, Weight"

    def test_a_template_written_for_one_event_does_not_hide_that_there_are_more(self, rule):
        rule(
            subject="{{ object }} costs {{ new.price }}",
            message="By {% if actor %}{{ actor }}{% else %}nobody{% endif %}.",
        )
        made = message()
        assert (made.subject, made.body) == ("Oil costs 9.00", "By nobody.")
        made = message(*many(3))
        assert made.subject == "Oil 0 costs 9.00 (and 2 more events)"
        assert made.body == "By nobody.\n\nand 2 more events"
        rule(subject="{{ events|length }} since {{ event.object_repr }}", message="Something happened.")
        made = message(*many(3))
        assert (made.subject, made.body) == ("3 since Oil 0", "Something happened.")

    def test_a_project_without_time_zones_is_told_that_the_time_is_in_utc(self, rule, settings):
        settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Vienna"
        changes = {"modified": ["2026-03-10T12:59:00", "2026-03-10T13:00:00"]}
        made = message(make_event(recorded_at=NOON.replace(tzinfo=None), changes=changes))
        assert made.body.endswith("On March 10, 2026, 12:00 UTC.")
        assert "March 10, 2026 12:59:00 → March 10, 2026 13:00:00\n" in made.body, "a value has the clock of its column"

    def test_values_as_people_write_them(self, rule):
        changes = {"is_active": [True, False], "attributes": [{"a": None}, {"a": True}]}
        body = message(make_event(changes=changes)).body
        assert "Is active: yes → no\nAttributes.a: — → yes" in body
        changes = {"status": ["sent", "odd"]}
        body = message(make_event(model="django_signal_audit.notification", changes=changes)).body
        assert "Status: sent (sent) → odd" in body

    def test_rows_that_are_referred_to_have_their_names(self, rule):
        tea, hot = Category.objects.create(name="Tea"), Tag.objects.create(name="hot")
        changes = {"category": [None, tea.pk], "tags": {"added": [hot.pk, hot.pk + 1], "removed": []}}
        body = message(make_event(changes=changes)).body
        assert f"Category: — → Tea ({tea.pk})" in body
        assert f"Tags: +hot ({hot.pk}), +{hot.pk + 1} (deleted)" in body

    def test_but_not_to_a_user_who_may_not_view_them(self, rule):
        tea = Category.objects.create(name="Tea")
        event = make_event(changes={"category": [None, tea.pk]})
        user = User.objects.create(username="bob")
        user.user_permissions.add(Permission.objects.get(content_type__app_label="app", codename="view_product"))
        made = render(make_notification(event), [event], "bob", get_channel("inbox"), user)
        assert f"Category: — → {tea.pk}" in made.body
        assert "Tea" not in made.subject + made.body

    def test_members_and_data(self, rule):
        event = make_event(
            event_type="m2m", changes={"tags": {"added": [3, 5], "removed": [7]}}, data={"rows": 5, "token": "x"}
        )
        made = message(event)
        assert made.subject == f"Product “Oil” was changed: Tags (+3 (deleted), +5 (deleted), {MINUS}7 (deleted))"
        assert "rows: 5\n" in made.body

    @pytest.mark.parametrize(
        ("values", "subject"),
        [
            ({"event_type": "login_failed", "data": {"credentials": {"username": "eve"}}}, "A login failed: eve"),
            ({"event_type": "login_failed"}, "A login failed"),
            ({"event_type": "login", "actor_repr": "ada"}, "ada logged in"),
            ({"event_type": "logout", "actor_repr": ""}, "Somebody logged out"),
            (
                {"event_type": "request", "data": {"method": "GET", "path": "/a/", "status": 200}},
                "GET /a/ was answered with 200",
            ),
            ({"event_type": "report_exported"}, "The event “report_exported” was recorded"),
            (
                {"event_type": "price_alarm", "model": "app.product", "object_repr": "Oil"},
                "price_alarm: Product “Oil”",
            ),
            ({"event_type": "events_pruned", "data": {"count": 7}}, "7 events were pruned."),
            ({"event_type": "update", "model": "old.thing", "object_id": "4"}, "old.thing “4” was changed"),
        ],
    )
    def test_other_events_are_sentences_too(self, rule, values, subject):
        given = {"model": "", "object_id": "", "object_repr": "", "changes": {}, "data": {}, **values}
        assert message(make_event(**given)).subject == subject

    def test_masked_and_digested_values_are_never_in_clear(self, rule):
        changes = {
            "api_token": [{"$masked": "hmac-sha256:aaaa"}, {"$masked": "hmac-sha256:bbbb"}],
            "blob": [None, {"$digest": "sha256:" + "c" * 64, "length": 9}],
        }
        event = make_event(changes=changes, data={"pin": {"$masked": "hmac-sha256:dddd"}})
        body = message(event).body
        assert "Api token: masked → masked" in body
        assert "pin: masked" in body
        assert "(9 bytes)" in body
        assert "hmac" not in body

    def test_the_default_text_of_a_digest(self, rule):
        yesterday = NOON - dt.timedelta(days=1)
        events = [
            make_event(object_id="1", object_repr="Gas", recorded_at=yesterday, actor_repr="ann"),
            make_event(object_id="2", object_repr="Oil", recorded_at=NOON, actor_repr="bob"),
            make_event(object_id="3", object_repr="Tea", recorded_at=NOON, actor_repr="bob", event_type="delete"),
        ]
        made = message(*events)
        assert made.subject == "watch: 3 changes to 3 products (Gas, Oil and Tea)"
        assert made.body == (
            "3 changes to 3 products\n\nMarch 9, 2026 to March 10, 2026, by ann and bob.\n\n"
            f"Tuesday, March 10, 2026 · bob\n- Oil (Product): Price: 10.00 → 9.00 ({MINUS}10.0 %)\n"
            "- Product “Tea” was deleted: Price: 10.00\n\n"
            f"Monday, March 9, 2026 · ann\n- Gas (Product): Price: 10.00 → 9.00 ({MINUS}10.0 %)"
        )
        assert made.event == events[0]

    @pytest.mark.parametrize(
        ("language", "subject", "first", "second"),
        [
            ("en", "watch: 2 changes to 1 product (Oil)", "2 changes to 1 product", "ann and bob"),
            ("de", "watch: 2 Änderungen, 1 product (Oil)", "2 Änderungen, 1 product", "ann und bob"),
            ("fr", "watch: 2 modifications sur 1 product (Oil)", "2 modifications sur 1 product", "ann et bob"),
        ],
    )
    def test_a_digest_is_in_sentences_of_its_readers_language(self, rule, settings, language, subject, first, second):
        settings.LANGUAGE_CODE = language
        made = message(*(make_event(object_repr="Oil", object_id="1", actor_repr=name) for name in ("ann", "bob")))
        assert made.subject == subject
        assert made.body.startswith(first)
        assert second in made.body
        assert "watch" in made.why
        assert made.how_to_stop

    def test_a_long_digest_is_cut_and_says_so(self, rule):
        made = message(*many(60))
        assert made.subject == "watch: 60 changes to 60 products (Oil 0, Oil 1 and 58 others)"
        assert made.body.endswith("and 10 more events")
        assert made.body.count("- Oil ") == 50

    def test_a_digest_of_other_events(self, rule):
        events = [
            make_event(event_type="told", model="", object_id="", object_repr="", changes={}, data={"n": number})
            for number in range(2)
        ]
        made = message(*events)
        assert made.subject == "watch: 2 events"
        assert made.body.startswith("2 events\n\n")
        assert "- The event “told” was recorded\n  n: 0\n" in made.body

    def test_a_rule_that_is_gone(self, settings):
        settings.SIGNAL_AUDIT = {}
        assert message(rule="forgotten").subject == "Product “Oil”: Price changed from 10.00 to 9.00"


class TestWhy:
    def reason(self, rule, user=None, **values):
        row = make_notification(make_event(), **values)
        return render(row, [make_event()], "bob@example.com", None, user).reason

    def test_why_one_gets_it_and_how_to_get_no_more(self, rule):
        bob = User(pk=7, username="bob")
        stop = "To stop these messages, "
        assert self.reason(rule) == (
            f"You're receiving this because the rule watch notifies bob@example.com. {stop}ask an administrator."
        )
        assert self.reason(rule, bob, entry="group:Buyers") == (
            "You're receiving this because the rule watch notifies the group Buyers. "
            f"{stop}change your notification preferences."
        )
        assert "notifies all superusers. " in self.reason(rule, bob, entry="superusers")
        assert "notifies you. " in self.reason(rule, bob, entry="owner")

    def test_a_user_has_a_link_where_the_site_is_known_and_a_locked_rule_says_so(self, rule, settings):
        bob = User(pk=7, username="bob")
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "SITE_URL": "https://shop.example.com/"}
        assert "Unsubscribe: https://shop.example.com/inbox/unsubscribe/" in self.reason(rule, bob)
        rule(locked=True)
        assert self.reason(rule, bob).endswith("These messages can't be switched off.")


class TestLinks:
    @pytest.fixture(autouse=True)
    def site(self, rule, settings):
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "SITE_URL": "https://shop.example.com"}

    def test_the_event_and_its_object(self):
        event = make_event(model="auth.user", object_id="3", changes={"username": ["a", "b"]})
        made = message(event)
        assert made.body.endswith(
            f"\n\nhttps://shop.example.com/admin/django_signal_audit/auditevent/events/{event.uid}/"
        )
        assert made.content.single.object_url == "https://shop.example.com/admin/auth/user/3/change/"

    def test_all_events_of_a_digest(self):
        assert message(*many(2)).body.endswith(
            "\n\nhttps://shop.example.com/admin/django_signal_audit/auditevent/?rule=watch"
        )

    def test_none_for_a_user_who_may_not_enter_the_admin(self):
        event = make_event()
        bob = User(username="bob", pk=3)
        for is_staff in (False, True):
            bob.is_staff = is_staff
            made = render(make_notification(event), [event], "bob", get_channel("take"), bob)
            assert ("https://" in made.body) is is_staff


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
        fails = {"channel": "take", "subject": "{{ event.no_such.thing }}{{ event.audit_fails }}"}
        rule(notify=[fails, "take_async"])

        def fail(self):
            raise ZeroDivisionError("in the template")

        from django_signal_audit.models import AuditEvent

        AuditEvent.audit_fails = property(fail)
        event = make_event()
        try:
            row = make_notification(event)
            other = make_notification(event, "take_async")
            with receiving() as messages:
                report = deliver()
                assert len(messages) == 1
        finally:
            del AuditEvent.audit_fails
        assert (report.dead, report.sent) == (1, 1)
        row, other = Notification.objects.get(pk=row.pk), Notification.objects.get(pk=other.pk)
        assert (row.status, row.attempts, other.status) == ("dead", 1, "sent")
        assert row.last_error == 'The subject of rule "watch" cannot be rendered: ZeroDivisionError: in the template'


class TestOnDemand:
    """Our own text is made when a channel reads it."""

    @pytest.fixture
    def unspeakable(self, monkeypatch):
        """An event that no text can be made of."""
        event = make_event()

        def fail(self):
            raise ZeroDivisionError("in the text")

        monkeypatch.setattr("django_signal_audit.delivery.texts._model_name", fail)
        return event

    @staticmethod
    def delivered(monkeypatch, event, send, channel="take", **values):
        """Deliver a notification by a channel that is this function, and return its row."""
        monkeypatch.setattr("tests.notices.take", send)
        row = make_notification(event, channel, **values)
        deliver()
        return Notification.objects.get(pk=row.pk)

    def test_a_channel_that_reads_no_text_costs_none(self, rule, monkeypatch, unspeakable):
        assert self.delivered(monkeypatch, unspeakable, lambda message: None).status == "sent"

    def test_a_text_that_fails_is_a_failure_with_its_reason_and_is_tried_again(self, rule, monkeypatch, unspeakable):
        row = self.delivered(monkeypatch, unspeakable, lambda message: message.body)
        assert (row.status, row.attempts) == ("failed", 1)
        assert row.last_error.startswith("ZeroDivisionError: in the text")

    @pytest.mark.parametrize("channel", ["inbox", "mail"])
    def test_a_text_that_is_kept_or_becomes_html_fails_before_anything_is_sent(
        self, rule, monkeypatch, unspeakable, channel, mailoutbox
    ):
        rule({"inbox": {"BACKEND": INBOX}, "mail": {"BACKEND": EMAIL}})
        ann = User.objects.create(username="ann", email="ann@example.com", is_superuser=True)
        recipient = str(ann.pk) if channel == "inbox" else ann.email
        row = self.delivered(monkeypatch, unspeakable, print, channel, recipient=recipient)
        assert (row.status, row.attempts, mailoutbox) == ("failed", 1, [])
        assert row.last_error.startswith("ZeroDivisionError: in the text")

    def test_it_is_in_the_language_and_zone_of_its_reader_wherever_it_is_read(self, rule, monkeypatch):
        read = []
        rule({"here": calling("take", language="de", time_zone="Europe/Vienna")})

        def send(message):
            with translation.override("fr"), timezone.override("America/New_York"):
                read.extend([message.subject, message.body])
                assert translation.get_language() == "fr"

        self.delivered(monkeypatch, make_event(recorded_at=NOON), send, "here")
        assert read[0] == "Product „Oil“: Price von 10,00 auf 9,00 geändert"
        assert "13:00 CET" in read[1]

    def test_an_async_function_reads_the_names_of_related_rows(self, rule, monkeypatch):
        tea, read = Category.objects.create(name="Tea"), []

        async def send(message):
            read.append(message.body)

        event = make_event(changes={"category": [None, tea.pk]})
        assert self.delivered(monkeypatch, event, send).status == "sent"
        assert f"Category: — → Tea ({tea.pk})" in read[0]

    def test_a_message_that_is_kept_for_a_test_has_the_text_of_its_time(self, rule, settings):
        with fake_notifications() as messages:
            make_notification(make_event())
            deliver()
            settings.LANGUAGE_CODE = "de"
            settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "SITE_URL": "https://shop.example.com"}
            (message,) = messages.sent
        assert "https://" not in message.body
