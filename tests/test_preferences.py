"""What users choose: which notifications they get and when, and that a locked rule asks nobody."""

from __future__ import annotations

import datetime as dt
import json
import re

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.core import mail, signing
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import translation

from django_signal_audit import record
from django_signal_audit.channels.email import HAS_MAILERS
from django_signal_audit.delivery.links import unsubscribe_address
from django_signal_audit.delivery.preferences import end_of_quiet
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Mute, Notification, Preference, QuietHours

from .app.models import Category
from .notices import EMAIL, INBOX, calling, make_event, make_notification

pytestmark = pytest.mark.django_db

PAGE = reverse("signal_audit:preferences")
API = reverse("signal_audit:preferences-api")
NOON = dt.datetime(2026, 11, 27, 12, 0, tzinfo=dt.UTC)
RULES = [
    {"name": "prices", "events": ["price_changed"], "notify": ["mail", "inbox"]},
    {"name": "safety", "events": ["break_in"], "notify": ["mail"], "locked": True},
    {"name": "urgent", "events": ["fire"], "level": "critical", "notify": ["mail"]},
    {"name": "news", "events": ["news"], "notify": [{"channel": "mail", "opt_in": True}]},
    {"name": "categories", "model": "app.Category", "notify": ["inbox"]},
    {"name": "secret", "events": ["secret"], "notify": [{"channel": "mail", "to": "group:Bosses"}]},
]
OPEN = {"check_permission": False, "to": ["superusers"]}


@pytest.fixture(autouse=True)
def rules(settings):
    settings.SIGNAL_AUDIT = {
        "RULES": RULES,
        "CHANNELS": {
            "mail": {"BACKEND": EMAIL, "OPTIONS": OPEN},
            "inbox": {"BACKEND": INBOX, "OPTIONS": OPEN},
            "sms": calling("take", **OPEN),
        },
        "DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher",
        "SITE_URL": "https://shop.example.com",
    }
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}


@pytest.fixture
def ada(client):
    user = User.objects.create_superuser("ada", "ada@example.com")
    client.force_login(user)
    return user


def states(**filters):
    return list(Notification.objects.filter(**filters).order_by("pk").values_list("channel", "status"))


def post(client, said):
    return client.post(API, json.dumps(said), "application/json")


class TestSwitchedOff:
    def test_it_is_skipped_and_says_why_and_another_channel_still_sends(self, ada, mailoutbox):
        Preference.objects.choose(ada, rule="prices", channel="mail", choice="off")
        record("price_changed")
        deliver()
        assert states() == [("mail", "skipped"), ("inbox", "sent")]
        assert Notification.objects.get(channel="mail").last_error == (
            'Preference: the user ada has switched off rule "prices" by channel "mail".'
        )
        assert mailoutbox == []

    def test_one_who_opts_out_between_the_event_and_the_message_gets_none(self, ada, mailoutbox):
        record("price_changed")
        Preference.objects.choose(ada, rule="prices", channel="mail", choice="off")
        deliver()
        assert mailoutbox == []

    def test_it_concerns_this_user_alone(self, ada, mailoutbox):
        User.objects.create_superuser("bob", "bob@example.com")
        Preference.objects.choose(ada, rule="prices", channel="mail", choice="off")
        record("price_changed")
        deliver()
        assert [message.to for message in mailoutbox] == [["bob@example.com"]]

    def test_a_locked_rule_asks_nobody(self, ada, mailoutbox):
        Preference.objects.choose(ada, rule="safety", channel="mail", choice="off")
        Mute.objects.mute(ada, "", "")
        QuietHours.objects.create(user=str(ada.pk), begin=dt.time(0), end=dt.time(23, 59), time_zone="UTC")
        with time_machine.travel(NOON, tick=False):
            record("break_in")
            deliver()
        assert len(mailoutbox) == 1

    def test_a_rule_to_opt_in_to_sends_only_to_those_who_did(self, ada, mailoutbox):
        record("news")
        deliver()
        assert "has not opted in to" in Notification.objects.get().last_error
        Preference.objects.choose(ada, rule="news", channel="mail", choice="on")
        record("news")
        deliver()
        assert len(mailoutbox) == 1

    def test_statistics_count_it_and_the_log_does_not_warn_of_it(self, ada, capsys, caplog):
        Preference.objects.choose(ada, rule="prices", channel="mail", choice="off")
        record("price_changed")
        deliver()
        call_command("audit_deliver", "--stats")
        assert "skipped by a preference: 1\n" in capsys.readouterr().out
        assert [entry for entry in caplog.records if entry.levelname == "WARNING"] == []


