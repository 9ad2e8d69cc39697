from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from django_signal_audit.admin import notifications
from django_signal_audit.delivery import rendering
from django_signal_audit.events.values import mask
from django_signal_audit.models import AuditEvent, Notification

from .notices import EMAIL, INBOX, audit_settings, make_event, make_notification, receiving
from .samples import NOON

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_notification_changelist")


def text_of(response):
    assert response.status_code == 200
    return response.content.decode()


def page_of(notification):
    return reverse("admin:django_signal_audit_notification_change", args=(notification.pk,))


def html_of(notification):
    return reverse("admin:django_signal_audit_notification_html", args=(notification.pk,))


def shown(client, query=""):
    return [row.pk for row in client.get(f"{LIST}?{query}").context["cl"].result_list]


def retry(client, *rows):
    return client.post(LIST, {"action": "retry", "_selected_action": [row.pk for row in rows]})


def _fail(*args):
    raise ValueError


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
            channel="team-mail", recipient="team@example.com", status="dead", attempts=3, last_error="no route <b>"
        )
        text = text_of(admin_client.get(LIST))
        for part in ("dead", "team-mail", "team@example.com", "watch", "3 attempts", "no route &lt;b&gt;"):
            assert part in text, part

    def test_a_row_says_what_it_tells_of(self, admin_client, django_assert_max_num_queries):
        first, second = make_event(object_repr="Oil <b>"), make_event(event_type="login", object_repr="ada")
        make_notification(first)
        Notification.objects.create(rule="a", channel="b", data={"events": [str(first.uid), str(second.uid)]})
        Notification.objects.create(rule="a", channel="b", event=uuid4())
        with django_assert_max_num_queries(9):
            text = text_of(admin_client.get(LIST))
        assert "Oil &lt;b&gt;" in text.replace("update Oil &lt;b&gt; and", "")
        assert "update Oil &lt;b&gt; and 1 more event" in text

    def test_users_are_named_as_far_as_the_viewer_may_know_them(self, client, clerk, settings):
        settings.SIGNAL_AUDIT = audit_settings(channels={"inbox": {"BACKEND": INBOX}})
        clerk.user_permissions.add(*Permission.objects.filter(codename="view_product"))
        users = [User.objects.create_user(f"user-{number}") for number in range(3)]
        for user in users:
            make_notification(channel="inbox", recipient=str(user.pk))
        make_notification(channel="inbox", recipient="no key")
        make_notification(channel="team-mail", recipient=str(users[0].pk))
        assert "user-0" not in text_of(client.get(LIST))
        clerk.user_permissions.add(Permission.objects.get(codename="view_user"))
        text = text_of(client.get(LIST))
        for user in users:
            assert text.count(f"<bdi>{user.username} ({user.pk})</bdi>") == 1
        assert "<bdi>no key</bdi>" in text
        assert f"<bdi>{users[0].pk}</bdi>" in text

    def test_a_row_has_the_subject_that_its_rule_gives_the_message(self, admin_client, settings):
        settings.SIGNAL_AUDIT = audit_settings(notify=["take"], subject="{{ object }} costs {{ new.price }}")
        make_notification(make_event(object_repr="Oil"))
        assert "Oil costs 9.00" in text_of(admin_client.get(LIST))

    def test_a_template_that_fails_leaves_a_row_readable(self, admin_client, settings, monkeypatch):
        settings.SIGNAL_AUDIT = audit_settings(notify=["take"], subject="{{ object.boom }}")
        monkeypatch.setattr(rendering, "render_template", _fail)
        make_notification(make_event(object_repr="Oil"))
        assert "update Oil" in text_of(admin_client.get(LIST))

    def test_who_may_not_see_a_field_does_not_read_the_subject_that_quotes_it(self, client, clerk, settings):
        settings.SIGNAL_AUDIT = audit_settings(notify=["take"], subject="{{ object }} costs {{ new.price }}")
        make_notification(make_event(object_repr="Oil"))
        text = text_of(client.get(LIST))
        assert "9.00" not in text
        assert "Oil" not in text

    def test_the_pages_lead_on_and_back_and_count_nothing(self, admin_client):
        rows = [make_notification() for _ in range(120)]
        keys = [row.pk for row in reversed(rows)]
        first = admin_client.get(LIST)
        assert [row.pk for row in first.context["cl"].result_list] == keys[:50]
        links = first.context["cl"].links
        assert links.keys() == {"older", "oldest"}
        second = admin_client.get(LIST + links["older"])
        assert [row.pk for row in second.context["cl"].result_list] == keys[50:100]
        last = admin_client.get(LIST + links["oldest"])
        assert [row.pk for row in last.context["cl"].result_list] == keys[70:]
        assert last.context["cl"].links.keys() == {"newest", "newer"}
        newer = admin_client.get(LIST + second.context["cl"].links["newer"])
        assert [row.pk for row in newer.context["cl"].result_list] == keys[:50]
        for page in ("older-x", "newer-" + "9" * 30, "older", "-3", "older-0"):
            assert shown(admin_client, f"p={page}") == keys[:50], page

    @pytest.mark.parametrize("count", [0, 1, 40])
    def test_a_time_finds_what_was_made_since(self, admin_client, count):
        with time_machine.travel(timezone.now() - timedelta(days=3), tick=False):
            old = [make_notification().pk for _ in range(count)]
        new = [make_notification().pk for _ in range(count)]
        assert shown(admin_client, "since=24h") == new[::-1]
        assert shown(admin_client, "since=7d") == (old + new)[:-51:-1]

    def test_a_time_that_is_none_is_said_and_nothing_is_found_or_retried(self, admin_client):
        row = make_notification(status="dead")
        text = text_of(admin_client.get(f"{LIST}?since=soon"))
        assert "isn&#x27;t a valid date" in text
        assert shown(admin_client, "since=soon") == []
        admin_client.post(f"{MATCHING}?since=soon")
        row.refresh_from_db()
        assert row.status == "dead"

    def test_the_search_knows_filters_and_says_which_it_does_not_know(self, admin_client):
        found = make_notification(channel="boom")
        make_notification(channel="take")
        assert shown(admin_client, "q=channel:boom") == [found.pk]
        assert shown(admin_client, "q=colour:red") == []
        assert "isn&#x27;t a search filter. Use rule:, channel:, status:." in text_of(
            admin_client.get(f"{LIST}?q=colour:red")
        )

    @pytest.mark.parametrize("term", ["x" * 10_000, ":", "rule:", "AND OR", "' OR 1=1 --", ".*(", "%"])
    def test_a_search_for_nonsense_finds_nothing_and_breaks_nothing(self, admin_client, term):
        make_notification()
        response = admin_client.get(LIST, {"q": term})
        assert response.status_code == 200
        assert response.context["cl"].result_list == []

    def test_an_object_is_found_by_the_beginning_of_its_name(self, admin_client, client, clerk):
        found = make_notification(make_event(object_repr="Oil of Norway"))
        make_notification(make_event(object_repr="Tea"))
        assert shown(client, "q=oil") == []
        client.logout()
        assert shown(admin_client, "q=oil") == [found.pk]

    def test_failures_are_counted_with_the_newest_error(self, admin_client, client, clerk):
        make_notification(status="failed", last_error="slow")
        make_notification(status="dead", channel="take", last_error="no mailbox")
        make_notification(status="dead", channel="take", last_error="no mailbox")
        text = " ".join(text_of(admin_client.get(LIST)).split())
        assert "dead: 2<" in text
        assert "failed: 1<" in text
        assert "Last error (<bdi>take</bdi>): <bdi>no mailbox</bdi>" in text
        assert "dead: 2<" not in text_of(admin_client.get(f"{LIST}?status=failed"))
        client.force_login(clerk)
        assert "no mailbox" not in text_of(client.get(LIST))

    def test_who_may_not_view_the_object_does_not_read_its_name(self, client, clerk):
        make_notification(make_event(object_repr="Oil"))
        assert "Oil" not in text_of(client.get(LIST))

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
        assert "no longer in the audit log" in text_of(admin_client.get(page_of(digest)))


