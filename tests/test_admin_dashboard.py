"""The dashboard of the audit log."""

from __future__ import annotations

import datetime as dt
import random
import re
from html import unescape
from html.parser import HTMLParser

import pytest
import time_machine
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_signal_audit.models import AuditEvent, Notification

from .app.models import Tag
from .model_admins import registered
from .plans import of_postgresql, of_sqlite
from .samples import HOSTILE, NOON, make_event

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")
PAGE = reverse("admin:django_signal_audit_auditevent_dashboard")
TABLE = AuditEvent._meta.db_table
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
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
    """Return the numbers of each table by its name, of each part of the chart, and of the tiles."""
    assert response.status_code == 200
    return {table.name: {row.label: row.value for row in table.rows} for table in response.context["tables"]}


def days_of(response):
    """Return how many events each day or hour of the chart has, by what it is called; none if it has none."""
    drawn = re.findall(r"<title>([^<]+?): ([\d,]+)(?: \([^)]*\))?</title>", text_of(response))
    return {unescape(label): int(count.replace(",", "")) for label, count in drawn if count != "0"}


def tiles(response):
    return {tile.name: (tile.value, tile.note) for tile in response.context["tiles"]}


def links(response):
    """Return the address of each row's list, by table and label."""
    return {(table.name, row.label): row.url for table in response.context["tables"] for row in table.rows}


def log_in(client, *codenames):
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)


def make_failure(channel="mail", status="dead", moment=NOON, **values):
    with time_machine.travel(moment, tick=False):
        return Notification.objects.create(rule="all", channel=channel, status=status, **values)


