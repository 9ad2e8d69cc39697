from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import strip_tags

import django_signal_audit
from django_signal_audit.admin.links import history_url
from django_signal_audit.events.values import mask
from django_signal_audit.models import AuditEvent, Notification

from .samples import HOSTILE, make_event

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")
MARKUP = re.compile(r"<script>alert|<img src=x")


def page_of(event):
    return reverse("admin:django_signal_audit_auditevent_change", args=(event.pk,))


def text_of(response):
    assert response.status_code == 200
    return response.content.decode()


def shown(client, query=""):
    """Return the primary keys in the list, in its order."""
    return [event.pk for event in client.get(f"{LIST}?{query}").context["cl"].result_list]


@pytest.fixture
def viewer(client):
    """Log in somebody who may view events and users and nothing else."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", "view_user"]))
    client.force_login(user)
    return client


class TestList:
    def test_a_row_says_what_happened_to_what_by_whom_and_why(self, admin_client):
        make_event(
            event_type="update", changes={"email": ["a@x", "b@x"]}, actor_id="7", actor_repr="root",
            rules=["users", "mails"], level="critical", object_repr="ada",
        )  # fmt: skip
        text = text_of(admin_client.get(LIST))
        for part in ("Tuesday, March 10, 2026", "13:00", "changed", "critical", "ada", "User", "root"):
            assert part in text, part
        assert "Email address a@x → b@x" in " ".join(strip_tags(text).split())
        assert (
            f'href="{reverse("admin:django_signal_audit_auditevent_object_history", args=("auth.user", "3"))}"' in text
        )
        assert f'href="{LIST}?actor=7"' in text

    def test_an_object_of_no_model_has_no_history(self, admin_client):
        event = make_event(model="", object_id="5", object_repr="five")
        for url in (LIST, page_of(event)):
            text = text_of(admin_client.get(url))
            assert "five" in text
            assert "/history/" not in text

    def test_an_event_of_no_object_shows_what_it_has(self, admin_client):
        make_event(event_type="login_failed", model="", object_id="", object_repr="", data={"username": "mallory"})
        text = text_of(admin_client.get(LIST))
        assert "username mallory" in " ".join(strip_tags(text).split())
        assert "/history/" not in text

    def test_the_newest_comes_first_whatever_the_address_asks_for(self, admin_client):
        first, second = make_event(), make_event()
        assert shown(admin_client) == [second.pk, first.pk]
        assert shown(admin_client, "o=1") == [second.pk, first.pk]

    def test_nothing_is_counted(self, admin_client):
        for _ in range(3):
            make_event()
        admin_client.get(LIST)  # content types and the like are cached now
        with CaptureQueriesContext(connection) as queries:
            text = text_of(admin_client.get(LIST))
        ours = [query["sql"] for query in queries if "django_signal_audit_auditevent" in query["sql"]]
        assert len(ours) == 2
        assert not any("COUNT(" in sql or "DISTINCT" in sql for sql in ours)
        assert "3 results" not in text


class TestSearch:
    def test_keys_are_exact(self, admin_client):
        found = make_event(
            model="app.product", object_id="a b/c", actor_id="7", actor_repr="root", correlation_id="0190-abc"
        )
        make_event(object_id="a b", actor_id="77")
        for term in ("a b/c", "7", "0190-abc", str(found.uid), f" {found.uid} ", found.uid.hex):
            assert shown(admin_client, f"q={term}") == [found.pk], term
        for term in ("oot", "0190", "A B/C2", "no-uid"):
            assert shown(admin_client, f"q={term}") == [], term


class TestPage:
    def test_all_there_is_to_know(self, admin_client):
        event = make_event(
            changes={
                "email": ["a@x", ""],
                "is_staff": [False, True],
                "password": [mask("auth.user.password", "old"), mask("auth.user.password", "new")],
                "groups": {"added": [3, 5], "removed": [1]},
                "bio": [None, {"$digest": "sha256:" + "ab" * 32, "length": 70000}],
            },
            context={"reason": "asked by phone", "request": {"ip": "192.0.2.7"}},
            actor_id="7",
            actor_repr="root",
            correlation_id="0190-abc",
            rules=["users"],
        )
        Notification.objects.create(
            event=event.uid, rule="users", channel="team-mail", status="dead", last_error="boom"
        )
        text = text_of(admin_client.get(page_of(event)))
        for part in (
            "Email address", "a@x", "empty", "Staff status", "no", "yes", "masked", "\N{MINUS SIGN} <bdi>1",
            "+ <bdi>3", "+ <bdi>5",
            "sha256:abababababab… (70000 bytes)", "asked by phone", "request.ip", "192.0.2.7", "root", "users",
            "March 10, 2026 13:00:00 +01:00", str(event.uid), "team-mail", "boom", f"{LIST}?request=0190-abc",
        ):  # fmt: skip
            assert part in text, part
        assert "hmac-sha256" not in text

    def test_a_custom_event_shows_its_data(self, admin_client):
        event = make_event(event_type="report_exported", model="", object_id="", data={"rows": {"total": 1200}})
        text = text_of(admin_client.get(page_of(event)))
        assert "rows.total" in text
        assert "1200" in text

    def test_notifications_are_for_whoever_may_view_them(self, viewer):
        event = make_event()
        Notification.objects.create(event=event.uid, rule="users", channel="team-mail")
        assert "team-mail" not in text_of(viewer.get(page_of(event)))

    def test_one_that_is_not_there(self, admin_client):
        url = reverse("admin:django_signal_audit_auditevent_change", args=(4711,))
        assert admin_client.get(url).status_code == 302


class TestReadOnly:
    def test_nobody_adds_changes_or_deletes(self, admin_client):
        event = make_event()
        assert admin_client.get(reverse("admin:django_signal_audit_auditevent_add")).status_code == 403
        delete = reverse("admin:django_signal_audit_auditevent_delete", args=(event.pk,))
        assert admin_client.post(delete, {"post": "yes"}).status_code == 403
        assert admin_client.post(page_of(event), {"level": "info"}).status_code == 403
        action = {"action": "delete_selected", "_selected_action": event.pk, "post": "yes"}
        admin_client.post(LIST, action)
        assert AuditEvent.objects.get() == event

    def test_no_action_and_no_form_is_offered(self, admin_client):
        event = make_event()
        assert 'name="action"' not in text_of(admin_client.get(LIST))
        text = text_of(admin_client.get(page_of(event)))
        assert 'name="_save"' not in text
        assert "deletelink" not in text

    def test_viewing_needs_the_permission(self, client):
        event = make_event()
        client.force_login(User.objects.create_user("clerk", is_staff=True))
        history = reverse("admin:django_signal_audit_auditevent_object_history", args=("auth.user", "3"))
        for url in (LIST, page_of(event), history):
            assert client.get(url).status_code == 403, url
        client.logout()
        for url in (LIST, page_of(event), history):
            assert client.get(url).status_code == 302, url

    def test_viewing_needs_no_more_than_that_and_to_view_the_model(self, viewer):
        event = make_event()
        assert shown(viewer) == [event.pk]
        assert viewer.get(page_of(event)).status_code == 200


class TestVisibility:
    """The events of a model are for those who may view its rows."""

    @pytest.fixture
    def seen(self):
        return [make_event(), make_event(model="", object_id="", event_type="login_failed")]

    @pytest.fixture
    def hidden(self):
        return [make_event(model="auth.group", actor_id="7", correlation_id="0190"), make_event(model="gone.thing")]

    @pytest.mark.parametrize("query", ["", "q=3", "actor=7", "q=7", "q=0190", "model=auth.group", "event_type=update"])
    def test_the_list_has_no_event_that_the_user_may_not_view(self, viewer, seen, hidden, query):
        assert not {event.pk for event in hidden} & set(shown(viewer, query))

    def test_the_list_has_the_others(self, viewer, seen, hidden):
        assert shown(viewer) == [event.pk for event in seen[::-1]]
        assert shown(viewer, f"q={hidden[0].uid}") == []

    def test_a_page_full_of_hidden_ones_hides_nothing(self, viewer, seen):
        for _ in range(60):
            make_event(model="auth.group")
        assert shown(viewer) == [event.pk for event in seen[::-1]]

    def test_the_page_of_an_event(self, viewer, hidden):
        for event in hidden:
            assert viewer.get(page_of(event)).status_code == 302  # as if it were not there

    def test_the_history_of_a_model_that_the_user_may_not_view_is_refused(self, viewer, hidden):
        for label, status in {"auth.user": 200, "auth.group": 403, "gone.thing": 403}.items():
            url = reverse("admin:django_signal_audit_auditevent_object_history", args=(label, "3"))
            assert viewer.get(url).status_code == status, label

    def test_who_may_change_may_view(self, client):
        user = User.objects.create_user("editor", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", "change_group"]))
        client.force_login(user)
        event = make_event(model="auth.group")
        make_event()
        assert shown(client) == [event.pk]


class TestHostileText:
    @pytest.mark.parametrize("payload", [HOSTILE, "\"'><img src=x onerror=alert(1)>"])
    def test_it_renders_as_text_everywhere(self, admin_client, audit, payload):
        audit({"name": payload, "model": "auth.User"})
        event = make_event(
            event_type=payload[:90], object_repr=payload, actor_id="7", actor_repr=payload, rules=[payload],
            changes={"email": [payload, {payload: [payload]}], payload: [None, payload],
                     "groups": {"added": [payload], "removed": []}},
            data={payload: payload}, context={"reason": payload, payload: payload}, object_id=payload,
            correlation_id=payload[:60],
        )  # fmt: skip
        Notification.objects.create(
            event=event.uid, rule=payload, channel=payload, recipient=payload, last_error=payload, status="dead"
        )
        for url in (LIST, page_of(event), history_url("admin", event.model, event.object_id)):
            text = text_of(admin_client.get(url))
            assert not MARKUP.search(text), url
            assert "&lt;script&gt;alert" in text or "&lt;img src=x" in text
            # What nobody sees, and what turns the text around, is spelled out.
            assert not re.search("[\x1b\u202e]", text), url
            assert r"\x1b[31m\u202e" in text or payload != HOSTILE


def test_our_templates_have_no_inline_script_or_style():
    folder = Path(django_signal_audit.__file__).parent / "templates"
    # Mail programs know no other style than an inline one.
    templates = [path for path in folder.rglob("*.html") if not path.name.startswith("mail")]
    assert len(templates) > 5
    for template in templates:
        source = template.read_text(encoding="utf-8")
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=", source), template
