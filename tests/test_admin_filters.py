from __future__ import annotations

import datetime as dt
import re
from unittest.mock import patch

import pytest
from django.urls import reverse
from django.utils import translation

from django_signal_audit.models.events import utc_now
from tests.app.models import Tag

from .samples import make_event

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")


def text_of(response):
    assert response.status_code == 200
    return response.content.decode()


def shown(client, query=""):
    """Return the primary keys in the list, in its order."""
    return [event.pk for event in client.get(f"{LIST}?{query}").context["cl"].result_list]


class TestFilters:
    RULES = [
        {"name": "users", "model": "auth.User", "events": ["update", "delete"]},
        {"name": "things", "model": "app.Tag", "events": ["create"]},
        {"name": "exports", "events": ["report_exported"]},
        {"name": "off", "model": "app.Product", "enabled": False},
    ]

    @pytest.fixture(autouse=True)
    def _rules(self, audit):
        audit(*self.RULES)

    def choices(self, client, title, query=""):
        [select] = [one for one in client.get(f"{LIST}?{query}").context["form"].selects() if one.label == title]
        return [value for value, _ in select.options if value]

    def test_choices_come_from_the_rules_and_not_from_the_table(self, admin_client):
        make_event(model="app.person", rules=["gone"], event_type="odd")
        assert self.choices(admin_client, "Model") == ["app.tag", "auth.user"]
        assert self.choices(admin_client, "Rule") == ["users", "things", "exports"]
        events = ["update", "delete", "create", "report_exported"]
        own = ["events_pruned", "auditing_suspended", "auditing_resumed", "events_exported"]
        assert self.choices(admin_client, "Event") == events + own
        assert self.choices(admin_client, "Level") == ["info", "warning", "critical"]

    def test_two_models_of_one_name_are_told_apart(self, admin_client, audit):
        audit({"name": "all", "model": ["auth.Group", "app.Tag"]})
        with patch.object(Tag._meta, "verbose_name", "group"):
            [select] = [s for s in admin_client.get(LIST).context["form"].selects() if s.name == "model"]
        assert [label for _, label in select.options] == [
            "Any",
            "Group (App)",
            "Group (Authentication and Authorization)",
        ]

    def test_a_value_from_elsewhere_narrows_and_is_seen(self, admin_client):
        old = make_event(model="gone.thing", rules=["gone"])
        make_event()
        assert shown(admin_client, "model=gone.thing") == [old.pk]
        assert "gone.thing" in self.choices(admin_client, "Model", "model=gone.thing")

    @pytest.mark.parametrize(
        "query",
        [
            "event_type=delete", "model=app.tag", "rule=things", "level=warning", "actor=7", "actor=root",
            "actor=%207%20", "event_type=delete&model=app.tag&rule=things&level=warning&actor=7", "q=8&actor=7",
        ],
    )  # fmt: skip
    def test_each_narrows_and_they_go_together(self, admin_client, query):
        found = make_event(
            event_type="delete", model="app.tag", object_id="8", rules=["users", "things"],
            level="warning", actor_id="7", actor_repr="root",
        )  # fmt: skip
        make_event(rules=["users"], actor_id="77")
        assert shown(admin_client, query) == [found.pk]

    def test_a_rule_is_matched_by_its_whole_name(self, admin_client):
        make_event(rules=["things2", 'x"things"'])
        assert shown(admin_client, "rule=things") == []

    @pytest.mark.parametrize("name", ["actor", "model", "rule", "event_type", "level", "since", "q"])
    def test_nothing_typed_in_breaks_the_page(self, admin_client, name):
        make_event()
        for value in ("%00", "%ED%A0%80", "%27%22%3Cscript%3Ealert", "9" * 5000):
            response = admin_client.get(f"{LIST}?{name}={value}", follow=True)
            assert "<script>alert" not in text_of(response), value


class TestPeriod:
    def at(self, **ago):
        return make_event(recorded_at=utc_now() - dt.timedelta(**ago))

    def test_the_usual_spans(self, admin_client):
        old, week, hour = self.at(days=40), self.at(days=6), self.at(minutes=30)
        assert shown(admin_client, "since=1h") == [hour.pk]
        assert shown(admin_client, "since=7d") == [hour.pk, week.pk]
        assert shown(admin_client, "until=30d") == [old.pk]

    def test_both_days_are_included_in_the_readers_zone(self, admin_client):
        days = [
            dt.datetime(2026, 3, 9, 22, 59, tzinfo=dt.UTC),
            dt.datetime(2026, 3, 9, 23, 0, tzinfo=dt.UTC),
            dt.datetime(2026, 3, 11, 22, 59, tzinfo=dt.UTC),
            dt.datetime(2026, 3, 11, 23, 0, tzinfo=dt.UTC),
        ]
        events = [make_event(recorded_at=day) for day in days]
        assert shown(admin_client, "since=2026-03-10&until=2026-03-11") == [events[2].pk, events[1].pk]

    def test_the_form_keeps_what_else_is_asked_for(self, admin_client):
        make_event()
        text = text_of(admin_client.get(f"{LIST}?model=auth.user&since=2026-03-01&q=3&p=1&actor=7&request=r"))
        [form] = re.findall(r'<form method="get" class="audit-search".*?</form>', text, re.DOTALL)
        for part in (
            '<input type="hidden" name="actor" value="7">',
            '<input type="hidden" name="request" value="r">',
            '<option value="auth.user" selected>',
            '<option value="range" selected>',
        ):
            assert part in form, part
        assert re.search('name="q" value="3"', form)
        assert re.search('name="since" value="2026-03-01"', form)
        assert 'name="p"' not in form

    @pytest.mark.parametrize("query", ["since=soon", "until=2026-02-30", "since=0001-01-01", "until=99999999d"])
    def test_nonsense_is_said_and_finds_nothing(self, admin_client, query):
        make_event()
        assert shown(admin_client, query) == []
        assert "a valid date" in text_of(admin_client.get(f"{LIST}?{query}"))

    @pytest.mark.parametrize(
        ("language", "query", "said"),
        [
            ("de", "since=bald", "&#x27;bald&#x27; ist kein gültiges Datum. Schreiben Sie 12h"),
            ("de", "until=2026-02-30", "Im Kalender steht kein solches Datum"),
            ("fr", "since=bient", "&#x27;bient&#x27; n\u2019est pas une date valide. Écrivez 12h"),
            ("fr", "until=2026-02-30", "n\u2019existent pas dans le calendrier"),
        ],
    )
    def test_nonsense_is_said_in_the_readers_language(self, admin_client, language, query, said):
        with translation.override(language):
            assert said in text_of(admin_client.get(f"{LIST}?{query}"))

    def test_the_last_day_there_is(self, admin_client):
        event = make_event()
        assert shown(admin_client, "until=9999-12-30") == [event.pk]