class TestNumbers:
    def test_by_day_in_the_current_time_zone(self, admin_client):
        make_event(recorded_at=MIDNIGHT - dt.timedelta(microseconds=1))
        for _ in range(2):
            make_event(recorded_at=MIDNIGHT)
        response = admin_client.get(PAGE)
        assert days_of(response) == {"March 9, 2026": 1, "March 10, 2026": 2}
        assert text_of(response).count("<title>") == 30 + 1
        assert "Feb. 12, 2026 to March 13, 2026" in text_of(response)

    def test_by_hour_of_the_last_24(self, admin_client):
        now = NOON + 3 * DAY
        for ago in (0, 1, 23, 24, 25):
            make_event(recorded_at=now - ago * HOUR)
        response = admin_client.get(PAGE, {"hours": "24"})
        assert days_of(response) == {
            "March 12, 2026 14:00": 1,
            "March 13, 2026 12:00": 1,
            "March 13, 2026 13:00": 1,
        }
        assert tiles(response)["events"] == ("3", "3.0 a day")
        assert "Busiest hour" in text_of(response)

    def test_by_kind_in_the_bars(self, admin_client):
        for event_type in ("create", "update", "m2m", "delete", "login", "asked", "baseline"):
            make_event(event_type=event_type)
        make_event(recorded_at=NOON - DAY)
        [text] = re.findall(r"<title>(March 10[^<]+)</title>", text_of(admin_client.get(PAGE)))
        assert text == "March 10, 2026: 7 (2 changed, 3 other, 1 created, 1 deleted)"

    def test_in_tiles(self, admin_client):
        for ago in (0, 0, 1):
            make_event(event_type="delete", recorded_at=NOON - ago * DAY)
        make_failure(status="dead")
        make_failure(status="failed")
        make_failure(status="sent")
        response = admin_client.get(PAGE)
        assert tiles(response) == {
            "events": ("3", "0.1 a day"),
            "busiest": ("March 10", "2 events"),
            "deletions": ("3", "View them"),
            "failed": ("2", "of 3 notifications"),
        }
        assert text_of(response).count("audit-alarm") == 1
        for tile in response.context["tiles"][1:3]:
            assert admin_client.get(tile.url).context["cl"].result_count == int(
                tile.note[0] if tile.note[0] == "2" else 3
            )

    def test_without_a_failure_nothing_is_alarming(self, admin_client):
        make_failure(status="sent")
        response = admin_client.get(PAGE)
        assert tiles(response)["failed"] == ("0", "of 1 notification")
        assert "audit-alarm" not in text_of(response)

    def test_by_object_the_most_changed_first_by_their_newest_name(self, admin_client):
        for name in ("ada", "ada lovelace"):
            make_event(object_repr=name)
        make_event(model="gone.thing", object_id="7", object_repr="")
        for event_type in ("viewed", "login"):
            make_event(event_type=event_type, object_id="9", object_repr="only seen")
        make_event(model="", object_id="")
        found = numbers(admin_client.get(PAGE))["objects"]
        assert list(found.items()) == [("ada lovelace", 2), ("7", 1)]

    def test_by_rule_for_each_that_matched(self, admin_client):
        make_event(rules=["all", "prices"])
        make_event(rules=["all"])
        make_event(rules=[])
        response = admin_client.get(PAGE)
        assert numbers(response)["rules"] == {"all": 2, "prices": 1}
        assert "counts for each of them" in text_of(response)

    def test_by_actor_with_the_newest_name(self, admin_client):
        for name in ("ada", "ada lovelace"):
            make_event(actor_id="7", actor_repr=name)
        make_event(actor_repr="import")
        make_event(actor_id="8")
        for _ in range(3):
            make_event()
        response = admin_client.get(PAGE)
        found = numbers(response)["users"]
        assert found == {"": 3, "ada lovelace": 2, "import": 1, "8": 1}
        assert next(iter(found)) == ""
        assert "<em>no actor</em>" in text_of(response)

    def test_by_channel(self, admin_client):
        make_failure("mail", "dead")
        for status in ("pending", "claimed", "sent", "skipped"):
            make_failure("hook", status)
        make_failure("hook", "dead", NOON - 90 * DAY)
        assert list(numbers(admin_client.get(PAGE))["channels"].items()) == [("hook", 4), ("mail", 1)]

    @pytest.mark.parametrize(("days", "count"), [("7", 1), ("30", 2), ("90", 3), ("", 2), ("8", 2), (HOSTILE, 2)])
    def test_of_the_chosen_period(self, admin_client, days, count):
        # Noon of the period's first day, and of the day before it.
        for ago in (6, 29, 89, 90):
            make_event(recorded_at=NOON + (3 - ago) * DAY)
        response = admin_client.get(PAGE, {"days": days})
        assert tiles(response)["events"][0] == str(count)
        assert sum(numbers(response)["users"].values()) == count
        chosen = days if days in ("7", "90") else "30"
        assert f'<a href="?days={chosen}" aria-current="page">{chosen} days</a>' in text_of(response)

    def test_of_an_empty_log(self, admin_client):
        response = admin_client.get(PAGE)
        assert set(map(str, numbers(response).values())) == {"{}"}
        assert text_of(response).count("None in this period.") == 4
        assert tiles(response)["busiest"][0] == "\N{EN DASH}"


class TestAnyPeriod:
    def test_both_ends_are_included(self, admin_client):
        for ago in range(5):
            make_event(recorded_at=NOON - ago * DAY)
        response = admin_client.get(PAGE, {"since": "2026-03-07", "until": "2026-03-09"})
        assert days_of(response) == {"March 7, 2026": 1, "March 8, 2026": 1, "March 9, 2026": 1}
        assert 'value="2026-03-07"' in text_of(response)
        assert days_of(admin_client.get(PAGE, {"until": "2026-03-07", "since": "2026-03-09"})) == days_of(response)

    def test_one_day_has_its_hours(self, admin_client):
        make_event(recorded_at=MIDNIGHT)
        make_event(recorded_at=MIDNIGHT + 23 * HOUR)
        response = admin_client.get(PAGE, {"since": "2026-03-10", "until": "2026-03-10"})
        assert days_of(response) == {"March 10, 2026 00:00": 1, "March 10, 2026 23:00": 1}

    def test_the_day_on_which_the_clock_is_put_back_has_25_hours(self, admin_client):
        response = admin_client.get(PAGE, {"since": "2025-10-26", "until": "2025-10-26"})
        assert text_of(response).count("<title>") == 25 + 1

    def test_many_years_have_bars_of_several_days(self, admin_client):
        make_event()
        make_event(recorded_at=NOON - 300 * DAY)
        response = admin_client.get(PAGE, {"since": "2024-01-01", "until": "2026-03-12"})
        assert sum(days_of(response).values()) == 2
        assert all("\N{EN DASH}" in label for label in days_of(response))
        assert text_of(response).count("<title>") <= 93
        for address in re.findall(r'<a href="([^"]+)" aria-label', text_of(response)):
            assert admin_client.get(unescape(address)).context["cl"].result_count == 1

    def test_one_day_with_all_events_is_a_sentence_and_a_link_to_its_hours(self, admin_client):
        for _ in range(3):
            make_event()
        text = text_of(admin_client.get(PAGE))
        assert "All 3 events are from March 10, 2026." in text
        assert '<svg class="audit-chart"' not in text
        [query] = re.findall(r'<a href="(\?since=[^"]+)">Show the hours', text)
        assert days_of(admin_client.get(PAGE + unescape(query))) == {"March 10, 2026 13:00": 3}

    @pytest.mark.parametrize(
        "query",
        [{"since": "yesterday"}, {"until": "2026-02-30"}, {"since": "0001-01-01", "until": "9999-12-31"},
         {"since": "9" * 5000}, {"since": "\x00"}, {"since": HOSTILE, "until": HOSTILE}],
        ids=lambda query: str(query)[:30],
    )  # fmt: skip
    def test_what_is_no_period_is_answered_with_the_usual_one(self, admin_client, query):
        make_event()
        response = admin_client.get(PAGE, query)
        assert tiles(response)["events"][0] == "1"