class TestMute:
    def test_messages_about_the_object_are_skipped_and_others_come(self, ada):
        tea, oil = Category.objects.create(name="Tea"), Category.objects.create(name="Oil")
        deliver()
        Mute.objects.mute(ada, "app.Category", tea.pk)
        for category in (tea, oil):
            category.name += "!"
            category.save()
        deliver()
        assert states(rule="categories")[2:] == [("inbox", "skipped"), ("inbox", "sent")]
        assert "has muted this object" in Notification.objects.get(status="skipped").last_error

    def test_an_object_stays_muted_when_it_is_deleted_and_when_its_model_is_renamed(self, ada, settings):
        muted, other = Category.objects.create(name="Oil"), Category.objects.create(name="Tea")
        Mute.objects.mute(ada, "app.kind", str(muted.pk), "Oil")
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "RENAMED": {"app.Kind": "app.Category"}}
        Notification.objects.all().delete()
        muted.delete()
        other.delete()
        deliver()
        assert states() == [("inbox", "skipped"), ("inbox", "sent")]

    def test_a_message_about_several_leaves_the_muted_ones_out(self, ada):
        tea = Category.objects.create(name="Tea")
        Category.objects.create(name="Oil")
        Mute.objects.mute(ada, "app.category", str(tea.pk))
        Notification.objects.all().delete()
        Category.objects.all().delete()
        deliver()
        (message,) = Notification.objects.filter(status="sent")
        assert "Oil" in message.subject + message.body
        assert "Tea" not in message.subject + message.body

    def test_by_a_button_in_the_inbox_and_back_again(self, client, ada):
        Category.objects.create(name="Tea")
        deliver()
        message = Notification.objects.get(channel="inbox")
        page = client.get(reverse("signal_audit:inbox")).content.decode()
        assert "Mute Tea" in page
        client.post(PAGE, {"mute": message.pk})
        (muted,) = Mute.objects.of(ada)
        assert (muted.model, muted.object_repr) == ("app.category", "Tea")
        assert "Tea" in client.get(PAGE).content.decode()
        client.post(PAGE, {"unmute": muted.pk})
        assert not Mute.objects.exists()

    def test_nobody_mutes_by_a_message_of_another(self, client, ada):
        bob = User.objects.create_user("bob")
        event = make_event()
        foreign = make_notification(event, "inbox", rule="prices", recipient=str(bob.pk), status="sent")
        assert post(client, {"mute": foreign.pk}).status_code == 400
        theirs = Mute.objects.create(user=str(bob.pk), model="app.category", object_id="1")
        assert post(client, {"unmute": theirs.pk}).status_code == 400
        assert Mute.objects.count() == 1


