"""Dates and numbers on our pages are those of the reader's language, moments those of their zone."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from io import StringIO

import pytest
import time_machine
from django.core.management import call_command
from django.db import models
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.html import strip_tags

from django_signal_audit.admin.links import history_url
from django_signal_audit.events.values import Digest
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.reports.display import show_value
from django_signal_audit.reports.formatter import Reader, show_clock, show_exactly, show_moment
from django_signal_audit.web.panel import entry_of
from tests.app.models import Category, Product

from .conftest import last
from .notices import INBOX, audit_settings
from .samples import NOON, make_event

LOG = reverse("admin:django_signal_audit_auditevent_changelist")
DASHBOARD = reverse("admin:django_signal_audit_auditevent_dashboard")
OUTBOX = reverse("admin:django_signal_audit_notification_changelist")
EVENING = dt.datetime(2026, 11, 23, 19, 5, 6, tzinfo=dt.UTC)
DAY = {"en": "Nov. 23, 2026", "de": "23. November 2026", "fr": "23 novembre 2026"}
SHORT = {"de": "23.11.2026", "fr": "23/11/2026"}
LANGUAGES = sorted(DAY)


class TestMoments:
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_to_the_second_in_the_readers_zone_and_with_its_offset(self, language):
        with translation.override(language):
            assert show_moment(EVENING) == f"{DAY[language]} 20:05:06 +01:00"
            with timezone.override("America/New_York"):
                assert show_moment(EVENING) == f"{DAY[language]} 14:05:06 -05:00"
            assert show_moment(EVENING.replace(tzinfo=None)) == f"{DAY[language]} 19:05:06 +00:00"

    def test_the_end_of_time_has_no_other_zone(self):
        assert show_moment(dt.datetime.max.replace(tzinfo=dt.UTC)).endswith("9999 23:59:59 +00:00")

    @pytest.mark.parametrize(
        ("language", "time"),
        [("fi", "8.05.06"), ("fr-ca", "08:05:06"), ("ko", "오전 8:05:06")],
    )
    def test_languages_that_write_times_otherwise(self, language, time):
        with translation.override(language):
            assert show_clock(dt.time(8, 5, 6)) == time


class TestValues:
    """In a diff nothing is rounded away: two values that differ look different."""

    @pytest.mark.parametrize(
        ("value", "english", "german"),
        [
            (Decimal("1234.50"), "1234.50", "1234,50"),
            (Decimal("NaN"), None, None),
            (float("inf"), None, None),
            (0.1, "0.1", "0,1"),
            (1234, "1234", "1234"),
            (dt.date(2026, 11, 23), "Nov. 23, 2026", "23. November 2026"),
            (dt.time(8, 5), "08:05:00", "08:05:00"),
            (dt.time(8, 5, 6, 7), "08:05:06.000007", "08:05:06,000007"),
            (
                EVENING.replace(microsecond=5),
                "Nov. 23, 2026 20:05:06.000005 +01:00",
                "23. November 2026 20:05:06,000005 +01:00",
            ),
            (True, None, None),
            ("1.5", None, None),
        ],
    )
    def test_each_type_is_shown_in_the_language_in_force(self, value, english, german):
        with translation.override("en"):
            assert show_exactly(value) == english
        with translation.override("de"):
            assert show_exactly(value) == german


@pytest.mark.django_db
class TestPages:
    @pytest.fixture
    def product(self, audit, settings):
        settings.USE_THOUSAND_SEPARATOR = True
        audit()
        with time_machine.travel(EVENING, tick=False):
            category = Category.objects.create(pk=123456, name="Fruit")
            product = Product.objects.create(pk=98765, name="Oil", price="1234.50", attributes={"port": 8000})
            product.price, product.weight, product.stock = Decimal("9999.00"), 0.25, 1000
            product.released, product.category = dt.date(2026, 2, 1), category
            product.attributes = {"port": 9000}
            product.save()
        return product

    def read(self, client, address, language):
        with translation.override(language):
            response = client.get(address)
            assert response.status_code == 200
            return strip_tags(response.content.decode()).replace("\xa0", " ").replace("\u202f", " ")

    @pytest.mark.parametrize(
        ("language", "values"),
        [
            ("de", ("1.234,50", "9.999,00", "0,25", "1.000", "1. Februar 2026")),
            ("fr", ("1 234,50", "9 999,00", "0,25", "1 000", "1 février 2026")),
        ],
    )
    def test_the_diff_is_shown_in_the_readers_language(self, admin_client, product, language, values):
        event = last()
        pages = [
            reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,)),
            reverse("admin:django_signal_audit_auditevent_revert", args=(event.pk,)),
            history_url("admin", "app.product", str(product.pk)) + f"?older={event.pk - 1}&newer={event.pk}",
        ]
        for page in pages:
            text = self.read(admin_client, page, language)
            # Keys and what stands in a JSON document are no numbers of anybody's language.
            for part in (*values, "Fruit (123456)", "9000"):
                assert part in text, (page, part)
        assert f"{DAY[language]} 20:05:06 +01:00" in self.read(admin_client, pages[0], language)
        with translation.override(language):
            text = admin_client.get(history_url("admin", "app.product", str(product.pk))).content.decode()
        assert text.count(f'title="{DAY[language]} 20:05:06 +01:00">') == 2

    @pytest.mark.parametrize("language", ["de", "fr"])
    def test_the_list_and_the_state_and_the_dashboard(self, admin_client, product, language):
        list_of = self.read(admin_client, LOG, language)
        assert DAY[language] in list_of
        assert "20:05" in list_of
        assert {"de": "1.234,50 → 9.999,00", "fr": "1 234,50 → 9 999,00"}[language] in list_of
        address = history_url("admin", "app.product", str(product.pk))
        state = self.read(admin_client, f"{address}?at=2026-11-24", language)
        assert {"de": "24. November 2026 00:00:00", "fr": "24 novembre 2026 00:00:00"}[language] in state
        assert {"de": "9.999,00", "fr": "9 999,00"}[language] in state
        with time_machine.travel(EVENING, tick=False):
            dashboard = self.read(admin_client, DASHBOARD, language)
        assert DAY[language] in dashboard
        assert "2026-11-23" not in dashboard

    @pytest.mark.parametrize("language", ["de", "fr"])
    def test_notifications_and_the_inbox(self, admin_client, admin_user, settings, language):
        settings.SIGNAL_AUDIT = audit_settings(channels={"inbox": {"BACKEND": INBOX}})
        with time_machine.travel(EVENING, tick=False):
            row = Notification.objects.create(
                rule="watch", channel="inbox", recipient=str(admin_user.pk), status="sent", sent_at=EVENING,
                read_at=EVENING, data={"subject": "Oil"},
            )  # fmt: skip
        page = reverse("admin:django_signal_audit_notification_change", args=(row.pk,))
        assert f"{DAY[language]} 20:05:06 +01:00" in self.read(admin_client, page, language)
        assert f"{SHORT[language]} 20:05:06" in self.read(admin_client, OUTBOX, language)
        inbox = self.read(admin_client, reverse("signal_audit:inbox"), language)
        assert {"de": f"Montag, {DAY['de']}", "fr": f"lundi, {DAY['fr']}"}[language] in inbox
        assert "20:05" in inbox

    def test_links_and_addresses_have_no_separators(self, admin_client, product):
        with translation.override("de"):
            text = admin_client.get(LOG).content.decode()
            assert f"/history/app.product/{product.pk}/" in text
            assert f"/auditevent/{last().pk}/change/" in text
            text = admin_client.get(history_url("admin", "app.product", str(product.pk))).content.decode()
            assert f"/auditevent/{last().pk}/revert/" in text

    @pytest.mark.parametrize("form", ["table", "csv", "json"])
    def test_commands_write_the_same_in_every_language(self, product, form):
        told = []
        for language in LANGUAGES:
            with translation.override(language):
                out = StringIO()
                call_command("audit_history", "app.product", str(product.pk), format=form, stdout=out)
            assert "9999.00" in out.getvalue()
            assert "2026-02-01" in out.getvalue()
            assert "2026-11-23" in out.getvalue()
            told.append(out.getvalue())
        if form == "json":
            assert len(set(told)) == 1

    @pytest.mark.parametrize(
        ("language", "text"), [("en", "70,000 bytes"), ("de", "70.000 Bytes"), ("fr", "70\xa0000 octets")]
    )
    def test_the_length_behind_a_digest(self, settings, language, text):
        settings.USE_THOUSAND_SEPARATOR = True
        digest = Digest("sha256:" + "a" * 64, 70_000)
        with translation.override(language):
            found = show_value(models.BinaryField(), digest, Reader(is_localised=True))
            assert found.text.replace("\u202f", "\xa0") == f"sha256:aaaaaaaaaaaa… ({text})"

    @pytest.mark.parametrize(("language", "said"), [("de", "ist kein gültiges Datum"), ("fr", "Écrivez 12h")])
    def test_what_is_not_a_date(self, admin_client, product, language, said):
        address = history_url("admin", "app.product", str(product.pk))
        assert said in self.read(admin_client, f"{address}?at=soon", language)

    def test_a_choice_keeps_its_value(self):
        field = models.IntegerField(choices=[(1000, "Thousand")])
        with translation.override("de"):
            assert show_value(field, 1000, Reader(is_localised=True)).text == "Thousand (1000)"
            assert show_value(field, 2000, Reader(is_localised=True)).text == "2000"
            assert show_value(models.DateTimeField(), NOON, Reader(is_localised=True)).text.startswith("10. März 2026")


def test_pages_of_a_project_with_naive_times_have_the_times_of_the_project(admin_client, admin_user, settings):
    settings.SIGNAL_AUDIT = audit_settings(channels={"inbox": {"BACKEND": INBOX}})
    settings.USE_TZ, settings.TIME_ZONE = False, "Asia/Tokyo"
    event = make_event(object_id=str(admin_user.pk), changes={"email": ["a", "b"]})
    values = {"rule": "watch", "channel": "inbox", "recipient": str(admin_user.pk), "status": "sent"}
    Notification.objects.create(**values, event=event.uid, sent_at=dt.datetime(2026, 3, 10, 12), data={"subject": "s"})
    inbox = admin_client.get("/inbox/").content.decode()
    assert re.findall(r'<time datetime="([^"]*)">([^<]*)<', inbox) == [("2026-03-10T21:00:00", "9 p.m.")]
    panel = entry_of(AuditEvent.objects.get(), Reader())
    assert (panel.moment, panel.brief[-5:]) == (dt.datetime(2026, 3, 10, 21), "21:00")
    # To the second, it has the offset: the log is in UTC.
    assert panel.time.endswith("12:00:00 +00:00")


@pytest.mark.parametrize("page", ["auditevent/", "auditevent/history/auth.user/3/", "notification/"])
def test_lists_say_in_which_time_zone_their_times_are(admin_client, settings, page):
    settings.TIME_ZONE = "Asia/Tokyo"
    make_event()
    address = f"/admin/django_signal_audit/{page}"
    assert "Times are in Asia/Tokyo" in admin_client.get(address).content.decode()
    # Without USE_TZ, the log has naive times in UTC.
    settings.USE_TZ = False
    assert "Times are in UTC" in admin_client.get(address).content.decode()


@pytest.mark.parametrize(
    "page",
    [
        "auditevent/",
        "auditevent/1234567/change/",
        "auditevent/1234567/revert/",
        "auditevent/dashboard/",
        "auditevent/history/auth.user/3/",
        "auditevent/history/auth.user/3/?older=1234567&newer=1234568",
        "auditevent/history/auth.user/3/?at=1234568",
        "auditevent/history/auth.user/3/restore/?version=1234567",
        "notification/",
        "notification/1234567/change/",
    ],
)
def test_primary_keys_in_forms_and_links_have_no_thousand_separators(admin_client, settings, page):
    settings.USE_THOUSAND_SEPARATOR = True
    for number in (7, 8):
        event = make_event(pk=1234560 + number, changes={"email": ["a", f"{number}"]})
    Notification.objects.create(pk=1234567, rule="r", channel="c", recipient="x", status="dead", event=event.uid)
    response = admin_client.get(f"/admin/django_signal_audit/{page}")
    assert response.status_code == 200
    assert "1,234,56" not in response.content.decode()


def test_versions_are_compared_by_their_keys_whatever_the_separator(admin_client, settings):
    settings.USE_THOUSAND_SEPARATOR = True
    for number in (7, 8):
        make_event(pk=1234560 + number, changes={"email": ["a", f"{number}"]})
    text = admin_client.get(history_url("admin", "auth.user", "3")).content.decode()
    assert re.findall(r'name="older" value="([^"]*)"', text) == ["1234568", "1234567"]
    assert set(re.findall(r'href="\?at=([^"]*)"', text)) == {"1234567", "1234568"}


def test_times_and_filters_are_typed_from_left_to_right_on_a_page_from_right_to_left(admin_client, settings):
    settings.LANGUAGE_CODE = "he"
    event = make_event(changes={"email": ["a", "b"]})
    history = history_url("admin", "auth.user", "3")
    for address in (LOG, history, f"{history}?at={event.pk}", f"{history}?older={event.pk}&newer=current"):
        text = admin_client.get(address).content.decode()
        times = re.findall(r'<input type="text"([^>]*) name="(?:at|older|newer|since|until)"', text)
        assert times, address
        assert all(' dir="ltr"' in attributes for attributes in times)