class TestTables:
    def fill(self):
        AuditEvent.objects.bulk_create(
            AuditEvent(
                event_type="update", source="orm", model="auth.user", object_id=str(number), recorded_at=NOON,
                actor_id=str(number), rules=[f"rule {number}"],
            )
            for number in (*range(15), 14)
        )  # fmt: skip

    def test_have_ten_rows_and_show_all_on_demand(self, admin_client):
        self.fill()
        response = admin_client.get(PAGE, {"days": "7"})
        assert [len(rows) for rows in numbers(response).values()] == [10, 10, 10, 0]
        assert next(iter(numbers(response)["users"].items())) == ("14", 2)
        more = re.findall(r'<a href="([^"]+)">Show all</a>', text_of(response))
        assert [unescape(address) for address in more] == [
            f"?days=7&all={name}#{name}" for name in ("users", "objects", "rules")
        ]
        everything = admin_client.get(PAGE + unescape(more[0]))
        assert [len(rows) for rows in numbers(everything).values()] == [15, 10, 10, 0]
        assert tiles(everything) == tiles(response)

    def test_have_a_bar_as_long_as_the_number_is_large(self, admin_client):
        for count, name in ((4, "a"), (1, "b")):
            for _ in range(count):
                make_event(actor_repr=name)
        text = text_of(admin_client.get(PAGE))
        assert text.count('audit-bar-part" width="100"') >= 1
        assert text.count('audit-bar-part" width="25"') == 1

    def test_say_where_they_end(self, admin_client, monkeypatch):
        monkeypatch.setattr("django_signal_audit.admin.dashboard.ALL_ROWS", 12)
        self.fill()
        response = admin_client.get(PAGE, {"all": "users"})
        assert len(numbers(response)["users"]) == 12
        assert "The 12 with the most." in text_of(response)


