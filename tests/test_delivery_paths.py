from __future__ import annotations

import datetime as dt

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_signal_audit import record
from django_signal_audit.checks import check_plugins, check_rules
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .app.models import Category, Person, Product
from .notices import CALLABLE, EMAIL, INBOX, make_event, make_notification, receiving
from .people import MAIL, OPEN, make_user, people_settings

pytestmark = pytest.mark.django_db
HERE = "tests.test_delivery_paths"


@pytest.fixture(autouse=True)
def messages(settings):
    settings.SIGNAL_AUDIT = people_settings(MAIL)
    with receiving() as messages:
        yield messages


def about(obj, **values):
    names = {"model": obj._meta.label_lower, "object_id": str(obj.pk), "object_repr": str(obj)}
    return make_event(**{"changes": {"name": ["a", "b"]}, **names, **values})


def digest(events, recipient, channel="mail"):
    return Notification.objects.create(
        rule="watch",
        channel=channel,
        recipient=recipient,
        data={"events": [str(event.uid) for event in events], "count": len(events)},
    )


def told(messages):
    return sorted((message.recipient, [event.object_repr for event in message.events]) for message in messages)


def everybody_active(event):
    return User.objects.filter(is_active=True)


def in_many_ways(event):
    return [User.objects.get(username="ann"), "desk@example.com", None, "ann@example.com"]


def the_owner_or_nobody(event):
    return Person.objects.get(pk=event.object_id).owner


def boom(event):
    raise RuntimeError("the directory is down")


