from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, connections

from django_signal_audit.channels.callable import CallableChannel
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .notices import make_event, make_notification, receiving
from .people import MAIL, OPEN, make_user, people_settings

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def messages(settings):
    settings.SIGNAL_AUDIT = people_settings(f"{__name__}.Strict")
    with receiving() as messages:
        yield messages


class Strict(CallableChannel):
    needs_recipient = True


def told(messages):
    return sorted(message.recipient for message in messages)


def bulk(**values):
    """Make the row of a call that made several events."""
    return Notification.objects.create(rule="watch", channel="mail", **values)


def errors():
    return list(Notification.objects.filter(status="skipped").order_by("id").values_list("last_error", flat=True))


class TestSingle:
    def test_plain_text_goes_as_it_is(self, messages):
        make_notification(channel="mail", recipient="x@example.com")
        assert deliver().sent == 1
        assert told(messages) == ["x@example.com"]

    def test_the_actor_and_a_named_user(self, messages):
        ann, _bob = make_user("ann"), make_user("bob")
        event = make_event(actor_id=str(ann.pk))
        rows = [make_notification(event, "mail", recipient=spec) for spec in ("actor", "user:bob")]
        assert deliver().sent == 2
        assert told(messages) == ["ann@example.com", "bob@example.com"]
        first = Notification.objects.get(pk=rows[0].pk)
        assert (first.recipient, first.user, first.entry) == ("ann@example.com", str(ann.pk), "actor")
        assert first.message_id == rows[0].message_id == messages[0].id

    @pytest.mark.parametrize(
        ("spec", "actor_id", "reason"),
        [
            ("actor", "", 'The recipient is "actor", but the event has no actor.'),
            ("actor", "999999", 'There is no user "actor".'),
            ("actor", "nightly job", 'There is no user "actor".'),
            ("user:nobody", "", 'There is no user "user:nobody".'),
            ("user:gone", "", "The user gone is not active."),
            ("user:mute", "", 'The user mute has no address for the channel "mail".'),
        ],
    )
    def test_who_cannot_be_told_is_skipped_with_the_reason(self, messages, spec, actor_id, reason):
        make_user("gone", is_active=False)
        User.objects.create(username="mute")
        make_notification(make_event(actor_id=actor_id), "mail", recipient=spec)
        report = deliver()
        assert (report.skipped, report.sent) == (1, 0)
        assert errors()[0].startswith(reason)
        assert messages == []

    def test_nobody_named_is_a_mistake_where_somebody_must_be(self):
        row = make_notification(channel="strict")
        assert deliver().dead == 1
        assert 'Add "to" to the rule' in Notification.objects.get(pk=row.pk).last_error

    def test_a_row_of_a_channel_that_was_broken_goes_to_whom_it_names_once_it_is_mended(self, messages, settings):
        make_user("ann", is_superuser=True)
        make_user("bob", is_superuser=True)
        mended = {**settings.SIGNAL_AUDIT["CHANNELS"]}
        rules = [{"name": "watch", "events": ["thing_happened"], "notify": ["late"]}]
        make_notification(channel="late")
        settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "RULES": rules, "CHANNELS": {**mended, "late": {}}}
        deliver()
        assert Notification.objects.get().status == "failed"
        backend = MAIL
        options = {**OPEN, "target": "tests.notices.take", "to": ["superusers", "x@example.com"]}
        late = {"BACKEND": backend, "OPTIONS": options}
        settings.SIGNAL_AUDIT = {"RULES": rules, "CHANNELS": {**mended, "late": late}}
        row = Notification.objects.get()
        Notification.objects.update(available_at=row.created)
        assert deliver().sent == 3
        assert told(messages) == ["ann@example.com", "bob@example.com", "x@example.com"]