class TestLinks:
    def test_each_leads_to_the_list_of_just_what_was_counted(self, admin_client):
        for ago in range(3):
            make_event(recorded_at=MIDNIGHT - ago * DAY, rules=["all"], actor_id="7", actor_repr="ada")
        make_event(model="app.tag", rules=["tags", "all"], actor_repr="im&port", recorded_at=MIDNIGHT)
        # The day before the period, and an event of nobody and of no model.
        make_event(rules=["all", "tags"], actor_id="7", model="app.tag", recorded_at=MIDNIGHT - 30 * DAY)
        make_event(model="", object_id="", rules=["tags"])
        response = admin_client.get(PAGE)
        found = numbers(response)
        for (table, label), address in links(response).items():
            if table in ("users", "rules"):
                shown = admin_client.get(address).context["cl"].result_list
                assert len(shown) == found[table][label], address
        assert [admin_client.get(links(response)["objects", "ada"]).status_code] == [200]

    def test_each_bar_leads_to_the_list_of_its_day_or_hour(self, admin_client):
        for ago in (0, 1, 1, 26):
            make_event(recorded_at=NOON + 3 * DAY - ago * HOUR)
        for query in ({}, {"hours": "24"}):
            text = text_of(admin_client.get(PAGE, query))
            bars = re.findall(r'<a href="([^"]+)" aria-label="[^"]+: (\d+) ', text)
            assert len(bars) == 2
            for address, count in bars:
                assert admin_client.get(unescape(address)).context["cl"].result_count == int(count)

    def test_those_of_the_deliveries_lead_to_the_outbox(self, admin_client):
        make_failure("mail", "dead")
        make_failure("hook", "failed")
        response = admin_client.get(PAGE)
        for label in ("mail", "hook"):
            assert admin_client.get(links(response)["channels", label]).context["cl"].result_count == 1

    def test_the_list_leads_to_it(self, admin_client):
        assert f'href="{PAGE}"' in text_of(admin_client.get(LIST))
        assert f'<a href="{LIST}">' in text_of(admin_client.get(PAGE))


class HiddenRows(admin.ModelAdmin):
    """Shows people the rows with their name in it."""

    def get_queryset(self, request):
        return super().get_queryset(request).filter(name=request.user.username)


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
            make_event(model=model, rules=[f"rule of {model}"], actor_id=f"actor of {model}", object_repr=f"a {model}")
        response = client.get(PAGE)
        assert numbers(response) == {
            "users": {"actor of ": 1, "actor of auth.group": 1},
            "objects": {"a auth.group": 1},
            "rules": {"rule of ": 1, "rule of auth.group": 1},
        }
        assert tiles(response)["events"][0] == "2"
        assert "auth.user" not in text_of(response)

    def test_only_rows_that_the_modeladmin_shows(self, client, audit):
        audit()
        log_in(client, "view_auditevent", "view_tag")
        for name in ("viewer", "somebody else"):
            Tag.objects.create(name=name)
        with registered(Tag, HiddenRows):
            response = client.get(PAGE)
        assert numbers(response)["objects"] == {"viewer": 1}
        assert tiles(response)["events"][0] == "1"
        assert "somebody else" not in text_of(response)

    def test_who_may_view_no_events_model_sees_none(self, client):
        log_in(client, "view_auditevent")
        make_event()
        assert set(map(str, numbers(client.get(PAGE)).values())) == {"{}"}

    def test_the_deliveries_take_the_permission_to_view_notifications(self, client):
        make_failure("secret-channel")
        log_in(client, "view_auditevent")
        response = client.get(PAGE)
        assert "secret-channel" not in text_of(response)
        assert "failed" not in tiles(response)
        User.objects.get().user_permissions.add(Permission.objects.get(codename="view_notification"))
        assert "secret-channel" in text_of(client.get(PAGE))


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
        make_event(model=HOSTILE, rules=[HOSTILE], actor_id=HOSTILE, actor_repr=HOSTILE, object_repr=HOSTILE)
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

    def test_numbers_have_the_separators_of_the_language(self, admin_client):
        AuditEvent.objects.bulk_create(
            AuditEvent(event_type="login", source="signal", recorded_at=NOON, rules=["all"]) for _ in range(1234)
        )
        response = admin_client.get(PAGE)
        assert text_of(response).count("<td>1,234</td>") == 2
        assert tiles(response)["events"][0] == "1,234"

    def test_what_scrolls_sideways_can_be_scrolled_by_keyboard_and_has_a_name(self, admin_client):
        make_event(recorded_at=NOON - DAY)
        make_event()
        [box] = re.findall(r'<div class="audit-wide[^"]*"([^>]*)>', text_of(admin_client.get(PAGE)))
        assert ' tabindex="0"' in box
        assert ' role="region"' in box
        assert ' aria-labelledby="audit-time"' in box

    def test_the_events_a_day_are_rounded(self, admin_client):
        for _ in range(20):  # 2.86 a day
            make_event()
        assert tiles(admin_client.get(f"{PAGE}?days=7"))["events"] == ("20", "2.9 a day")

    def test_with_naive_times(self, admin_client, settings):
        settings.USE_TZ = False
        make_event(recorded_at=dt.datetime(2026, 3, 10, 23, 30))
        make_event(recorded_at=dt.datetime(2026, 3, 9, 23, 30))
        response = admin_client.get(PAGE)
        assert days_of(response) == {"March 9, 2026": 1, "March 10, 2026": 1}
        for address in re.findall(r'<a href="([^"]+)" aria-label', text_of(response)):
            assert admin_client.get(unescape(address)).context["cl"].result_count == 1


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
        with django_assert_max_num_queries(11):
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


