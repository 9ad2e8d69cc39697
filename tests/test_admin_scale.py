"""The log is read by indexes alone: the work for a page does not grow with the log."""

from __future__ import annotations

import datetime as dt
import json
import re
import tracemalloc
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_signal_audit.admin.keyset import ALL_TIME, HistoryScan
from django_signal_audit.admin.links import history_url
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.functions import known_signatures
from tests.app.models import Product, Tag

from .plans import of_postgresql, of_sqlite
from .samples import NOON, make_event

pytestmark = [pytest.mark.slow, pytest.mark.django_db]

LIST = reverse("admin:django_signal_audit_auditevent_changelist")
TABLE = AuditEvent._meta.db_table
MODELS = ["auth.user", "auth.group", "app.tag", "shop.product"]


def fill(count):
    """Write a log with common and rare kinds of events, a minute apart, the rare ones long ago."""
    AuditEvent.objects.bulk_create(
        AuditEvent(
            event_type="update" if number % 5 else "delete",
            source="orm",
            model="app.place" if number < 3 else MODELS[number % 4],
            object_id=str(number % (count // 10)),
            object_repr=f"Thing {number % (count // 10)}",
            actor_id=str(number % 7),
            actor_repr=f"user {number % 7}",
            rules=["all", "rare"] if number < 3 else ["all"],
            level="critical" if number < 3 else "info",
            correlation_id=f"request-{number // 3}",
            recorded_at=NOON + dt.timedelta(minutes=number),
        )
        for number in range(count)
    )


MIDDLE = int(NOON.timestamp() + 60 * 300) * 1_000_000
OLDER = f"p=older-{MIDDLE}-999999999"
WORD = {
    "dsa_event_object", "dsa_event_actor", "dsa_event_actor_name", "dsa_event_object_name", "dsa_event_correlation"
}  # fmt: skip
NAMED = {"dsa_event_object", "dsa_event_object_name"}
OBJECTS = {"dsa_event_object_name"}
PAGES = {
    "newest": ("", {"dsa_event_recorded_at"}),
    "older": (OLDER, {"dsa_event_recorded_at"}),
    "newer": (f"p=newer-{MIDDLE}-0", {"dsa_event_recorded_at"}),
    "last": ("p=oldest", {"dsa_event_recorded_at"}),
    "a period": ("since=2026-03-10&until=2026-03-10", {"dsa_event_recorded_at"}),
    "an empty period": ("until=2026-03-01", {"dsa_event_recorded_at"}),
    "a common model": ("model=app.tag", {"dsa_event_signature"}),
    "a rare model": ("model=app.place", {"dsa_event_signature"}),
    "a common type": ("event_type=update", {"dsa_event_signature"}),
    "a rare level": ("level=critical", {"dsa_event_signature"}),
    "a rare rule": ("rule=rare", {"dsa_event_signature"}),
    # Which is a rule that all events have.
    "the last page of a rule": ("rule=all&p=oldest", {"dsa_event_recorded_at"}),
    "the last page of a type": ("event_type=delete&p=oldest", {"dsa_event_signature"}),
    "a model in a period": ("model=app.tag&since=2026-03-10&until=2026-03-10", {"dsa_event_signature"}),
    "four filters": ("model=app.tag&event_type=update&rule=all&level=info", {"dsa_event_signature"}),
    "an actor": ("actor=3", {"dsa_event_actor"}),
    "an actor by name": ("actor=user+3", {"dsa_event_actor", "dsa_event_actor_name"}),
    "an actor by an exact name": ("actor_name=user+3", {"dsa_event_actor_name"}),
    "an actor nobody knows": ("actor=99", {"dsa_event_actor", "dsa_event_actor_name"}),
    "nobody": ("actor=none", {"dsa_event_actor_name"}),
    "an actor in a period": (f"actor=3&until=2026-03-10&{OLDER}", {"dsa_event_actor"}),
    "a word that is a primary key": ("q=77", {"dsa_event_correlation", "dsa_event_object"}),
    "a word that is a request": ("q=request-9", {"dsa_event_correlation"}),
    "a word that is an actor's name": ("q=USER", WORD - {"dsa_event_object_name"}),
    "a word that is an object's name": ("q=Thing+7", WORD),
    "a word that is nothing": ("q=zebra", WORD),
    "a request": ("request=request-9", {"dsa_event_correlation"}),
    "an object by name": ("object=thing+7", {"dsa_event_object", "dsa_event_object_name"}),
    "an object by name in a period": ("object=thing+7&since=2026-03-10&until=2026-03-10", NAMED),
    "objects of too many names": ("object=t&p=oldest", {*NAMED, "dsa_event_recorded_at"}),
    "a field that nothing changed": ("field=price", {"dsa_event_recorded_at"}),
    "a reason that nobody gave": ("reason=none", {"dsa_event_recorded_at"}),
    "a rare level of a common model": ("level=critical&q=user+1", {*WORD, "dsa_event_signature"} - OBJECTS),
}
# Looking the kinds up takes this index in any case.
ANYWAY = {"dsa_event_signature"}


def statements(client, query, address):
    """Return the statements with which a page reads the log."""
    client.get(address)  # content types and the like are cached now
    with CaptureQueriesContext(connection) as queries:
        assert client.get(f"{address}?{query}").status_code == 200
    return [found["sql"] for found in queries if TABLE in found["sql"]]


@pytest.fixture
def read():
    """Return a function that tells how a page of the log is read, and how much work that is."""
    if connection.vendor not in ("postgresql", "sqlite"):
        pytest.skip("reads plans as PostgreSQL and SQLite print them")
    of = of_postgresql if connection.vendor == "postgresql" else of_sqlite

    def plans(client, query, address=LIST):
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {TABLE}")
            if connection.vendor == "postgresql":
                # A table that fits on a few pages is read as a whole, and rightly; here it stands for a long one.
                cursor.execute("SET LOCAL enable_seqscan = off")
        found = [of(sql) for sql in statements(client, query, address)]
        return set().union(*(indexes for indexes, _ in found)), sum(work for _, work in found)

    return plans


@pytest.fixture
def restricted(client):
    """Log in somebody who sees the events of a model that has few, long ago."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", "view_place"]))
    client.force_login(user)
    return client


class TestPlans:
    def test_each_page_has_its_index_and_costs_the_same_in_a_longer_log(self, admin_client, read, monkeypatch):
        # What no index answers is looked for in so many events, of a log that is shorter than theirs are.
        monkeypatch.setattr("django_signal_audit.admin.keyset.MOST_READ", 500)
        monkeypatch.setattr("django_signal_audit.admin.search.interpretation.NARROW", 100)
        fill(1200)
        small = {}
        for name, (query, expected) in PAGES.items():
            indexes, small[name] = read(admin_client, query)
            ours = {index for index in indexes if index.startswith("dsa_event")}
            assert expected <= ours <= expected | ANYWAY, name
        # prune() would leave an event of its own, which has no rule.
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {TABLE}")
        fill(3600)
        for name, (query, _) in PAGES.items():
            # An actor or an object has more events in a longer log, but a page shows 50 of them still.
            assert read(admin_client, query)[1] <= 1.3 * small[name] + 100, name

    def test_who_sees_little_costs_no_more(self, restricted, read):
        fill(3600)
        indexes, work = read(restricted, "")
        assert "dsa_event_signature" in indexes
        assert work < 3000
        assert len(restricted.get(LIST).context["cl"].result_list) == 3


class TestKinds:
    def test_every_kind_there_is_and_no_other(self):
        assert known_signatures("default") == {}
        make_event(rules=["a", "b"], level="warning")
        make_event(rules=["a", "b"], level="warning")
        make_event(rules=["b"], event_type="delete", model="")
        assert set(known_signatures("default").values()) == {
            ("update", "warning", "auth.user", ("a", "b")),
            ("delete", "info", "", ("b",)),
        }

    def test_what_is_recorded_has_its_kind(self, audit):
        audit({"name": "users", "model": "auth.User", "level": "critical"})
        User.objects.bulk_create([User(username="a"), User(username="b")])
        User.objects.create(username="c")
        assert set(known_signatures("default").values()) == {("create", "critical", "auth.user", ("users",))}

    def test_more_kinds_than_are_looked_up_one_by_one(self, admin_client, monkeypatch):
        monkeypatch.setattr("django_signal_audit.admin.search.interpretation.MAX_SIGNATURES", 1)
        events = [make_event(event_type=kind, level="warning") for kind in ("update", "delete")]
        make_event()
        found = admin_client.get(f"{LIST}?level=warning").context["cl"].result_list
        assert [event.pk for event in found] == [event.pk for event in events[::-1]]


class TestPages:
    """Links lead through the whole log, whatever is written meanwhile."""

    def follow(self, client, name, url=LIST):
        """Return the pages that the named link leads through, as lists of keys."""
        pages = []
        while True:
            response = client.get(url)
            pages.append([event.pk for event in response.context["cl"].result_list])
            link = re.search(rf'<a href="([^"]+)"[^>]*>{name}</a>', response.content.decode())
            if not link:
                return pages
            url = LIST + unescape(link[1])

    @pytest.mark.parametrize(
        "query",
        ["", "?event_type=update", "?actor=7", "?q=3&level=info&since=2026-01-01", "?q=3", "?q=AD", "?object=ad"],
    )
    def test_older_and_newer_and_both_ends(self, admin_client, query):
        events = [make_event(actor_id="7", rules=[str(number % 3)]).pk for number in range(120)][::-1]
        pages = [events[:50], events[50:100], events[100:]]
        assert self.follow(admin_client, "Older", LIST + query) == pages
        last = self.follow(admin_client, "Oldest", LIST + query)[-1]
        assert last == events[-50:]
        back = self.follow(admin_client, "Newer", f"{LIST}{query}{'&' if query else '?'}p=oldest")
        assert back == [events[70:], events[20:70], events[:50]]
        assert self.follow(admin_client, "Newest", f"{LIST}{query}{'&' if query else '?'}p=oldest")[-1] == events[:50]

    def test_what_is_written_meanwhile_moves_nothing(self, admin_client):
        events = [make_event().pk for _ in range(60)][::-1]
        text = admin_client.get(LIST).content.decode()
        make_event()
        older = LIST + unescape(re.search(r'<a href="([^"]+)"[^>]*>Older</a>', text)[1])
        assert [event.pk for event in admin_client.get(older).context["cl"].result_list] == events[50:]

    @pytest.mark.parametrize("page", ["2", "older", "older-1-", f"older-{'9' * 17}-1", "newer-1-1-1", "%00"])
    def test_an_address_that_names_no_page_is_the_first(self, admin_client, page):
        event = make_event()
        found = admin_client.get(f"{LIST}?p={page}").context["cl"].result_list
        assert [event.pk for event in found] == [event.pk]

    def test_past_the_end(self, admin_client):
        make_event()
        text = admin_client.get(f"{LIST}?p=older-1-1").content.decode()
        assert "No events here." in text
        assert re.search(r'<a href="\?">Newest</a>', text)

    def test_filters_begin_at_the_first_page(self, admin_client):
        for _ in range(60):
            make_event()
        specs = admin_client.get(f"{LIST}?{OLDER}").context["cl"]
        assert "p=" not in specs.get_query_string({"level": "info"})


class TestLives:
    """The history of an object whose life is long: no page of it reads more than that page."""

    PAGES = ["", f"p=older-{MIDDLE}-{{middle}}", f"p=newer-{MIDDLE}-{{middle}}", "p=oldest"]

    def live(self, count):
        """Write a long life among others."""
        AuditEvent.objects.bulk_create(
            AuditEvent(
                event_type="update",
                source="orm",
                model="app.tag",
                object_id=str(number % 3 * 7),
                changes={"name": [str(number), str(number + 1)]},
                recorded_at=NOON + dt.timedelta(minutes=number),
            )
            for number in range(count)
        )

    def test_each_page_has_its_index_and_costs_the_same_in_a_longer_life(self, admin_client, read, settings):
        settings.SIGNAL_AUDIT = {"RULES": [{"name": "tags", "model": "app.Tag"}]}
        Tag.objects.bulk_create([Tag(pk=7, name="long")])
        address = history_url("admin", "app.tag", "7")
        costs = []
        for count in (900, 3600):
            AuditEvent.objects.all().prune()
            self.live(count)
            middle = AuditEvent.objects.filter(object_id="7").order_by("id")[count // 6].pk
            pages = [page.format(middle=middle) for page in self.PAGES]
            found = [read(admin_client, page, address) for page in pages]
            assert {index for indexes, _ in found for index in indexes if index.startswith("dsa")} == {
                "dsa_event_object"
            }
            costs.append([work for _, work in found])
            shown = [admin_client.get(f"{address}?{page}").context["events"] for page in pages]
            assert [len(views) for views in shown] == [50] * 4
        for small, large in zip(*costs, strict=True):
            assert large <= 1.3 * small + 100

    def test_the_end_of_a_short_life_among_many_is_seen(self):
        if connection.vendor != "postgresql":
            pytest.skip("counts pages of PostgreSQL's index")
        AuditEvent.objects.bulk_create(
            AuditEvent(event_type="update", source="orm", model="app.tag", object_id=f"a{number}")
            for number in range(8000)
        )
        make_event(model="app.tag", object_id="b")
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {TABLE}")
        rows = HistoryScan(AuditEvent.objects.all(), "app.tag", "b").rows(ALL_TIME, is_older=True)[:50]
        found = rows.explain(analyze=True, buffers=True, format="json")
        plan = json.loads(found) if isinstance(found, str) else found
        assert plan[0]["Plan"]["Actual Rows"] == 1
        assert plan[0]["Plan"]["Shared Hit Blocks"] < 12

    def test_a_search_for_it_costs_the_same_in_a_longer_life(self, admin_client, read):
        costs = []
        for count in (900, 3600):
            AuditEvent.objects.all().prune()
            self.live(count)
            middle = AuditEvent.objects.filter(object_id="7").order_by("id")[count // 6].pk
            pages = [f"q=7&{page.format(middle=middle)}" for page in self.PAGES]
            costs.append([read(admin_client, page)[1] for page in pages])
            found = [
                [event.pk for event in admin_client.get(f"{LIST}?{page}").context["cl"].result_list] for page in pages
            ]
            assert [len(keys) for keys in found] == [50] * 4
            assert found == [sorted(keys, reverse=True) for keys in found]
        for small, large in zip(*costs, strict=True):
            assert large <= 1.3 * small + 100

    def test_a_search_finds_what_the_key_means_elsewhere_too(self, admin_client):
        own, acted = make_event(object_id="7"), make_event(object_id="8", actor_id="7")
        together, other = make_event(object_id="9", correlation_id="7"), make_event(object_id="10", model="gone.thing")
        found = admin_client.get(f"{LIST}?q=7").context["cl"].result_list
        assert [event.pk for event in found] == [together.pk]
        for reading, event in {"object-key": own, "actor-key": acted}.items():
            found = admin_client.get(f"{LIST}?q=7&as={reading}").context["cl"].result_list
            assert [one.pk for one in found] == [event.pk]
        found = admin_client.get(f"{LIST}?q=10").context["cl"].result_list
        assert [event.pk for event in found] == [other.pk]

    def test_what_stands_beside_it_costs_the_same_in_a_longer_log(self, admin_client, read, settings):
        settings.SIGNAL_AUDIT = {"RULES": [{"name": "all", "model": "app.*"}]}
        tag = Tag.objects.create(name="on sale")
        for number in range(3):
            Product.objects.create(name=f"{number}").tags.add(tag)
        address, costs = history_url("admin", "app.tag", str(tag.pk)), []
        for _ in range(2):
            AuditEvent.objects.bulk_create(
                AuditEvent(
                    event_type="update",
                    source="orm",
                    model="app.product",
                    object_id=str(Product.objects.earliest("pk").pk),
                    changes={"name": ["a", "b"]},
                    rules=["all"],
                )
                for _ in range(1500)
            )
            costs.append(read(admin_client, "tab=related", address))
        assert costs[1][1] <= 1.3 * costs[0][1] + 100


@pytest.mark.parametrize("page", ["", "field=name", "at={first}", "older={first}&newer={last}"])
def test_a_history_of_any_length_takes_the_same_memory(admin_client, settings, page):
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "tags", "model": "app.Tag"}]}
    Tag.objects.bulk_create([Tag(pk=7, name="long")])
    address, peaks, count = history_url("admin", "app.tag", "7"), [], 0
    for more in (3000, 6000):
        AuditEvent.objects.bulk_create(
            AuditEvent(
                event_type="update",
                source="orm",
                model="app.tag",
                object_id="7",
                rules=["tags"],
                changes={"name": [f"{number}", f"{number + 1}"]},
                recorded_at=NOON + dt.timedelta(minutes=number),
            )
            for number in range(count, count + more)
        )
        count += more
        keys = AuditEvent.objects.filter(object_id="7").order_by("id")
        asked = page.format(first=keys.first().pk, last=keys.last().pk)
        admin_client.get(f"{address}?{asked}")
        tracemalloc.start()
        assert admin_client.get(f"{address}?{asked}").status_code == 200
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 200_000
