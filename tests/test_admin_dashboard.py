"""The dashboard of the audit log."""

from __future__ import annotations

import datetime as dt
import re
import sys
from html import unescape
from html.parser import HTMLParser

import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_signal_audit.models import AuditEvent, Notification

from .plans import of_postgresql, of_sqlite
from .samples import HOSTILE, NOON, make_event

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")
PAGE = reverse("admin:django_signal_audit_auditevent_dashboard")
TABLE = AuditEvent._meta.db_table
DAY = dt.timedelta(days=1)
# The midnight between the days of NOON and of the day before it, in the zone of the tests.
MIDNIGHT = dt.datetime(2026, 3, 9, 23, 0, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _now():
    with time_machine.travel(NOON + 3 * DAY, tick=False):
        yield


def text_of(response):
    assert response.status_code == 200
    return response.content.decode()


def numbers(response):
    """Return the numbers of each panel, as the page has them for its tables."""
    assert response.status_code == 200
    return {panel.name: {row.label: row.value for row in panel.counted} for panel, _ in response.context["panels"]}


def links(response):
    """Return the address of each row's list, by panel and label."""
    return {
        (panel.name, row.label): row.url for panel, _ in response.context["panels"] for row in panel.counted if row.url
    }


def log_in(client, *codenames):
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)


def make_failure(channel="mail", status="dead", moment=NOON, **values):
    with time_machine.travel(moment, tick=False):
        return Notification.objects.create(rule="all", channel=channel, status=status, **values)


class TestScrolling:
    def test_what_scrolls_sideways_can_be_scrolled_by_keyboard_and_has_a_name_of_its_own(self, admin_client):
        make_event(actor_id="7")
        text = text_of(admin_client.get(PAGE))
        boxes = re.findall(r'<div class="audit-wide[^"]*"([^>]*)>', text)
        assert boxes
        assert all(' tabindex="0"' in box and ' role="region"' in box for box in boxes)
        names = [unescape(re.search(r'aria-label="([^"]+)"', box)[1]) for box in boxes]
        assert "Chart: Events by day" in names
        assert len(set(names)) == len(names)


class TestNumbers:
    def test_by_day_in_the_current_time_zone(self, admin_client):
        make_event(recorded_at=MIDNIGHT - dt.timedelta(microseconds=1))
        for _ in range(2):
            make_event(recorded_at=MIDNIGHT)
        response = admin_client.get(PAGE)
        assert numbers(response)["day"] == {"March 9, 2026": 1, "March 10, 2026": 2}
        [days] = [panel.rows for panel, _ in response.context["panels"] if panel.name == "day"]
        assert [row.label for row in (days[0], days[-1])] == ["Feb. 12, 2026", "March 13, 2026"]
        assert len(days) == 30

    def test_by_model_the_largest_first(self, admin_client):
        make_event(model="", object_id="")
        for _ in range(2):
            make_event(model="gone.thing")
        for event_type in ("create", "update", "delete"):
            make_event(event_type=event_type)
        found = numbers(admin_client.get(PAGE))["model"]
        assert list(found.items()) == [("auth.user", 3), ("gone.thing", 2), ("none", 1)]

    def test_by_rule_for_each_that_matched(self, admin_client):
        make_event(rules=["all", "prices"])
        make_event(rules=["all"])
        make_event(rules=[])
        assert numbers(admin_client.get(PAGE))["rule"] == {"all": 2, "prices": 1}

    def test_by_actor_with_the_newest_name(self, admin_client):
        for name in ("ada", "ada lovelace"):
            make_event(actor_id="7", actor_repr=name)
        make_event(actor_repr="import")
        make_event(actor_id="8")
        for _ in range(3):
            make_event()
        found = numbers(admin_client.get(PAGE))["actor"]
        assert found == {"none": 3, "ada lovelace": 2, "import": 1, "8": 1}
        assert next(iter(found)) == "none"

    def test_of_many_actors_the_busiest(self, admin_client):
        AuditEvent.objects.bulk_create(
            AuditEvent(event_type="login", source="signal", actor_id=str(number), recorded_at=NOON)
            for number in (*range(60), 59)
        )
        response = admin_client.get(PAGE)
        found = numbers(response)["actor"]
        assert len(found) == 50
        assert next(iter(found.items())) == ("59", 2)
        assert "The 50 with the most events." in text_of(response)

    @pytest.mark.parametrize(("days", "count"), [("7", 1), ("30", 2), ("90", 3), ("", 2), ("8", 2), (HOSTILE, 2)])
    def test_of_the_chosen_period(self, admin_client, days, count):
        # Noon of the period's first day, and of the day before it.
        for ago in (6, 29, 89, 90):
            make_event(recorded_at=NOON + (3 - ago) * DAY)
        response = admin_client.get(PAGE, {"days": days})
        found = numbers(response)
        assert found["model"] == {"auth.user": count}
        assert sum(found["day"].values()) == count
        assert sum(found["actor"].values()) == count
        chosen = days if days in ("7", "90") else "30"
        assert f'<a href="?days={chosen}" aria-current="page">{chosen} days</a>' in text_of(response)

    def test_of_an_empty_log(self, admin_client):
        response = admin_client.get(PAGE)
        assert set(map(str, numbers(response).values())) == {"{}"}
        assert text_of(response).count("None in this period.") == 5

    def test_of_what_failed_to_be_delivered(self, admin_client):
        make_failure("mail", "dead")
        for _ in range(2):
            make_failure("mail", "failed")
        make_failure("hook", "dead")
        make_failure("hook", "dead", NOON - 90 * DAY)
        for status in ("pending", "claimed", "sent", "skipped"):
            make_failure("mail", status)
        found = numbers(admin_client.get(PAGE))["delivery"]
        assert list(found.items()) == [("mail: failed", 2), ("hook: dead", 1), ("mail: dead", 1)]


