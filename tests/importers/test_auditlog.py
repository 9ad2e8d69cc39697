from __future__ import annotations

from typing import Any

import pytest
from auditlog.context import set_actor

from django_signal_audit.models import AuditEvent

from .shop.models import Logged
from .writes import differences, imported, run_import, write

pytestmark = pytest.mark.django_db
RULES = {"RULES": [{"name": "shop", "model": "shop.*"}]}


def test_typed_changes(settings: Any) -> None:
    settings.AUDITLOG_STORE_JSON_CHANGES = True
    write(Logged)
    settings.SIGNAL_AUDIT = RULES
    run_import("auditlog")
    assert differences("shop.logged") == []


def test_the_actor_and_the_address(settings: Any, django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("ada")
    with set_actor(user, remote_addr="10.0.0.1"):
        Logged.objects.create(name="a")
    settings.SIGNAL_AUDIT = RULES
    run_import("django-auditlog")
    (event,) = imported("shop.logged")
    assert (event.actor_repr, event.context["request"]) == ("ada", {"ip": "10.0.0.1"})


def test_expressions_are_unclear_and_closed(settings: Any) -> None:
    written = write(Logged)
    settings.SIGNAL_AUDIT = RULES
    run_import("auditlog")
    events = AuditEvent.objects.for_object(written["full"]).order_by("id")
    (unclear,) = [event.data["unclear"] for event in events if "qty" in event.data.get("unclear", {})]
    assert unclear["qty"] == ["5", "F(qty) + Value(1)"]
    assert events.last().changes["qty"] == [5, 6]  # type: ignore[union-attr]