class TestFields:
    @pytest.mark.parametrize("path", ["owner", "owner.email"])
    def test_a_path_from_the_object_leads_to_a_user_or_his_address(self, messages, path):
        ann = make_user("ann")
        row = make_notification(about(Person.objects.create(name="Bo", owner=ann)), "mail", recipient=path)
        assert deliver().sent == 1
        assert told(messages) == [("ann@example.com", ["Bo"])]
        row.refresh_from_db()
        assert (row.recipient, row.user, row.entry) == ("ann@example.com", str(ann.pk), path)

    def test_an_owner_who_left_or_may_not_see_it_gets_nothing_by_either(self, messages):
        event = about(Person.objects.create(name="Bo", owner=make_user("ann", is_active=False)))
        for path in ("owner", "owner.email"):
            make_notification(event, "mail", recipient=path)
        assert deliver().skipped == 2
        User.objects.update(is_active=True)
        for path in ("owner", "owner.email"):
            make_notification(event, "strict", recipient=path)
        assert deliver().skipped == 2
        assert messages == []

    def test_a_field_with_text_is_an_address(self, messages):
        product = Product.objects.create(name="orders@example.com")
        make_notification(about(product), "mail", recipient="name")
        assert deliver().sent == 1
        assert told(messages) == [("orders@example.com", ["orders@example.com"])]

    @pytest.mark.parametrize("text", ["superusers", "actor", "user:root", "group:staff", "name", "os.getcwd"])
    def test_what_users_typed_is_no_recipient_of_the_settings(self, messages, text):
        make_user("root", is_superuser=True)
        row = make_notification(about(Product.objects.create(name=text)), "boom", recipient="name")
        deliver()
        row.refresh_from_db()
        assert row.status == "failed"
        Notification.objects.update(channel="mail", available_at=row.created)
        assert deliver().sent == 1
        assert [message.recipient for message in messages] == [text]

    def test_all_of_a_relation_are_told_each_once(self, messages):
        ann, bob = make_user("ann"), make_user("bob")
        root = Person.objects.create(name="root")
        root.follows.add(*(Person.objects.create(owner=owner) for owner in (ann, bob, ann)))
        make_notification(about(root), "mail", recipient="follows.owner")
        assert deliver().sent == 2
        assert [recipient for recipient, _ in told(messages)] == ["ann@example.com", "bob@example.com"]

    def test_the_inbox_takes_a_user_or_his_key(self):
        ann = make_user("ann")
        person = Person.objects.create(owner=ann)
        for path in ("owner", "owner_id"):
            make_notification(about(person), "inbox", recipient=path)
        assert deliver().sent == 1 + (path == "owner_id")
        assert {row.recipient for row in Notification.objects.all()} == {str(ann.pk)}

    def test_nobody_at_the_end_is_skipped(self):
        row = make_notification(about(Person.objects.create()), "mail", recipient="owner.email")
        assert deliver().skipped == 1
        row.refresh_from_db()
        assert row.last_error == '"owner.email" resolves to nobody.'

    def test_the_owner_of_a_deleted_object_is_known_from_the_trail(self, messages):
        ann = make_user("ann")
        person = Person.objects.create(name="Bo", owner=ann)
        update = about(person)
        delete = about(person, event_type="delete", changes={"name": ["b", None], "owner": [ann.pk, None]})
        person.delete()
        make_notification(update, "mail", recipient="owner")
        make_notification(delete, "mail", recipient="owner.email")
        assert deliver().sent == 2
        assert {message.recipient for message in messages} == {"ann@example.com"}

    def test_each_owner_of_a_bulk_call_hears_of_his_own_objects(self, messages, django_assert_max_num_queries):
        ann, bob = make_user("ann"), make_user("bob")
        people = [Person.objects.create(name=f"no{n}", owner=ann if n % 3 else bob) for n in range(40)]
        deliver()  # the first one of a process asks which database this is
        row = digest([about(person) for person in people], "owner")
        with django_assert_max_num_queries(43):
            assert deliver().sent == 2
        assert told(messages) == [
            ("ann@example.com", [f"no{n}" for n in range(40) if n % 3]),
            ("bob@example.com", [f"no{n}" for n in range(40) if not n % 3]),
        ]
        row.refresh_from_db()
        assert row.data["count"] == len(row.data["events"]) == 14
        assert row.event is None

    def test_who_owns_one_object_of_a_bulk_call_gets_an_ordinary_message(self, messages):
        events = [about(Person.objects.create(name=name, owner=make_user(name))) for name in ("ann", "bob")]
        digest(events, "owner")
        assert deliver().sent == 2
        rows = Notification.objects.order_by("recipient")
        assert [row.event for row in rows] == [event.uid for event in events]
        assert messages[0].subject == "Person “ann”: Name changed from a to b"

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("owner.password", 'passes "password", which is private'),
            ("_state.db", None),
            ("owner._password", 'passes "_password", which is private'),
            ("owner.emial", "'User' object has no attribute 'emial'"),
            ("category", "leads to a Category, which is neither a user nor an address"),
        ],
    )
    def test_a_path_that_leads_nowhere_is_given_up(self, messages, path, reason):
        if path == "category":
            obj = Product.objects.create(category=Category.objects.create())
        else:
            obj = Person.objects.create(owner=make_user("ann"))
        row = make_notification(about(obj), "mail", recipient=path)
        deliver()
        row.refresh_from_db()
        if reason is None:  # no field, so it is a text like any other
            assert [message.recipient for message in messages] == [path]
        else:
            assert row.status == "dead"
            assert reason in row.last_error
            assert messages == []


class TestFunctions:
    def test_a_function_names_users(self, messages):
        make_user("ann")
        make_user("bob")
        make_user("gone", is_active=False)
        row = make_notification(channel="mail", recipient=f"{HERE}.everybody_active")
        assert deliver().sent == 2
        assert [recipient for recipient, _ in told(messages)] == ["ann@example.com", "bob@example.com"]
        row.refresh_from_db()
        assert row.entry == f"{HERE}.everybody_active"

    def test_or_addresses_or_both_and_each_is_told_once(self, messages):
        make_user("ann")
        make_notification(channel="mail", recipient=f"{HERE}.in_many_ways")
        assert deliver().sent == 2
        assert [recipient for recipient, _ in told(messages)] == ["ann@example.com", "desk@example.com"]

    def test_it_is_asked_for_each_event_of_a_bulk_call(self, messages):
        ann = make_user("ann")
        events = [about(Person.objects.create(name=f"no{n}", owner=ann if n else None)) for n in range(3)]
        digest(events, f"{HERE}.the_owner_or_nobody")
        assert deliver().sent == 1
        assert told(messages) == [("ann@example.com", ["no1", "no2"])]

    def test_one_that_raises_is_asked_again_later(self):
        row = make_notification(channel="mail", recipient=f"{HERE}.boom")
        assert deliver().failed == 1
        row.refresh_from_db()
        assert "the directory is down" in row.last_error
        assert row.recipient == f"{HERE}.boom"