class TestDigest:
    def test_a_day_becomes_one_message_and_the_next_window_begins_with_the_next(self, ada, mailoutbox):
        Preference.objects.choose(ada, rule="prices", channel="mail", choice="1d")
        with time_machine.travel(NOON, tick=False) as clock:
            record("price_changed")
            deliver()
            clock.shift(3600)
            record("price_changed")
            deliver()
            assert mailoutbox == []
            clock.shift(23 * 3600)
            deliver()
            assert len(mailoutbox) == 1
            assert Notification.objects.get(channel="mail").data["count"] == 2
            record("price_changed")
            deliver()
            assert len(mailoutbox) == 1

    def test_one_that_fails_is_retried_and_waits_for_no_other_window(self, ada, settings, mailoutbox):
        Preference.objects.choose(ada, rule="prices", channel="mail", choice="1h")
        channels = settings.SIGNAL_AUDIT["CHANNELS"]
        with time_machine.travel(NOON, tick=False) as clock:
            record("price_changed")
            deliver()
            settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "CHANNELS": {**channels, "mail": calling("boom", **OPEN)}}
            clock.shift(3601)
            deliver()
            assert Notification.objects.get(channel="mail").status == "failed"
            settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "CHANNELS": channels}
            clock.shift(60)
            deliver()
            assert Notification.objects.get(channel="mail").status == "sent"

    def test_critical_messages_come_at_once(self, ada, mailoutbox):
        Preference.objects.choose(ada, rule="urgent", channel="mail", choice="1w")
        record("fire")
        deliver()
        assert len(mailoutbox) == 1

    def test_a_channel_that_keeps_an_order_is_not_held_up_by_it(self, ada, settings, mailoutbox):
        channels = dict(settings.SIGNAL_AUDIT["CHANNELS"])
        channels["mail"] = {"BACKEND": EMAIL, "OPTIONS": {**OPEN, "ordered": True}}
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "CHANNELS": channels}
        Preference.objects.choose(ada, rule="prices", channel="mail", choice="1h")
        with time_machine.travel(NOON, tick=False) as clock:
            for _ in range(3):
                record("price_changed")
                deliver()
            clock.shift(3601)
            deliver()
            assert len(mailoutbox) == 1
            assert Notification.objects.get(channel="mail").data["count"] == 3


class TestQuietHours:
    def test_what_is_due_in_them_is_sent_at_their_end_but_for_the_inbox_and_what_is_critical(self, ada, mailoutbox):
        QuietHours.objects.create(user=str(ada.pk), begin=dt.time(11), end=dt.time(13), time_zone="UTC")
        with time_machine.travel(NOON, tick=False) as clock:
            record("price_changed")
            record("fire")
            deliver()
            assert states() == [("mail", "pending"), ("inbox", "sent"), ("mail", "sent")]
            clock.shift(3600)
            deliver()
            assert len(mailoutbox) == 2

    @pytest.mark.parametrize(
        ("begin", "end", "zone", "now", "expected"),
        [
            ("22:00", "07:00", "UTC", "2026-11-27T23:00", "2026-11-28T07:00"),
            ("22:00", "07:00", "UTC", "2026-11-28T06:59", "2026-11-28T07:00"),
            ("22:00", "07:00", "UTC", "2026-11-28T07:00", None),
            ("22:00", "07:00", "Europe/Vienna", "2026-11-27T21:30", "2026-11-28T06:00"),
            ("22:00", "07:00", "Europe/Vienna", "2026-03-28T22:00", "2026-03-29T05:00"),  # summer time begins
            ("22:00", "02:30", "Europe/Vienna", "2026-03-29T00:30", "2026-03-29T01:30"),  # 02:30 is left out
            ("22:00", "02:30", "Europe/Vienna", "2026-10-25T00:15", "2026-10-25T00:30"),  # 02:30 comes twice
            ("22:00", "02:30", "Europe/Vienna", "2026-10-25T01:15", "2026-10-25T01:30"),
            ("12:00", "13:00", "UTC", "2026-11-27T12:30", "2026-11-27T13:00"),
            ("12:00", "13:00", "no/such", "2026-11-27T12:30", "2026-11-27T13:00"),
            ("12:00", "13:00", "UTC", "2026-11-27T13:00", None),
        ],
    )
    def test_when_they_end(self, begin, end, zone, now, expected):
        quiet = QuietHours(begin=dt.time.fromisoformat(begin), end=dt.time.fromisoformat(end), time_zone=zone)
        found = end_of_quiet(quiet, dt.datetime.fromisoformat(now).replace(tzinfo=dt.UTC))
        assert (found and f"{found:%Y-%m-%dT%H:%M}") == expected


