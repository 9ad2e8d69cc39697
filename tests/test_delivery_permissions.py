from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType

from django_signal_audit.delivery.worker import deliver
from django_signal_audit.models import Notification

from .app.models import Person, Product, Tag
from .notices import INBOX, audit_settings, make_event, make_notification, receiving

pytestmark = pytest.mark.django_db

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
OWNERS = "tests.test_delivery_permissions.OwnersMayView"


class OwnersMayView:
    """A backend that knows permissions for single objects alone, as those of guardian and rules do."""

    def authenticate(self, request, **credentials):
        return None

    def get_user(self, user_id):
        return None

    def has_perm(self, user, permission, obj=None):
        return obj is not None and permission == "app.view_person" and obj.owner_id == user.pk


@pytest.fixture(autouse=True)
def messages(settings):
    settings.SIGNAL_AUDIT = audit_settings(
        {
            "inbox": {"BACKEND": INBOX},
            "open": {"BACKEND": INBOX, "OPTIONS": {"check_permission": False}},
        }
    )
    with receiving() as messages:
        yield messages


def user(name, *models, **values):
    found = User.objects.create(username=name, **values)
    for model in models:
        permit(found, model)
    return found


def permit(holder, model):
    permission, _ = Permission.objects.get_or_create(
        content_type=ContentType.objects.get_for_model(model),
        codename=f"view_{model._meta.model_name}",
        defaults={"name": "Can view it"},
    )
    (holder.permissions if isinstance(holder, Group) else holder.user_permissions).add(permission)


def send(recipient, event=None, channel="inbox"):
    row = make_notification(event, channel, recipient=recipient)
    deliver()
    row.refresh_from_db()
    return row


class TestModels:
    def test_who_may_view_the_model_gets_the_message(self):
        ann = user("ann", Product)
        assert send("user:ann").status == "sent"
        assert Notification.objects.for_recipient(ann).count() == 1

    def test_a_permission_of_the_group_does_as_well(self):
        staff = Group.objects.create(name="staff")
        permit(staff, Product)
        user("ann").groups.add(staff)
        assert send("group:staff").status == "sent"

    def test_who_lost_it_before_the_sending_gets_nothing(self):
        ann = user("ann", Product)
        row = make_notification(channel="inbox", recipient="user:ann")
        ann.user_permissions.clear()
        assert deliver().skipped == 1
        row.refresh_from_db()
        assert (row.status, row.last_error) == ("skipped", "The user ann may not view app.product.")
        assert row.body == ""

    def test_who_lost_it_between_two_attempts_gets_nothing(self, settings):
        channels = settings.SIGNAL_AUDIT["CHANNELS"]
        strict = {**channels["boom"]["OPTIONS"], "check_permission": True}
        settings.SIGNAL_AUDIT = audit_settings({"boom": {**channels["boom"], "OPTIONS": strict}})
        ann = user("ann", Product)
        row = make_notification(channel="boom", recipient="user:ann")
        deliver()
        row.refresh_from_db()
        assert row.status == "failed"
        ann.user_permissions.clear()
        Notification.objects.update(available_at=row.created)
        assert deliver().skipped == 1

    def test_of_a_group_those_who_may_are_told_and_the_others_are_shown(self):
        staff = Group.objects.create(name="staff")
        for name in ("ann", "bob", "eve"):
            user(name).groups.add(staff)
        bob = User.objects.get(username="bob")
        permit(bob, Product)
        row = send("group:staff")
        assert (row.status, row.recipient) == ("sent", str(bob.pk))
        skipped = Notification.objects.filter(status="skipped").order_by("last_error")
        assert [row.last_error for row in skipped] == [
            "The user ann may not view app.product.",
            "The user eve may not view app.product.",
        ]

    def test_if_nobody_of_a_group_may_nobody_is_told(self):
        staff = Group.objects.create(name="staff")
        for name in ("ann", "bob"):
            user(name).groups.add(staff)
        assert send("group:staff").status == "skipped"
        assert set(Notification.objects.values_list("status", flat=True)) == {"skipped"}

    def test_a_superuser_sees_all_unless_he_left(self):
        user("root", is_superuser=True)
        assert send("user:root").status == "sent"
        User.objects.update(is_active=False)
        row = send("user:root")
        assert (row.status, row.last_error) == ("skipped", "The user root is not active.")

    def test_an_event_about_no_object_is_for_everybody_it_is_sent_to(self):
        user("ann")
        event = make_event(event_type="login_failed", model="", object_id="", changes={})
        assert send("user:ann", event).status == "sent"

    def test_a_model_that_is_gone_is_seen_by_superusers(self):
        user("ann", Product)
        assert send("user:ann", make_event(model="old.thing")).last_error == "The user ann may not view old.thing."
        user("root", is_superuser=True)
        assert send("user:root", make_event(model="old.thing")).status == "sent"

    def test_a_model_that_nobody_can_be_permitted_to_view_is_open(self, monkeypatch):
        user("ann")
        monkeypatch.setattr(Product._meta, "default_permissions", ("add",))
        assert send("user:ann").status == "sent"

    def test_a_channel_may_leave_it_unchecked(self):
        user("ann")
        assert send("user:ann", channel="open").status == "sent"

    def test_of_a_digest_each_sees_what_he_may(self):
        user("ann", Tag)
        user("bob")
        events = [make_event(), make_event(model="app.tag", object_repr="hot", changes={"name": ["a", "b"]})]
        rows = [
            Notification.objects.create(
                rule="watch", channel="inbox", recipient=f"user:{name}", data={"events": [str(e.uid) for e in events]}
            )
            for name in ("ann", "bob")
        ]
        deliver()
        for row in rows:
            row.refresh_from_db()
        assert [row.status for row in rows] == ["sent", "skipped"]
        assert rows[0].subject == "Tag “hot”: Name changed from a to b"
        assert "Oil" not in rows[0].body