class TestSeveral:
    def test_superusers_and_groups_become_a_row_each(self, messages):
        staff = Group.objects.create(name="staff")
        for name in ("ann", "bob", "eve"):
            make_user(name).groups.add(staff)
        make_user("out")
        make_user("root", is_superuser=True)
        event = make_event()
        group_row = make_notification(event, "mail", recipient="group:staff")
        make_notification(event, "mail", recipient="superusers")
        assert deliver().sent == 4
        assert told(messages) == [f"{name}@example.com" for name in ("ann", "bob", "eve", "root")]
        rows = Notification.objects.order_by("id")
        assert {row.status for row in rows} == {"sent"}
        assert len({row.message_id for row in rows}) == 4
        assert Notification.objects.get(pk=group_row.pk).message_id == group_row.message_id
        assert {row.entry for row in rows} == {"group:staff", "superusers"}
        assert {row.event for row in rows} == {event.uid}

    def test_who_is_meant_twice_is_told_once(self, messages):
        staff = Group.objects.create(name="staff")
        ann = make_user("ann", is_superuser=True)
        ann.groups.add(staff)
        event = make_event(actor_id=str(ann.pk))
        for spec in ("superusers", "group:staff", "actor", "user:ann", "ann@example.com"):
            make_notification(event, "mail", recipient=spec)
        report = deliver()
        assert (report.sent, report.skipped) == (1, 4)
        assert all("gets another notification" in error for error in errors())

    def test_who_is_meant_twice_by_a_bulk_call_is_told_of_each_event_once(self, messages, caplog):
        staff = Group.objects.create(name="staff")
        ann = make_user("ann", is_superuser=True)
        for user in (ann, make_user("bob")):
            user.groups.add(staff)
        uids = [str(make_event().uid) for _ in range(3)]
        # One of them is ann's own, and she was told of it.
        bulk(recipient="ann@example.com", entry="owner", event=uids[1], status="sent")
        for spec in ("superusers", "group:staff", "user:ann"):
            bulk(recipient=spec, data={"events": uids, "count": 3})
        # Another call is another matter, also where the same rule notifies the same people.
        bulk(recipient="superusers", data={"events": [str(make_event().uid), str(make_event().uid)]})
        report = deliver()
        assert (report.sent, report.skipped) == (3, 1)
        assert told(messages) == ["ann@example.com", "ann@example.com", "bob@example.com"]
        of_ann = [str(event.uid) for message in messages for event in message.events if message.recipient[0] == "a"]
        assert len(of_ann) == len({*of_ann, uids[1]} - {uids[1]}) == 4, of_ann
        assert "gets another notification" in errors()[0]
        assert not caplog.records, "nothing is wrong with a rule that names a person twice"

    def test_the_inactive_are_no_members_any_more(self, messages):
        staff = Group.objects.create(name="staff")
        make_user("ann").groups.add(staff)
        make_user("gone", is_active=False).groups.add(staff)
        make_notification(channel="mail", recipient="group:staff")
        assert deliver().sent == 1
        assert Notification.objects.count() == 1

    def test_who_has_no_address_is_shown_and_the_others_are_told(self, messages):
        staff = Group.objects.create(name="staff")
        for name in ("mute", "dumb"):
            User.objects.create(username=name).groups.add(staff)
        make_user("zoe").groups.add(staff)
        make_notification(channel="mail", recipient="group:staff")
        assert deliver().sent == 1
        assert told(messages) == ["zoe@example.com"]
        skipped = Notification.objects.filter(status="skipped").order_by("id")
        assert [row.recipient for row in skipped] == ["user:mute", "user:dumb"]
        assert "has no address" in skipped[0].last_error
        User.objects.filter(username="mute").update(email="mute@example.com")
        skipped.retry()
        assert deliver().sent == 1
        assert told(messages) == ["mute@example.com", "zoe@example.com"]

    def test_if_nobody_can_be_told_the_rows_say_so(self):
        staff = Group.objects.create(name="staff")
        User.objects.create(username="mute").groups.add(staff)
        event = make_event()
        make_notification(event, "mail", recipient="group:staff")
        make_notification(event, "mail", recipient="group:empty")
        assert deliver().skipped == 2
        assert errors() == [
            'The user mute has no address for the channel "mail".',
            '"group:empty" matches no active user.',
        ]

    def test_many_users_cost_few_queries_and_are_all_told(self, messages, django_assert_max_num_queries):
        staff = Group.objects.create(name="staff")
        members = User.objects.bulk_create(
            User(username=f"u{number}", email=f"u{number}@example.com") for number in range(1200)
        )
        members = list(User.objects.all())
        User.groups.through.objects.bulk_create(User.groups.through(user=member, group=staff) for member in members)
        deliver()  # the first one of a process asks which database this is
        row = make_notification(channel="mail", recipient="group:staff")
        # Django 5.2 gives SQLite 999 parameters in one statement: 33 statements for 1200 rows.
        with django_assert_max_num_queries(60):
            assert deliver(limit=1).sent == 1
        assert Notification.objects.count() == 1200
        assert deliver(ids=[row.pk]).attempted == 0
        assert deliver().sent == 1199
        assert len(set(told(messages))) == 1200

    def test_the_rows_made_for_the_others_are_delivered_with_the_ids_asked_for(self, messages):
        for name in ("ann", "bob"):
            make_user(name, is_superuser=True)
        row = make_notification(channel="inbox", recipient="superusers")
        make_notification(channel="mail", recipient="somebody else's")
        assert deliver(ids=[row.pk]).sent == 2
        for found in User.objects.all():
            assert (
                Notification.objects.for_recipient(found).get().subject
                == "Product “Oil”: Price changed from 10.00 to 9.00"
            )

    def test_a_claim_lost_before_the_expansion_changes_nothing(self, monkeypatch):
        make_user("ann", is_superuser=True)
        make_user("bob", is_superuser=True)
        make_notification(channel="mail", recipient="superusers")

        def lose(notification, channel, targets):
            Notification.objects.update(lease_no=9)
            return real(notification, channel, targets)

        from django_signal_audit.delivery import fanout

        real = fanout.expand
        monkeypatch.setattr(fanout, "expand", lose)
        assert deliver().lost == 1
        assert [row.recipient for row in Notification.objects.all()] == ["superusers"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_bulk", [False, True], ids=["one event", "a bulk call"])
def test_two_workers_expanding_at_once_tell_nobody_twice(messages, is_bulk):
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("needs a database that locks rows")
    staff = Group.objects.create(name="staff")
    for number in range(30):
        make_user(f"u{number}", is_superuser=True).groups.add(staff)
    event = make_event()
    uids = [str(event.uid), str(make_event().uid)]
    for spec in ("superusers", "group:staff", "superusers", "group:staff"):
        if is_bulk:
            bulk(recipient=spec, data={"events": uids})
        else:
            make_notification(event, "mail", recipient=spec)

    def work(_):
        try:
            # One row at a time, so that each worker gets some of the four.
            while deliver(limit=1).attempted:
                continue
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(messages) == 30
    assert len(set(told(messages))) == 30
    assert Notification.objects.filter(status="sent").count() == 30
    assert Notification.objects.filter(status="skipped").count() == 3


class TestMeanwhile:
    def test_a_user_is_looked_up_again_on_every_attempt(self, messages):
        ann = make_user("ann")
        make_notification(channel="boom", recipient="user:ann")
        deliver()
        assert Notification.objects.get().status == "failed"
        row = Notification.objects.get()
        Notification.objects.update(channel="mail", available_at=row.created)
        User.objects.filter(pk=ann.pk).update(email="new@example.com")
        assert deliver().sent == 1
        assert told(messages) == ["new@example.com"]
        assert Notification.objects.get().recipient == "new@example.com"

    @pytest.mark.parametrize("change", ["deactivate", "delete"])
    def test_one_who_left_between_two_attempts_gets_nothing(self, messages, change):
        ann = make_user("ann")
        make_notification(channel="boom", recipient="user:ann")
        deliver()
        row = Notification.objects.get()
        Notification.objects.update(channel="mail", available_at=row.created)
        if change == "delete":
            ann.delete()
        else:
            User.objects.update(is_active=False)
        assert deliver().skipped == 1
        assert messages == []