class TestPage:
    def test_it_offers_the_rules_that_concern_the_user(self, client, ada):
        page = client.get(PAGE).content.decode()
        for rule in ("prices", "safety", "urgent", "news", "categories"):
            assert rule in page
        assert "secret" not in page
        bob = User.objects.create_user("bob", "bob@example.com")
        client.force_login(bob)
        assert "No rule notifies you." in client.get(PAGE).content.decode()
        bob.groups.add(Group.objects.create(name="Bosses"))
        assert "secret" in client.get(PAGE).content.decode()
        make_notification(channel="mail", rule="prices", recipient="bob@example.com", status="sent")
        assert "prices" in client.get(PAGE).content.decode()

    def test_choosing(self, client, ada):
        said = {"rule": ["prices", "news"], "channel": ["mail", "mail"], "choice": ["1d", "on"]}
        response = client.post(PAGE, said, follow=True)
        assert "Your preferences are saved." in response.content.decode()
        found = {(row.rule, row.channel): row.choice for row in Preference.objects.all()}
        assert found == {("prices", "mail"): "1d", ("news", "mail"): "on"}

    @pytest.mark.parametrize(
        "said",
        [
            {"rule": "safety", "channel": "mail", "choice": "off"},
            {"rule": "secret", "channel": "mail", "choice": "off"},
            {"rule": "prices", "channel": "mail", "choice": "never"},
            {"quiet": "on", "begin": "25:00", "end": "07:00", "time_zone": "UTC"},
            {"quiet": "on", "begin": "22:00", "end": "22:00", "time_zone": "UTC"},
            {"quiet": "on", "begin": "22:00", "end": "07:00", "time_zone": "Mars"},
            {"quiet": "on", "begin": "22:00+05:00", "end": "07:00", "time_zone": "UTC"},
            {"mute": "x"},
            {"unmute": "7"},
        ],
    )
    def test_what_cannot_be_chosen_is_refused_and_said(self, client, ada, said):
        response = client.post(PAGE, said)
        assert response.status_code == 400
        assert 'role="alert"' in response.content.decode()
        assert not Preference.objects.exists()

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            (
                {"quiet": "on", "begin": "22:00", "end": "22:00", "time_zone": "UTC"},
                "Die Ruhezeit muss zu einer anderen",
            ),
            ({"quiet": "on", "begin": "", "end": "07:00", "time_zone": "UTC"}, "Die Ruhezeit muss zu einer Uhrzeit"),
            ({"quiet": "on", "begin": "22:00", "end": "07:00", "time_zone": "Mars"}, "Die Zeitzone muss einen Namen"),
            ({"rule": ["safety"], "channel": ["mail"], "choice": ["off"]}, "lassen sich nicht abbestellen"),
            ({"rule": ["gone"], "channel": ["mail"], "choice": ["off"]}, "können Sie nicht wählen"),
        ],
    )
    def test_what_people_do_wrong_is_said_in_their_language(self, client, ada, said, expected):
        with translation.override("de"):
            response = client.post(PAGE, said)
        assert response.status_code == 400
        assert expected in response.content.decode()

    def test_all_that_a_form_says_is_saved_or_nothing(self, client, ada):
        for rule, choice in (("gone", "off"), ("safety", "off"), ("urgent", "never")):
            said = {"rule": ["prices", rule], "channel": ["mail", "mail"], "choice": ["off", choice]}
            assert client.post(PAGE, said).status_code == 400
            assert not Preference.objects.exists()

    def test_many_rules_are_saved_with_few_queries_for_each(self, client, ada, settings, django_assert_max_num_queries):
        names = [f"rule{number}" for number in range(20)]
        rules = [{"name": name, "events": ["price_changed"], "notify": ["mail"]} for name in names]
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "RULES": rules}
        said = {"rule": names, "channel": ["mail"] * 20, "choice": ["1d"] * 20}
        client.post(PAGE, said)
        assert Preference.objects.filter(choice="1d").count() == 20
        with django_assert_max_num_queries(20):  # of which none is for a rule that stays as it is
            client.post(PAGE, said)

    def test_quiet_hours(self, client, ada):
        client.post(PAGE, {"quiet": "on", "begin": "22:00", "end": "07:30", "time_zone": "Europe/Vienna"})
        assert 'value="07:30"' in client.get(PAGE).content.decode()
        client.post(PAGE, {"quiet": "off", "begin": "", "end": "", "time_zone": ""})
        assert not QuietHours.objects.exists()

    def test_it_needs_a_login_and_a_csrf_token(self, ada):
        client = Client(enforce_csrf_checks=True)
        assert client.get(PAGE).status_code == 302
        client.force_login(ada)
        assert client.post(PAGE, {"quiet": "off"}).status_code == 403


