"""What changed, as people read it: names for keys, words in texts, keys in JSON."""

from __future__ import annotations

import re

import django
import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from django_signal_audit.admin.links import history_url
from django_signal_audit.events.values import mask
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.display import MAX_WORDS, mark_words, show_fields
from django_signal_audit.reports.formatter import Reader
from django_signal_audit.reports.relations import related_names
from tests.app.models import Category, Person, Product, Shelf, Tag, Thing

from .conftest import last
from .samples import HOSTILE, make_event

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")


def diff(event):
    """Return label, old and new of each line, members as lists of what went and came."""
    return [
        (line.label, [value.text for value in line.removed], [value.text for value in line.added])
        if line.is_members
        else (line.label, line.old.text, line.new.text)
        for line in show_fields(event, Reader(related_names([event])))
    ]


def state_of(response):
    """Return the values of a state by label."""
    return {row.lines[0].label: row.lines[0].old for row in response.context["rows"]}


class TestNames:
    def test_a_foreign_key_goes_by_name_and_a_deleted_one_is_said_to_be(self, audit):
        audit()
        fruit, toys = Category.objects.create(name="Fruit"), Category.objects.create(name="Toys")
        product = Product.objects.create(name="Oil", category=fruit)
        product.category = toys
        product.save(update_fields=["category"])
        event, key = last(), toys.pk
        assert diff(event) == [("Category", f"Fruit ({fruit.pk})", f"Toys ({key})")]
        toys.delete()
        assert diff(event)[0][2] == f"{key} (deleted)"

    def test_a_key_that_is_no_primary_key(self, audit):
        audit()
        shelf = Shelf.objects.create(code="attic")
        person = Person.objects.create(name="Ada")
        Thing.objects.create(name="Lamp", shelf=shelf, keeper=person)
        assert ("Shelf", "—", "attic") in diff(last())
        assert ("Keeper", "—", f"Ada ({person.pk})") in diff(last())

    def test_members_go_by_name(self, audit):
        audit()
        old, new = Tag.objects.create(name="old"), Tag.objects.create(name="new")
        product = Product.objects.create(name="Oil")
        product.tags.set([old])
        product.tags.set([new])
        assert diff(last()) == [("Tags", [f"old ({old.pk})"], [f"new ({new.pk})"])]

    @pytest.mark.skipif(django.VERSION < (6, 1), reason="each row asks for itself")
    def test_names_that_follow_a_foreign_key_cost_a_query_for_all(self, audit, monkeypatch):
        monkeypatch.setattr(Product, "__str__", lambda product: f"{product.name} of {product.category.name}")
        products = [
            Product.objects.create(name=name, category=Category.objects.create(name=f"{name}s")) for name in "abcdef"
        ]
        found = [make_event(model="app.picture", changes={"product": [None, product.pk]}) for product in products]
        with CaptureQueriesContext(connection) as queries:
            [names] = related_names(found).values()
        assert sorted(names.values()) == [f"{name} of {name}s" for name in "abcdef"]
        # The products, what the first of them follows, and the same of all others together.
        assert sum(query["sql"].startswith("SELECT") for query in queries) <= 3

    def test_a_masked_key_stays_masked(self):
        event = make_event(model="app.product", changes={"category": [None, mask("x", 3)]})
        assert diff(event) == [("Category", "—", "masked")]

    def test_keys_of_another_type_than_now(self):
        event = make_event(model="app.product", changes={"category": ["once a text", None]})
        assert diff(event) == [("Category", "once a text", "—")]

    def test_a_crowd_of_members_is_cut(self):
        event = make_event(changes={"groups": {"added": list(range(1000)), "removed": []}})
        [(_, _, added)] = diff(event)
        assert len(added) == 101
        assert added[-1] == "and 900 more"

    # Not a key that the user of the client may have: of a row that is there, the page asks more.
    @pytest.mark.parametrize("url", [LIST, history_url("admin", "auth.user", "300003")])
    def test_one_query_per_model_for_a_whole_page(self, admin_client, url):
        groups = [Group.objects.create(name=f"group {number}") for number in range(20)]
        for group in groups:
            make_event(object_id="300003", changes={"groups": {"added": [group.pk], "removed": []}})
        admin_client.get(url)
        with CaptureQueriesContext(connection) as queries:
            text = admin_client.get(url).content.decode()
        assert "group 19" in text
        assert sum("auth_group" in query["sql"] and "permission" not in query["sql"] for query in queries) == 1


