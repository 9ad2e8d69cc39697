from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.urls import reverse

from django_signal_audit.models import Notification

from .notices import audit_settings, make_event, make_notification, receiving
from .samples import NOON

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_notification_changelist")


def text_of(response):
    assert response.status_code == 200
    return response.content.decode()


def page_of(notification):
    return reverse("admin:django_signal_audit_notification_change", args=(notification.pk,))


def shown(client, query=""):
    return [row.pk for row in client.get(f"{LIST}?{query}").context["cl"].result_list]


def retry(client, *rows):
    return client.post(LIST, {"action": "retry", "_selected_action": [row.pk for row in rows]})


@pytest.fixture
def clerk(client):
    """Log in somebody who may view notifications, and return the user."""
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_notification"))
    client.force_login(user)
    return user


class TestList:
    def test_a_row_says_how_far_it_came_and_what_went_wrong(self, admin_client):
        make_notification(
            channel="team-mail", recipient="team@example.com", status="failed", attempts=3, last_error="no route <b>"
        )
        text = text_of(admin_client.get(LIST))
        for part in ("failed", "team-mail", "team@example.com", "watch", "3 attempts", "no route &lt;b&gt;"):
            assert part in text, part

    def test_filters_offer_what_the_settings_name(self, admin_client, settings):
        settings.SIGNAL_AUDIT = audit_settings(notify=["take"])
        found = make_notification(channel="boom", status="dead")
        make_notification(channel="take", rule="other")
        specs = {str(spec.title): spec for spec in admin_client.get(LIST).context["cl"].filter_specs}
        assert [value for value, _ in specs["channel"].lookup_choices] == [
            "take",
            "take_async",
            "boom",
            "later",
            "never",
        ]
        assert [value for value, _ in specs["rule"].lookup_choices] == ["watch"]
        assert [value for value, _ in specs["status"].lookup_choices] == [
            "pending", "claimed", "sent", "failed", "dead", "skipped",
        ]  # fmt: skip
        for query in ("channel=boom", "status=dead", "rule=watch", "channel=boom&status=dead&rule=watch"):
            assert shown(admin_client, query) == [found.pk], query

    def test_search_by_recipient_or_event(self, admin_client):
        found = make_notification(recipient="a@example.com")
        make_notification(recipient="b@example.com")
        for term in ("a@example.com", str(found.event)):
            assert shown(admin_client, f"q={term}") == [found.pk]
        assert shown(admin_client, "q=example") == []

    def test_a_row_says_when_it_was_sent_or_will_be_tried(self, admin_client):
        row = make_notification(status="sent", sent_at=NOON)
        assert "13:00:00" in text_of(admin_client.get(f"{LIST}?status=sent"))
        Notification.objects.filter(pk=row.pk).update(status="failed", sent_at=None, available_at=NOON)
        assert "13:00:00" in text_of(admin_client.get(f"{LIST}?status=failed"))
        Notification.objects.filter(pk=row.pk).update(status="dead")
        assert "13:00:00" not in text_of(admin_client.get(f"{LIST}?status=dead"))


class TestPage:
    def test_the_message_and_its_event(self, admin_client):
        row = make_notification(status="dead", last_error="boom <b>", attempts=8)
        text = text_of(admin_client.get(page_of(row)))
        for part in ("dead", "boom &lt;b&gt;", row.message_id, "Oil", "10.00", "9.00"):
            assert part in text, part
        assert 'name="_save"' not in text

    def test_a_digest_shows_its_events_and_pruned_ones_are_said_to_be_gone(self, admin_client):
        events = [make_event(object_repr=name) for name in ("Oil", "Tea")]
        digest = make_notification(event=events[0], data={"events": [str(event.uid) for event in events]})
        Notification.objects.filter(pk=digest.pk).update(event=None)
        text = text_of(admin_client.get(page_of(digest)))
        assert "Oil" in text
        assert "Tea" in text
        type(events[0]).objects.prune()
        assert "no longer in the log" in text_of(admin_client.get(page_of(digest)))


class TestRetry:
    def test_what_failed_is_due_again_and_what_was_sent_is_left_alone(self, admin_client):
        rows = {
            status: make_notification(status=status, attempts=8) for status in ("failed", "dead", "skipped", "sent")
        }
        response = retry(admin_client, *rows.values())
        assert [str(message) for message in get_messages(response.wsgi_request)] == ["3 messages are due again."]
        after = {status: Notification.objects.get(pk=row.pk) for status, row in rows.items()}
        assert {status: row.status for status, row in after.items()} == {
            "failed": "pending", "dead": "pending", "skipped": "pending", "sent": "sent",
        }  # fmt: skip
        assert after["dead"].attempts == 0
        assert after["sent"].attempts == 8

    def test_only_what_is_selected(self, admin_client):
        selected, other = make_notification(status="dead"), make_notification(status="dead")
        retry(admin_client, selected)
        selected.refresh_from_db()
        other.refresh_from_db()
        assert (selected.status, other.status) == ("pending", "dead")

    def test_nothing_to_do_is_said(self, admin_client):
        response = retry(admin_client, make_notification(status="sent"))
        [message] = get_messages(response.wsgi_request)
        assert str(message).startswith("Nothing to send again")

    def test_it_is_delivered_at_once_where_the_dispatcher_does_so(
        self, admin_client, settings, django_capture_on_commit_callbacks
    ):
        settings.SIGNAL_AUDIT = audit_settings(notify=["take"])
        row = make_notification(status="dead", last_error="no route")
        with receiving() as received:
            with django_capture_on_commit_callbacks(execute=True):
                retry(admin_client, row)
            assert [message.id for message in received] == [row.message_id]
        row.refresh_from_db()
        assert row.status == "sent"

    def test_it_takes_the_permission_to_change(self, client, clerk):
        row = make_notification(status="dead")
        assert 'value="retry"' not in text_of(client.get(LIST))
        retry(client, row)
        row.refresh_from_db()
        assert row.status == "dead"
        clerk.user_permissions.add(Permission.objects.get(codename="change_notification"))
        assert 'value="retry"' in text_of(client.get(LIST))
        retry(client, row)
        row.refresh_from_db()
        assert row.status == "pending"


class TestReadOnly:
    def test_nobody_adds_changes_or_deletes(self, admin_client):
        row = make_notification()
        assert admin_client.get(reverse("admin:django_signal_audit_notification_add")).status_code == 403
        delete = reverse("admin:django_signal_audit_notification_delete", args=(row.pk,))
        assert admin_client.post(delete, {"post": "yes"}).status_code == 403
        assert admin_client.post(page_of(row), {"status": "sent"}).status_code == 403
        admin_client.post(LIST, {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
        assert Notification.objects.get().status == "pending"

    def test_viewing_needs_the_permission(self, client):
        row = make_notification()
        client.force_login(User.objects.create_user("nobody", is_staff=True))
        for url in (LIST, page_of(row)):
            assert client.get(url).status_code == 403, url