class TestAPI:
    def test_what_holds_and_what_may_be_chosen(self, client, ada):
        found = client.get(API).json()
        assert found["choices"] == ["on", "off", "1h", "1d", "1w"]
        by_rule = {(item["rule"], item["channel"]): item for item in found["preferences"]}
        assert by_rule["safety", "mail"]["locked"] is True
        assert by_rule["news", "mail"] == {
            "rule": "news",
            "channel": "mail",
            "choice": "off",
            "locked": False,
            "opt_in": True,
        }
        assert (found["quiet_hours"], found["muted"]) == (None, [])

    def test_choosing(self, client, ada):
        found = post(client, {"rule": "prices", "channel": "inbox", "choice": "off"}).json()
        assert {"rule": "prices", "channel": "inbox", "choice": "off", "locked": False, "opt_in": False} in (
            found["preferences"]
        )
        quiet = {"begin": "22:00", "end": "07:00", "time_zone": "UTC"}
        assert post(client, {"quiet_hours": quiet}).json()["quiet_hours"] == quiet
        assert post(client, {"quiet_hours": None}).json()["quiet_hours"] is None

    @pytest.mark.parametrize(
        "said",
        [
            {},
            [],
            {"choice": "off"},
            {"quiet_hours": 7},
            {"mute": 1, "unmute": 1},
            *(
                {"quiet_hours": {"begin": "22:00", "end": "06:00", **wrong}}
                for wrong in ({"time_zone": {}}, {"time_zone": ["UTC"]}, {"time_zone": "UTC", "begin": []}, {})
            ),
        ],
    )
    def test_bad_requests_are_answered(self, client, ada, said):
        response = post(client, said)
        assert response.status_code == 400
        assert response.json()["error"]

    def test_it_needs_a_login(self, client):
        assert client.get(API).status_code == 401