class TestUnseen:
    """Who may not view a model reads the keys of its rows, and not what they are called."""

    @pytest.fixture
    def read(self, client, audit):
        """Return a function that tells what somebody with these permissions reads on every page of an event."""
        audit()
        fruit, tag = Category.objects.create(name="Fruit"), Tag.objects.create(name="on sale")
        product = Product.objects.create(name="Oil")
        product.tags.add(tag)
        product.category = fruit
        product.save(update_fields=["category"])
        user = User.objects.create_user("clerk", is_staff=True)
        client.force_login(user)
        pages = [LIST, history_url("admin", "app.product", str(product.pk))]
        for event in AuditEvent.objects.for_object(product):
            pages.append(reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,)))
        pages.append(reverse("admin:django_signal_audit_auditevent_revert", args=(last().pk,)))

        def text(*codenames):
            always = {"view_auditevent", "revert_auditevent", "change_product"}
            user.user_permissions.set(Permission.objects.filter(codename__in=always | set(codenames)))
            responses = [client.get(page) for page in pages]
            assert {response.status_code for response in responses} == {200}
            return "".join(response.content.decode() for response in responses)

        return text

    def test_of_either_model_or_both(self, read):
        text = read()
        assert "Fruit" not in text
        assert "on sale" not in text
        assert "Category" in text
        assert "Tags" in text
        text = read("view_category")
        assert "Fruit" in text
        assert "on sale" not in text
        assert "on sale" in read("view_tag")

    def test_in_a_state_too(self, read, client):
        product = Product.objects.get()
        page = history_url("admin", "app.product", str(product.pk)) + "?at=0s"
        read()
        shown = state_of(client.get(page))
        assert shown["Category"].text == str(product.category_id)
        assert shown["Tags"].text == str(product.tags.get().pk)
        read("view_category", "view_tag")
        shown = state_of(client.get(page))
        assert shown["Category"].text == f"Fruit ({product.category_id})"
        assert shown["Tags"].text == f"on sale ({product.tags.get().pk})"

    def test_nothing_is_asked_of_their_tables(self, read):
        with CaptureQueriesContext(connection) as queries:
            read()
        assert [query["sql"] for query in queries if "app_category" in query["sql"] or "app_tag" in query["sql"]] == []


class TestWords:
    def words(self, old, new):
        return [[part.text for part in side if part.is_changed] for side in mark_words(old, new)]

    def test_the_words_that_changed_are_marked(self):
        old, new = "The quick brown fox jumps.", "The quick red fox leaps high."
        assert self.words(old, new) == [["brown", "jumps"], ["red", "leaps high"]]
        for text, parts in zip((old, new), mark_words(old, new), strict=True):
            assert "".join(part.text for part in parts) == text

    def test_what_only_came_or_went(self):
        assert self.words("one two three four", "one three four") == [["two "], []]
        assert self.words("one three four", "one two three four five") == [[], ["two ", " five"]]

    @pytest.mark.parametrize(("old", "new"), [("a b", "a c"), ("one two three four", "five, six! seven?")])
    def test_short_and_unlike_texts_are_shown_whole(self, old, new):
        assert mark_words(old, new) == ((), ())

    def test_what_is_far_from_a_change_is_left_out(self):
        old = "word " * 1000 + "old" + " tail" * 1000
        before, after = mark_words(old, old.replace("old", "new"))
        assert [part.text for part in before if part.is_changed] == ["old"]
        assert sum(len(part.text) for part in after) < 700

    def test_long_texts_with_much_in_common(self):
        common, old, new = "same " * 2000, "a b " * MAX_WORDS, "c d " * MAX_WORDS
        before, _ = mark_words(common + old, common + new)
        assert [part.is_changed for part in before][:2] == [False, True]

    def test_the_page_marks_them(self, admin_client):
        event = make_event(changes={"first_name": ["to be or not to be", "to be or <b>to</b> be"]})
        url = reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,))
        text = admin_client.get(url).content.decode()
        assert "<del>" in text
        assert "<ins>" in text
        assert "&lt;b" in text
        assert not re.search(r"<b>", text)

    def test_only_texts_are_marked(self):
        moments = ["2026-01-01T00:00:00+00:00", "2026-01-01T00:00:01+00:00"]
        [line] = show_fields(make_event(changes={"last_login": moments}))
        assert (line.old_parts, line.new_parts) == ((), ())