class TestRetry:
    def test_what_failed_is_due_again_and_what_was_sent_is_left_alone(self, admin_client):
        rows = {
            status: make_notification(status=status, attempts=8) for status in ("failed", "dead", "skipped", "sent")
        }
        response = retry(admin_client, *rows.values())
        assert [str(message) for message in get_messages(response.wsgi_request)] == [
            "3 notifications are queued again."
        ]
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
        assert str(message).startswith("Nothing to retry")

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


MATCHING = reverse("admin:django_signal_audit_notification_retry_matching")


def retry_url(row):
    return reverse("admin:django_signal_audit_notification_retry", args=(row.pk,))


class TestRetryOne:
    def test_by_a_button_on_its_page(self, admin_client):
        row, other = make_notification(status="dead"), make_notification(status="dead")
        assert f'action="{retry_url(row)}"' in text_of(admin_client.get(page_of(row)))
        response = admin_client.post(retry_url(row))
        assert response.url == page_of(row)
        assert set(Notification.objects.filter(status="pending")) == {row}
        assert Notification.objects.get(pk=other.pk).status == "dead"

    @pytest.mark.parametrize("status", ["pending", "claimed", "sent"])
    def test_none_where_there_is_nothing_to_do(self, admin_client, status):
        row = make_notification(status=status)
        assert retry_url(row) not in text_of(admin_client.get(page_of(row)))
        admin_client.post(retry_url(row))
        assert Notification.objects.get().status == status

    def test_looking_changes_nothing_and_a_wrong_key_finds_nothing(self, admin_client):
        row = make_notification(status="dead")
        assert admin_client.get(retry_url(row)).status_code == 302
        assert Notification.objects.get().status == "dead"
        for key in (row.pk + 1, "x"):
            url = reverse("admin:django_signal_audit_notification_retry", args=(key,))
            assert admin_client.post(url).status_code == 404