class TestUnsubscribe:
    def link(self, user, rule="prices"):
        row = Notification(rule=rule, channel="mail")
        return unsubscribe_address(row, user).removeprefix("https://shop.example.com")

    def test_a_mail_to_a_user_has_the_headers_for_one_click(self, ada, mailoutbox):
        record("price_changed")
        deliver()
        (message,) = mailoutbox
        address = message.extra_headers["List-Unsubscribe"].strip("<>")
        assert address.startswith("https://shop.example.com/inbox/unsubscribe/")
        assert message.extra_headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"

    def test_one_click_without_login_and_cookies_ends_the_mails(self, ada, mailoutbox):
        stranger = Client(enforce_csrf_checks=True)
        response = stranger.post(self.link(ada), {"List-Unsubscribe": "One-Click"})
        assert response.status_code == 200
        assert Preference.objects.get().choice == "off"
        record("price_changed")
        deliver()
        assert mailoutbox == []

    def test_get_asks_and_changes_nothing(self, ada):
        stranger = Client()
        for ask in (stranger.get, stranger.head):
            response = ask(self.link(ada))
            assert response.status_code == 200
        assert "Do you want no more messages of the rule “prices”" in stranger.get(self.link(ada)).content.decode()
        assert not Preference.objects.exists()

    def test_it_can_be_undone(self, ada):
        stranger = Client()
        stranger.post(self.link(ada))
        page = stranger.post(self.link(ada), {"undo": "1"}).content.decode()
        assert "again" in page
        assert Preference.objects.get().choice == "on"

    def press(self, page, client, link):
        """Send the form of a page as its one button does."""
        (button,) = re.findall(r'<button name="(\w+)" value="(\w+)">', page.content.decode())
        return client.post(link, {button[0]: button[1]})

    @pytest.mark.parametrize("choice", ["on", "1h", "1d", "1w"])
    def test_undoing_it_brings_back_what_was_chosen_before(self, ada, choice):
        Preference.objects.choose(ada, rule="prices", channel="mail", choice=choice)
        stranger, link = Client(), self.link(ada)
        done = self.press(stranger.get(link), stranger, link)
        assert Preference.objects.get().choice == "off"
        undone = self.press(done, stranger, link)
        assert "again" in undone.content.decode()
        assert Preference.objects.get().choice == choice
        # And back and forth.
        self.press(self.press(undone, stranger, link), stranger, link)
        assert Preference.objects.get().choice == choice

    def test_also_if_the_form_is_sent_twice(self, ada):
        Preference.objects.choose(ada, rule="prices", channel="mail", choice="1w")
        stranger, link = Client(), self.link(ada)
        page = stranger.get(link)
        for _ in range(2):
            done = self.press(page, stranger, link)
        self.press(done, stranger, link)
        assert Preference.objects.get().choice == "1w"

    @pytest.mark.parametrize("value", ["1", "off", "", "1y"])
    def test_undoing_it_never_leaves_it_off(self, ada, value):
        Client().post(self.link(ada), {"List-Unsubscribe": "One-Click"})
        Client().post(self.link(ada), {"undo": value})
        assert Preference.objects.get().choice == "on"

    def test_who_looks_again_is_told_that_it_is_done(self, ada):
        stranger = Client()
        stranger.post(self.link(ada), {"List-Unsubscribe": "One-Click"})
        page = stranger.get(self.link(ada)).content.decode()
        assert "You get no more messages of the rule “prices”" in page
        assert Preference.objects.get().choice == "off"

    def test_a_locked_rule_has_no_link_and_refuses_one(self, ada, mailoutbox):
        record("break_in")
        deliver()
        assert "List-Unsubscribe" not in mailoutbox[0].extra_headers
        response = Client().post(self.link(ada, "safety"))
        assert response.status_code == 403
        assert not Preference.objects.exists()

    def test_a_link_that_we_did_not_sign_is_none(self, ada):
        for token in ("x", signing.dumps([str(ada.pk), "prices", "mail"]), self.link(ada).split("/")[-2][:-1]):
            response = Client().post(reverse("signal_audit:unsubscribe", args=[token]))
            assert response.status_code == 404
        assert not Preference.objects.exists()

    def test_a_link_of_somebody_who_is_gone_is_none(self, ada):
        link = self.link(ada)
        ada.delete()
        for ask in (Client().get, Client().post):
            response = ask(link)
            assert response.status_code == 404
            assert "Use the link of a newer message" in response.content.decode()
        assert not Preference.objects.exists()

    def test_neither_it_nor_the_answers_in_json_are_sent_to_the_login_where_all_pages_need_one(self, ada, settings):
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
        stranger = Client(enforce_csrf_checks=True)
        assert stranger.get(PAGE).status_code == 302
        for name in ("preferences-api", "inbox-messages", "inbox-unread", "inbox-stream", "events"):
            assert stranger.get(reverse(f"signal_audit:{name}")).status_code == 401, name
        assert stranger.post(self.link(ada), {"List-Unsubscribe": "One-Click"}).status_code == 200
        assert Preference.objects.get().choice == "off"

    def test_no_link_without_the_address_of_the_site_or_to_nobody_in_particular(self, ada, settings, mailoutbox):
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "SITE_URL": ""}
        record("price_changed")
        deliver()
        make_notification(channel="mail", rule="prices", recipient="team@example.com")
        deliver()
        assert len(mail.outbox) == 2
        assert all("List-Unsubscribe" not in message.extra_headers for message in mailoutbox)