class TestLinks:
    def test_each_leads_to_the_list_of_just_what_was_counted(self, admin_client):
        for ago in range(3):
            make_event(recorded_at=MIDNIGHT - ago * DAY, rules=["all"], actor_id="7", actor_repr="ada")
        make_event(model="app.tag", rules=["tags", "all"], actor_repr="im&port", recorded_at=MIDNIGHT)
        # The day before the period, and an event of nobody and of no model.
        make_event(rules=["all", "tags"], actor_id="7", model="app.tag", recorded_at=MIDNIGHT - 30 * DAY)
        make_event(model="", object_id="", rules=["tags"])
        response = admin_client.get(PAGE)
        addresses = links(response)
        assert len(addresses) == 3 + 2 + 2 + 2
        found = numbers(response)
        for (panel, label), address in addresses.items():
            shown = admin_client.get(address).context["cl"].result_list
            assert len(shown) == found[panel][label], address

    def test_those_of_the_deliveries_lead_to_the_outbox(self, admin_client):
        make_failure("mail", "dead")
        make_failure("hook", "failed")
        make_failure("hook", "dead")
        addresses = links(admin_client.get(PAGE))
        assert len(addresses) == 3
        for address in addresses.values():
            assert admin_client.get(address).context["cl"].result_count == 1

    def test_each_mark_has_the_link_and_number_of_its_row(self, admin_client):
        make_event(rules=["all"], actor_id="7", actor_repr="ada")
        make_failure()
        response = admin_client.get(PAGE)
        text = text_of(response)
        drawn = re.findall(r'<a href="([^"]+)"><title>([^<]+): 1</title>', text)
        assert {(unescape(label), unescape(address)) for address, label in drawn} == {
            (label, address) for (_, label), address in links(response).items()
        }
        assert text.count("audit-chart") == 5
        # A day without events is drawn, and leads nowhere.
        assert text.count(": 0</title>") == 29

    def test_the_list_leads_to_it(self, admin_client):
        assert f'<a href="{PAGE}">Dashboard</a>' in text_of(admin_client.get(LIST))
        assert f'<a href="{LIST}">' in text_of(admin_client.get(PAGE))


class TestPermissions:
    def test_nobody_without_the_permission_to_view_events(self, client):
        log_in(client, "view_notification", "view_user")
        assert client.get(PAGE).status_code == 403

    def test_who_is_not_staff_is_sent_to_the_login(self, client):
        client.force_login(User.objects.create_user("somebody"))
        assert client.get(PAGE).status_code == 302

    def test_only_events_of_models_the_user_may_view(self, client):
        log_in(client, "view_auditevent", "view_group")
        for model in ("auth.user", "auth.group", "gone.thing", ""):
            make_event(model=model, rules=[f"rule of {model}"], actor_id=f"actor of {model}")
        response = client.get(PAGE)
        assert numbers(response) == {
            "day": {"March 10, 2026": 2},
            "model": {"auth.group": 1, "none": 1},
            "actor": {"actor of ": 1, "actor of auth.group": 1},
            "rule": {"rule of ": 1, "rule of auth.group": 1},
        }
        assert "auth.user" not in text_of(response)

    def test_who_may_view_no_events_model_sees_none(self, client):
        log_in(client, "view_auditevent")
        make_event()
        assert set(map(str, numbers(client.get(PAGE)).values())) == {"{}"}

    def test_the_deliveries_take_the_permission_to_view_notifications(self, client):
        make_failure("secret-channel")
        log_in(client, "view_auditevent")
        assert "secret-channel" not in text_of(client.get(PAGE))
        User.objects.get().user_permissions.add(Permission.objects.get(codename="view_notification"))
        assert "secret-channel: dead" in text_of(client.get(PAGE))


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, source):
        super().__init__()
        self.found = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