class TestRetryMatching:
    def test_all_that_the_filter_matches_on_whatever_page_once_confirmed(self, admin_client):
        found = [make_notification(channel="boom", status="dead") for _ in range(53)]
        others = [make_notification(channel="boom", status="skipped"), make_notification(status="dead")]
        query = "status=dead&channel=boom"
        assert f'href="{MATCHING}?channel=boom&amp;status=dead"' in text_of(admin_client.get(f"{LIST}?{query}"))
        text = text_of(admin_client.get(f"{MATCHING}?{query}"))
        for part in ("<dd>dead</dd>", "<dd>boom</dd>", "<dd>53</dd>"):
            assert part in text, part
        assert not Notification.objects.filter(status="pending").exists()
        response = admin_client.post(f"{MATCHING}?{query}")
        assert response.url == f"{LIST}?channel=boom&status=dead"
        assert [str(message) for message in get_messages(response.wsgi_request)] == [
            "53 notifications are queued again."
        ]
        assert set(Notification.objects.filter(status="pending")) == set(found)
        assert {Notification.objects.get(pk=row.pk).status for row in others} == {"skipped", "dead"}

    def test_search_narrows_too_and_no_filter_means_all(self, admin_client):
        found = make_notification(recipient="a@example.com", status="dead")
        make_notification(recipient="b@example.com", status="dead")
        assert "<dd>a@example.com</dd>" in text_of(admin_client.get(f"{MATCHING}?q=a@example.com"))
        admin_client.post(f"{MATCHING}?q=a@example.com")
        assert Notification.objects.get(status="pending") == found
        assert "none: all notifications" in text_of(admin_client.get(MATCHING))
        admin_client.post(MATCHING)
        assert Notification.objects.filter(status="pending").count() == 2

    def test_no_more_than_so_many_at_once_the_oldest_first(self, admin_client, monkeypatch):
        monkeypatch.setattr(notifications, "MOST", 5)
        monkeypatch.setattr(notifications, "MOST", 5)
        monkeypatch.setattr(notifications, "CHUNK", 2)
        rows = [make_notification(status="dead") for _ in range(7)]
        assert "more than 5" in text_of(admin_client.get(MATCHING))
        response = admin_client.post(MATCHING)
        assert [str(message) for message in get_messages(response.wsgi_request)] == [
            "5 notifications are queued again.",
            "There are more: at most 5 are retried at once.",
        ]
        assert list(Notification.objects.filter(status="pending").order_by("pk")) == rows[:5]

    def test_nothing_to_do_offers_nothing(self, admin_client):
        make_notification(status="sent")
        text = text_of(admin_client.get(MATCHING))
        assert "Nothing to retry" in text
        assert 'type="submit" value="Yes' not in text

    def test_it_takes_the_permission_to_change(self, client, clerk):
        row = make_notification(status="dead")
        assert MATCHING not in text_of(client.get(LIST))
        for address in (MATCHING, retry_url(row)):
            assert client.get(address).status_code == client.post(address).status_code == 403
        assert Notification.objects.get().status == "dead"
        clerk.user_permissions.add(Permission.objects.get(codename="change_notification"))
        assert MATCHING in text_of(client.get(LIST))
        client.post(MATCHING)
        assert Notification.objects.get().status == "pending"

    def test_a_parameter_that_means_nothing_leads_back_to_the_list(self, admin_client):
        make_notification(status="dead")
        assert admin_client.post(f"{MATCHING}?recipient__x=1").url.startswith(LIST)
        assert Notification.objects.get().status == "dead"

    def test_nothing_counts_the_whole_table(self, admin_client, django_assert_max_num_queries):
        make_notification(status="dead")
        with django_assert_max_num_queries(10) as captured:
            admin_client.get(MATCHING)
        counts = [query["sql"] for query in captured.captured_queries if "COUNT(" in query["sql"]]
        assert all("LIMIT" in sql for sql in counts)