class TestCheck:
    def problems(self, settings, to, **rule):
        rule = {"name": "watch", "model": "app.Person", "notify": [{"channel": "mail", "to": to}], **rule}
        channels = {"mail": {"BACKEND": EMAIL}, "inbox": {"BACKEND": INBOX}, "take": {"BACKEND": CALLABLE}}
        channels["take"]["OPTIONS"] = {"target": "tests.notices.take"}
        settings.SIGNAL_AUDIT = {"RULES": [rule], "CHANNELS": channels}
        found = [*check_rules(), *check_plugins()]
        assert all(item.id == "django_signal_audit.E027" for item in found), found
        return " ".join(f"{item.msg} {item.hint}" for item in found)

    @pytest.mark.parametrize(
        "to",
        [
            "a@example.com",
            "root",
            "actor",
            "group:staff",
            "user:ann",
            "owner",
            "owner.email",
            "follows.owner",
            f"{HERE}.boom",
        ],
    )
    def test_right_paths_are_no_mistake(self, settings, to):
        assert self.problems(settings, to) == ""

    @pytest.mark.parametrize(
        ("to", "expected"),
        [
            ("ownr.email", "Did you mean 'owner'?"),
            ("owner.emial", "Did you mean 'email'?"),
            ("owner.password", "passes 'password', which is private"),
            ("follows", "leads to app.Person"),
            (f"{HERE}.bom", "is neither"),
        ],
    )
    def test_wrong_paths_are_named(self, settings, to, expected):
        text = self.problems(settings, to)
        assert expected in text
        assert 'SIGNAL_AUDIT["RULES"][0]["notify"][0]["to"]' in text

    def test_one_of_the_models_of_a_rule_has_to_have_it(self, settings):
        assert self.problems(settings, "owner", model=["app.Product", "app.Person"]) == ""
        assert self.problems(settings, "owner.email", model="app.*") == ""
        assert self.problems(settings, "owner.email", model="app.Product") != ""

    def test_of_a_channel_that_takes_any_text_any_is_right(self, settings):
        assert self.problems(settings, "x", notify=[{"channel": "take", "to": "room.five"}]) == ""

    def test_a_rule_without_a_model_may_be_given_any_object(self, settings):
        assert self.problems(settings, "owner.email", model="", events=["exported"]) == ""


@pytest.mark.slow
def test_ten_thousand_recipients_cost_the_request_one_row(settings):
    User.objects.bulk_create(User(username=f"u{n}", is_superuser=True) for n in range(300))

    def count(to):
        rule = {"name": "watch", "events": ["thing_happened"], "notify": [{"channel": "inbox", "to": to}]}
        settings.SIGNAL_AUDIT = {
            "RULES": [rule],
            "CHANNELS": {"inbox": {"BACKEND": INBOX, "OPTIONS": OPEN}},
            "DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher",
        }
        with CaptureQueriesContext(connection) as queries:
            record("thing_happened")
        return len(queries)

    somebody = str(User.objects.all()[0].pk)
    count(somebody)
    one = count(somebody)
    assert count("superusers") == count(f"{HERE}.everybody_active") == one
    assert Notification.objects.count() == 4
    while deliver().attempted:
        continue
    assert Notification.objects.filter(status="sent").count() == 602


def test_each_owner_has_one_digest_of_his_own_objects(settings, messages):
    notify = [{"channel": "mail", "to": "owner", "digest": "10m"}]
    audit = settings.SIGNAL_AUDIT
    rule = {"name": "watch", "model": "app.Person", "events": ["create"], "notify": notify}
    settings.SIGNAL_AUDIT = {**audit, "RULES": [rule], "DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher"}
    ann, bob = make_user("ann"), make_user("bob")
    with time_machine.travel(dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC), tick=False) as clock:
        for number, owner in enumerate((ann, bob, ann)):
            Person.objects.create(name=f"no{number}", owner=owner)
        assert deliver().sent == 0
        clock.shift(601)
        assert deliver().sent == 2
    assert told(messages) == [("ann@example.com", ["no0", "no2"]), ("bob@example.com", ["no1"])]