class TestPage:
    def test_hostile_names_are_text(self, admin_client):
        make_event(model=HOSTILE, rules=[HOSTILE], actor_id=HOSTILE, actor_repr=HOSTILE)
        make_failure(HOSTILE)
        text = text_of(admin_client.get(PAGE))
        assert "<script>alert" not in text
        assert text.count("&lt;script&gt;alert") >= 8
        assert "\x1b" not in text
        assert "\u202e" not in text

    def test_nothing_in_it_needs_more_than_a_strict_policy_allows(self, admin_client):
        make_event(rules=["all"], actor_id="7")
        for tag, attributes in Elements(text_of(admin_client.get(PAGE))).found:
            assert tag != "style"
            assert tag != "script" or attributes.get("src")
            assert "style" not in attributes, (tag, attributes)
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)

    def test_the_numbers_stand_beside_each_chart(self, admin_client):
        AuditEvent.objects.bulk_create(
            AuditEvent(event_type="login", source="signal", recorded_at=NOON, rules=["all"]) for _ in range(1234)
        )
        text = text_of(admin_client.get(PAGE))
        assert text.count("<details>") == 4
        assert text.count('<td class="audit-number">1,234</td>') == 4

    def test_without_pygal_there_are_the_tables_alone(self, admin_client, monkeypatch):
        monkeypatch.delitem(sys.modules, "django_signal_audit.reports.charts", raising=False)
        monkeypatch.setitem(sys.modules, "pygal", None)
        make_event(rules=["all"])
        response = admin_client.get(PAGE)
        text = text_of(response)
        assert "audit-chart" not in text
        assert "Charts need pygal" in text
        assert "pip install 'django-signal-audit[charts]'" in text
        assert text.count("<details open>") == 4
        assert numbers(response)["rule"] == {"all": 1}

    def test_with_naive_times(self, admin_client, settings):
        settings.USE_TZ = False
        make_event(recorded_at=dt.datetime(2026, 3, 10, 23, 30))
        assert numbers(admin_client.get(PAGE))["day"] == {"March 10, 2026": 1}


class TestScale:
    def fill(self, count, end):
        """Write so many events of several kinds, a minute apart, the last at ``end``."""
        AuditEvent.objects.bulk_create(
            AuditEvent(
                event_type="update" if number % 5 else "delete",
                source="orm",
                model=("auth.user", "auth.group")[number % 2],
                actor_id=str(number % 7),
                rules=["all"],
                recorded_at=end - dt.timedelta(minutes=number),
            )
            for number in range(count)
        )

    def test_the_queries_do_not_grow_with_what_there_is(self, admin_client, django_assert_max_num_queries):
        self.fill(300, NOON)
        admin_client.get(PAGE)
        with django_assert_max_num_queries(10):
            admin_client.get(PAGE)

    @pytest.mark.parametrize("codenames", [(), ("view_auditevent", "view_user")])
    def test_older_events_are_not_read(self, client, admin_client, codenames):
        if connection.vendor not in ("postgresql", "sqlite"):
            pytest.skip("reads plans as PostgreSQL and SQLite print them")
        if codenames:
            log_in(client, *codenames)
        else:
            client = admin_client
        self.fill(300, NOON)
        indexes, few = self.read(client)
        # PostgreSQL may as well take the whole period by time and leave out what is not to be seen, one event of two.
        assert indexes & {"dsa_event_signature", "dsa_event_recorded_at"}
        self.fill(3000, NOON - 100 * DAY)
        _, work = self.read(client)
        assert work < few * 2.5, "older events are ten times as many"

    def read(self, client):
        """Return the indexes by which the page reads the log, and how much work that is."""
        of = of_postgresql if connection.vendor == "postgresql" else of_sqlite
        client.get(PAGE)  # content types and the like are cached now
        with CaptureQueriesContext(connection) as queries:
            client.get(PAGE)
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {TABLE}")
            if connection.vendor == "postgresql":
                # A table that fits on a few pages is read as a whole, and rightly; here it stands for a long one.
                cursor.execute("SET LOCAL enable_seqscan = off")
        found = [of(query["sql"]) for query in queries if TABLE in query["sql"]]
        return set().union(*(indexes for indexes, _ in found)), sum(work for _, work in found)