class TestWhatIsKeptOfDaysThatAreOver:
    """Of a log with many events, what lies before today is counted once."""

    @pytest.fixture(autouse=True)
    def _kept(self, monkeypatch):
        cache.clear()
        monkeypatch.setattr("django_signal_audit.admin.statistics.KEPT", 12)
        yield
        cache.clear()

    @pytest.fixture
    def both(self, monkeypatch):
        """Return the tables with and without what is kept, which must not differ."""

        def read(client, **query):
            found = []
            for limit in (1, 1, 10**9):
                monkeypatch.setattr("django_signal_audit.admin.statistics.ROLL_UP_FROM", limit)
                found.append(numbers(client.get(PAGE, query)))
            assert found[0] == found[1] == found[2]
            return found[0]

        return read

    def fill(self, count=400, seed=3):
        chance = random.Random(seed)
        AuditEvent.objects.bulk_create(
            AuditEvent(
                event_type=chance.choice(["update", "create", "login"]), source="orm",
                model=chance.choice(["auth.user", "auth.group"]), object_id=str(int(40 * chance.random() ** 2)),
                actor_id=str(int(30 * chance.random() ** 2)),
                recorded_at=NOON + 3 * DAY - 9 * DAY * chance.random() ** 2,
            )
            for _ in range(count)
        )  # fmt: skip

    def test_the_tables_are_the_same(self, admin_client, both):
        for seed in range(3):
            self.fill(seed=seed)
            both(admin_client)
            both(admin_client, all="objects")
            both(admin_client, hours="24")
            both(admin_client, since="2026-03-06", until="2026-03-10")

    def test_of_days_that_are_over_nothing_is_grouped_a_second_time(self, admin_client, monkeypatch):
        monkeypatch.setattr("django_signal_audit.admin.statistics.ROLL_UP_FROM", 1)
        self.fill()
        admin_client.get(PAGE)
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(PAGE)
        grouping = [query["sql"] for query in queries if "GROUP BY" in query["sql"] and "object_id" in query["sql"]]
        midnight = "2026-03-12 23:00:00"
        assert grouping
        assert all(midnight in sql.replace("T", " ") for sql in grouping)

    def test_events_that_come_late_or_go_are_noticed(self, admin_client, both):
        self.fill()
        before = both(admin_client)
        for _ in range(200):
            make_event(object_id="late", object_repr="late", actor_id="late", actor_repr="late", recorded_at=NOON - DAY)
        after = both(admin_client)
        assert next(iter(after["objects"].items())) == ("late", 200)
        assert next(iter(after["users"].items())) == ("late", 200)
        AuditEvent.objects.filter(object_id="late").prune()
        assert both(admin_client)["objects"] == before["objects"]

    def test_what_today_has_made_large_is_found(self, admin_client, both):
        self.fill()
        for _ in range(300):
            make_event(object_id="new", object_repr="new", recorded_at=NOON + 3 * DAY - HOUR)
        make_event(object_id="39", object_repr="rare", recorded_at=NOON)
        for _ in range(299):
            make_event(object_id="39", object_repr="rare", recorded_at=NOON + 3 * DAY - HOUR)
        assert {"new", "rare"} <= set(both(admin_client)["objects"])

    def test_users_see_their_own(self, admin_client, client, both):
        self.fill()
        log_in(client, "view_auditevent", "view_group")
        everything, groups = both(admin_client), both(client)
        assert sum(groups["users"].values()) < sum(everything["users"].values())
        assert both(admin_client) == everything

    def test_a_cache_that_keeps_nothing_does_no_harm(self, admin_client, both, settings):
        settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
        self.fill()
        both(admin_client)