class TestObjects:
    @pytest.fixture(autouse=True)
    def _backends(self, settings):
        settings.AUTHENTICATION_BACKENDS = [MODEL_BACKEND, OWNERS]

    def event(self, person, **values):
        changes = {"name": ["a", "b"]}
        return make_event(**{"model": "app.person", "object_id": str(person.pk), "changes": changes, **values})

    def test_backends_are_asked_about_the_object(self):
        ann, _bob = user("ann"), user("bob")
        event = self.event(Person.objects.create(owner=ann))
        assert send("user:ann", event).status == "sent"
        assert send("user:bob", event).last_error == "The user bob may not view app.person."

    def test_about_the_object_as_it_is_now(self):
        ann, bob = user("ann"), user("bob")
        person = Person.objects.create(owner=ann)
        event = self.event(person)
        Person.objects.update(owner=bob)
        assert send("user:ann", event).status == "skipped"
        assert send("user:bob", event).status == "sent"

    def test_of_an_object_that_is_gone_they_are_asked_about_what_the_trail_has(self):
        ann, _bob = user("ann"), user("bob")
        person = Person.objects.create(owner=ann)
        update = self.event(person)
        self.event(person, event_type="delete", changes={"name": ["b", None], "owner": [ann.pk, None]})
        person.delete()
        assert send("user:ann", update).status == "sent"
        assert send("user:bob", update).status == "skipped"

    def test_of_a_digest_each_sees_his_own(self):
        ann, bob = user("ann"), user("bob")
        people = [Person.objects.create(owner=owner) for owner in (ann, bob, ann)]
        events = [self.event(person, object_repr=f"no. {number}") for number, person in enumerate(people)]
        row = Notification.objects.create(
            rule="watch", channel="inbox", recipient="user:ann", data={"events": [str(e.uid) for e in events]}
        )
        deliver()
        row.refresh_from_db()
        assert "no. 0" in row.body
        assert "no. 2" in row.body
        assert "no. 1" not in row.body


def test_permissions_cost_two_queries_per_user_and_none_per_message(django_assert_max_num_queries):
    user("ann", Product)
    rows = [make_notification(channel="inbox", recipient="user:ann") for _ in range(20)]
    assert deliver(limit=1).sent == 1
    Notification.objects.filter(pk__in=[row.pk for row in rows]).update(user=str(User.objects.get().pk))
    Notification.objects.filter(status="pending").update(recipient=str(User.objects.get().pk))
    # Four for each row, with the savepoint around its sending, and two for the user's permissions.
    with django_assert_max_num_queries(4 * 19 + 17):
        assert deliver().sent == 19