class TestDocuments:
    def test_json_goes_by_key(self):
        changes = {
            "attributes": [{"a": 1, "size": {"w": 1, "h": 2}, "gone": 0}, {"a": 1, "size": {"w": 5, "h": 2}, "n": 0}]
        }
        assert diff(make_event(model="app.product", changes=changes)) == [
            ("Attributes.size.w", "1", "5"),
            ("Attributes.gone", "0", "∅"),
            ("Attributes.n", "∅", "0"),
        ]

    def test_a_truth_is_no_number(self):
        event = make_event(model="app.product", changes={"attributes": [{"a": 1}, {"a": True}]})
        assert diff(event) == [("Attributes.a", "1", "yes")]

    def test_what_was_no_object_is_shown_whole(self):
        event = make_event(model="app.product", changes={"attributes": [[1], {"a": True}]})
        assert [label for label, _, _ in diff(event)] == ["Attributes"]


@pytest.mark.parametrize("payload", [HOSTILE, "\"'><img src=x onerror=alert(1)>", "</del><script>alert(2)</script>"])
def test_hostile_names_words_and_keys_render_as_text(admin_client, audit, payload):
    audit({"name": "things", "model": ["auth.User"]})
    group = Group.objects.create(name=payload)
    text = f"one two three {payload} four five six"
    event = make_event(
        changes={
            "first_name": [text, f"one two {payload} three seven five six"],
            "last_name": [{payload: {payload: payload}, "b": 1}, {payload: {payload: [payload]}, payload * 2: payload}],
            "groups": {"added": [group.pk], "removed": [payload]},
        }
    )
    User.objects.filter(username="admin").update(first_name=payload)
    page = reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,))
    for url in (LIST, page, history_url("admin", "auth.user", "3")):
        shown = admin_client.get(url).content.decode()
        assert not re.search(r"<script>alert|<img src=x", shown), url
        assert "&lt;" in shown


def test_what_is_shown_names_no_row_of_another_database(audit):
    assert related_names([]) == {}
    assert related_names([AuditEvent(model="gone.thing", changes={"a": [1, 2]})]) == {}


@pytest.mark.parametrize(
    "values",
    [
        {"changes": {"email": ["x" * 100_000, "y" * 100_000]}},
        {"changes": {"email": ["a " * 50_000, "b " + "a " * 50_000 + "c"], "first_name": ["d " * 999, "d e " * 999]}},
        {"changes": {"email": [{"k": "v" * 100_000}, {"k": ["w"] * 20_000}]}},
        {"event_type": "exported", "data": {"sql": "s" * 100_000}},
        {"context": {"reason": "r" * 100_000, "request": {"method": "GET", "path": "/" + "p" * 100_000}}},
    ],
    ids=["text", "words", "json", "payload", "context"],
)  # fmt: skip
def test_a_list_has_a_part_of_a_long_value_and_the_page_of_the_event_all_of_it(admin_client, values):
    event = make_event(**values)
    for address in (LIST, history_url("admin", "auth.user", "3")):
        assert len(admin_client.get(address).content) < 40_000
    assert len(admin_client.get(f"{LIST}{event.pk}/change/").content) > 40_000
