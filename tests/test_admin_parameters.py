"""The lists of the admin take the parameters that their filters declare, and no other."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.urls import reverse

from django_signal_audit.admin import AuditEventAdmin, NotificationAdmin
from django_signal_audit.models import AuditEvent, Notification

from .samples import make_event

pytestmark = pytest.mark.django_db

EVENTS = reverse("admin:django_signal_audit_auditevent_changelist")
NOTIFICATIONS = reverse("admin:django_signal_audit_notification_changelist")
RETRY = reverse("admin:django_signal_audit_notification_retry_matching")
LOOKUPS = ["", "__icontains", "__regex", "__in", "__isnull", "__secret"]
COLUMNS = {
    EVENTS: ["changes", "data", "context", "object_repr", "actor_repr", "uid", "id", "pk", "signature", "recorded_at"],
    NOTIFICATIONS: ["data", "last_error", "recipient", "message_id", "event", "id", "digest_key", "attempts"],
}


def shown(client, address):
    response = client.get(address, follow=True)
    assert response.status_code == 200, address
    return [row.pk for row in response.context["cl"].result_list]


@pytest.mark.parametrize(("address", "column"), [(one, column) for one, found in COLUMNS.items() for column in found])
def test_no_lookup_on_a_column_narrows_a_list(admin_client, address, column):
    event = make_event(changes={"email": ["secret", "b"]})
    row = Notification.objects.create(event=event.uid, rule="r", channel="c", data={"body": "secret"})
    expected = [event.pk] if address == EVENTS else [row.pk]
    for lookup in LOOKUPS:
        for value in ("secret", "zzz"):
            assert shown(admin_client, f"{address}?{column}{lookup}={value}") == expected, (lookup, value)


@pytest.mark.parametrize("query", ["_popup=1", "_to_field=id", "_to_field=changes", "e=1", "o=1.-2", "all="])
@pytest.mark.parametrize("address", [EVENTS, NOTIFICATIONS])
def test_the_admins_own_parameters_change_nothing(admin_client, address, query):
    event = make_event()
    row = Notification.objects.create(event=event.uid, rule="r", channel="c")
    assert shown(admin_client, f"{address}?{query}") == ([event.pk] if address == EVENTS else [row.pk])


@pytest.mark.parametrize("query", ["data__body=dead", "status=dead&data__body=dead", "statuss=dead", "e=1"])
def test_nothing_is_sent_again_by_an_address_with_an_undeclared_parameter(admin_client, query):
    Notification.objects.create(rule="r", channel="c", status="dead", data={"body": "dead"})
    assert admin_client.post(f"{RETRY}?{query}").url.startswith(NOTIFICATIONS)
    assert Notification.objects.get().status == "dead"


def test_links_of_the_page_keep_declared_parameters_alone(admin_client):
    make_event()
    text = admin_client.get(f"{EVENTS}?changes__regex=x&level=info&model=auth.user").content.decode()
    assert "changes__regex" not in text
    assert 'href="?level=info"' in text


def test_a_filter_that_a_project_adds_is_declared(rf, admin_user):
    class WithSource(AuditEventAdmin):
        list_filter = (*AuditEventAdmin.list_filter, "source", ("level", admin.AllValuesFieldListFilter))

    make_event(source="orm")
    bulk = make_event(source="bulk")
    request = rf.get(EVENTS, {"source__exact": "bulk", "source__startswith": "o", "changes__contains": "x"})
    request.user = admin_user
    changelist = WithSource(AuditEvent, admin.site).get_changelist_instance(request)
    assert [event.pk for event in changelist.result_list] == [bulk.pk]


@pytest.mark.parametrize("selected", ["abc", "", "\0", "9" * 40, "-1", "1.5"])
def test_an_action_on_what_is_no_notification_is_no_error(admin_client, selected):
    data = {"action": "retry", "index": "0", "_selected_action": [selected]}
    assert admin_client.post(NOTIFICATIONS, data).status_code in (200, 302)


def test_the_autocomplete_view_tells_nothing(admin_client):
    for field in ("event", "model", "object_id"):
        query = f"app_label=django_signal_audit&model_name=notification&field_name={field}&term=x"
        assert admin_client.get(reverse("admin:autocomplete") + "?" + query).status_code == 403


class TestActors:
    """Somebody may have the primary key of somebody else for a name."""

    @pytest.fixture
    def events(self):
        return {
            "seven": make_event(actor_id="7", actor_repr="ada"),
            "named seven": make_event(actor_id="42", actor_repr="7"),
            "keyless": make_event(actor_id="", actor_repr="7"),
        }

    def test_a_primary_key_finds_that_actor_alone(self, admin_client, events):
        assert shown(admin_client, f"{EVENTS}?actor=7") == [events["seven"].pk]
        assert shown(admin_client, f"{EVENTS}?actor=42") == [events["named seven"].pk]

    def test_a_name_is_found_where_nobody_has_it_for_a_primary_key(self, admin_client, events):
        assert shown(admin_client, f"{EVENTS}?actor=ada") == [events["seven"].pk]

    def test_links_to_an_actor_without_a_primary_key_name_it(self, admin_client, events):
        text = admin_client.get(EVENTS).content.decode()
        assert f'href="{EVENTS}?actor=7"' in text
        assert f'href="{EVENTS}?actor=42"' in text
        assert f'href="{EVENTS}?actor_name=7"' in text
        assert shown(admin_client, f"{EVENTS}?actor_name=7") == [events["keyless"].pk, events["named seven"].pk]

    def test_a_search_beside_it_means_the_same_actor(self, admin_client, events):
        assert shown(admin_client, f"{EVENTS}?q=3&actor=7") == [events["seven"].pk]


class TestPermissions:
    """Each permission is asked for by some page."""

    @pytest.mark.parametrize("model", [AuditEvent, Notification])
    def test_there_is_none_that_nothing_asks_for(self, model):
        kind = ContentType.objects.get_for_model(model)
        found = set(Permission.objects.filter(content_type=kind).values_list("codename", flat=True))
        expected = {
            AuditEvent: {f"{what}_auditevent" for what in ("view", "export", "revert", "restore", "prune", "erase")},
            Notification: {"view_notification", "change_notification"},
        }
        assert found == expected[model]

    def test_sending_again_takes_change_notification(self, client):
        user = User.objects.create_user("ann", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_notification"))
        client.force_login(user)
        row = Notification.objects.create(rule="r", channel="c", status="dead")
        one = reverse("admin:django_signal_audit_notification_retry", args=(row.pk,))
        assert [client.post(url).status_code for url in (one, RETRY)] == [403, 403]
        user.user_permissions.add(Permission.objects.get(codename="change_notification"))
        assert [client.post(url).status_code for url in (one, RETRY)] == [302, 302]


@pytest.mark.parametrize(("model", "kind"), [(AuditEvent, AuditEventAdmin), (Notification, NotificationAdmin)])
def test_each_filter_has_the_name_by_which_themes_look_it_up(rf, admin_user, model: type[models.Model], kind):
    request = rf.get("/")
    request.user = admin_user
    for spec in kind(model, admin.site).get_changelist_instance(request).filter_specs:
        assert spec.parameter_name in spec.expected_parameters()