class TestPreview:
    def test_the_message_as_it_would_be_sent(self, admin_client, settings):
        settings.SIGNAL_AUDIT = audit_settings(
            notify=["take"], subject="{{ object }} costs {{ new.price }}", message="It was {{ old.price }} <b>"
        )
        text = text_of(admin_client.get(page_of(make_notification(status="failed"))))
        for part in ("preview, rendered now", "Oil costs 9.00", "It was 10.00 &lt;b&gt;"):
            assert part in text, part

    def test_the_source_of_a_mail_is_shown_and_not_run(self, admin_client, settings, monkeypatch):
        settings.SIGNAL_AUDIT = audit_settings(notify=["take"])
        hostile = SafeString("<script>alert(1)</script>")
        made = notifications.Preview(subject=hostile, body=hostile, html=hostile)
        monkeypatch.setattr(notifications, "preview", lambda *_: made)
        row = make_notification()
        text = text_of(admin_client.get(page_of(row)))
        assert hostile not in text
        assert (
            text.count("&lt;script&gt;alert(1)") == 5
        )  # the tab, the breadcrumbs, the headline, the subject, the text
        text = text_of(admin_client.get(f"{page_of(row)}?view=html"))
        assert "<iframe sandbox src=" in text
        response = admin_client.get(html_of(row))
        assert response["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        assert response["X-Frame-Options"] == "SAMEORIGIN"

    def test_the_html_is_for_who_may_view_what_it_tells_of(self, client, clerk, settings):
        settings.SIGNAL_AUDIT = audit_settings(
            {"mail": {"BACKEND": EMAIL}}, notify=["mail"], subject="costs {{ new.price }}"
        )
        row = make_notification(channel="mail", recipient="a@example.com")
        assert text_of(client.get(html_of(row))) == ""
        clerk.user_permissions.add(*Permission.objects.filter(codename="view_product", content_type__app_label="app"))
        assert "costs 9.00</h1>" in text_of(client.get(html_of(row)))
        client.logout()
        assert client.get(html_of(row)).status_code == 302

    def test_what_stays_here_is_shown_as_it_was_sent(self, admin_client):
        row = make_notification(channel="inbox", status="sent", data={"subject": "<i>Once", "body": "upon a time"})
        text = text_of(admin_client.get(page_of(row)))
        for part in ("as it was sent", "&lt;i&gt;Once", "upon a time"):
            assert part in text, part

    def test_masked_values_stay_masked(self, admin_client, settings):
        settings.SIGNAL_AUDIT = audit_settings(notify=["take"], subject="now {{ new.api_token }}")
        changes = {"api_token": [mask("app.product.api_token", "hunter1"), mask("app.product.api_token", "hunter2")]}
        row = make_notification(make_event(changes=changes))
        text = text_of(admin_client.get(page_of(row)))
        assert "now ********" in text
        assert "hmac-sha256" not in text
        assert "hunter" not in text

    def test_a_template_that_fails_is_said_to(self, admin_client, settings, monkeypatch):
        monkeypatch.setattr(AuditEvent, "audit_fails", property(lambda event: 1 / 0), raising=False)
        settings.SIGNAL_AUDIT = audit_settings(notify=["take"], subject="{{ event.audit_fails }}")
        text = text_of(admin_client.get(page_of(make_notification())))
        assert '<p class="errornote">The subject of rule &quot;watch&quot; cannot be rendered' in text

    def test_a_channel_that_is_gone_is_said_to_be(self, admin_client):
        text = text_of(admin_client.get(page_of(make_notification())))
        assert '<p class="errornote">' in text
        assert "has no &quot;take&quot;" in text

    def test_who_may_not_view_the_log_gets_no_link_into_it(self, client, clerk, settings):
        settings.SIGNAL_AUDIT = audit_settings()
        clerk.user_permissions.add(Permission.objects.get(codename="view_user"))
        event = make_event(model="auth.user", object_id="3", actor_repr="root", changes={"email": ["a@x", "b@x"]})
        page, into = page_of(make_notification(event=event)), reverse("admin:django_signal_audit_auditevent_changelist")
        text = text_of(client.get(page))
        assert "b@x" in text
        assert "root" in text
        assert into not in text
        clerk.user_permissions.add(Permission.objects.get(codename="view_auditevent"))
        text = text_of(client.get(page))
        assert f'href="{into}{event.pk}/change/"' in text

    def test_it_takes_the_permission_to_view_what_it_tells_of(self, client, clerk, settings):
        settings.SIGNAL_AUDIT = audit_settings(notify=["take"], subject="costs {{ new.price }}")
        row = make_notification()
        text = text_of(client.get(page_of(row)))
        assert "It describes objects that you may not view." in text
        assert "costs" not in text
        assert "Oil" not in text
        clerk.user_permissions.add(*Permission.objects.filter(codename="view_product", content_type__app_label="app"))
        assert "costs 9.00" in text_of(client.get(page_of(row)))

    def test_of_a_large_digest_the_first_events(self, admin_client, settings, django_assert_max_num_queries):
        settings.SIGNAL_AUDIT = audit_settings(notify=["take"])
        events = [make_event(object_repr=f"Oil {number}") for number in range(103)]
        digest = make_notification(events[0], data={"events": [str(event.uid) for event in events]})
        Notification.objects.filter(pk=digest.pk).update(event=None)
        with django_assert_max_num_queries(12):
            text = text_of(admin_client.get(page_of(digest)))
        assert "The first 100 of its 103 events." in text
        assert "Oil 99" in text
        assert "Oil 100" not in text


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
