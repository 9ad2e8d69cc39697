from __future__ import annotations

from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone
from easyaudit.models import CRUDEvent, LoginEvent, RequestEvent

from django_signal_audit.models import AuditEvent

from .shop.models import EasyAudited, Tag
from .writes import differences, imported, run_import

pytestmark = pytest.mark.django_db
RULES = {"RULES": [{"name": "shop", "model": "shop.*"}]}


def test_logins_and_requests(settings: Any, client: Any, django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("ada", password="hunter22")
    assert client.login(username="ada", password="hunter22")
    client.logout()
    # Without its middleware the package knows no request, and drops failed logins.
    LoginEvent.objects.create(login_type=LoginEvent.FAILED, username="ada", remote_ip="10.0.0.1")
    RequestEvent.objects.create(
        url="/shop/",
        method="GET",
        query_string="token=tea-1234",
        user=user,
        remote_ip="10.0.0.1",
        datetime=timezone.now(),
    )
    settings.SIGNAL_AUDIT = RULES
    run_import("easy-audit")
    found = {event.event_type: event for event in AuditEvent.objects.all()}
    assert set(found) == {"login", "logout", "login_failed", "request"}
    assert (found["login"].model, found["login"].object_id, found["login"].actor_repr) == (
        "auth.user",
        str(user.pk),
        "ada",
    )
    assert found["login_failed"].data == {"credentials": {"username": "ada"}}
    assert found["request"].data == {"method": "GET", "path": "/shop/"}
    assert found["request"].context["request"] == {"ip": "10.0.0.1", "method": "GET", "path": "/shop/"}
    assert "tea-1234" not in str(list(AuditEvent.objects.values()))
    assert "0 events written" in run_import("easyaudit")


def test_logins_of_an_unknown_type_are_named(settings: Any) -> None:
    strange = [LoginEvent.objects.create(login_type=kind, username="ada", remote_ip="10.0.0.1") for kind in (7, -1)]
    settings.SIGNAL_AUDIT = RULES
    out = run_import("easyaudit")
    assert out.startswith("2 rows read, 0 events written")
    assert all(f"unknown: easyaudit_loginevent {one.pk}" in out for one in strange)


def test_the_other_side_of_a_many_to_many_field_is_left_to_the_closing_event(settings: Any) -> None:
    one = EasyAudited.objects.create(name="a")
    red = Tag.objects.create(name="red")
    one.tags.through.objects.create(easyaudited=one, tag=red)
    CRUDEvent.objects.create(
        event_type=CRUDEvent.M2M_ADD_REV,
        object_id=str(red.pk),
        content_type=ContentType.objects.get_for_model(Tag),
        object_repr="red",
        object_json_repr="",
        datetime=timezone.now(),
    )
    settings.SIGNAL_AUDIT = RULES
    out = run_import("easyaudit")
    assert "it is about the other side of a many-to-many field: easyaudit_crudevent" in out
    assert imported("shop.easyaudited")[-1].changes == {"tags": {"added": [red.pk], "removed": []}}
    assert differences("shop.easyaudited") == []
