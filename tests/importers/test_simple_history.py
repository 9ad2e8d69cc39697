from __future__ import annotations

from typing import Any

import pytest

from django_signal_audit.models import AuditEvent

from .shop.models import HistoryExcluding, Place, Restaurant
from .writes import differences, of, run_import

pytestmark = pytest.mark.django_db
RULES = {"RULES": [{"name": "shop", "model": "shop.*"}]}


def test_excluded_fields_begin_with_the_closing_event(settings: Any) -> None:
    one = HistoryExcluding.objects.create(name="a", stock=3)
    one.name = "b"
    one.save()
    settings.SIGNAL_AUDIT = RULES
    run_import("simple_history")
    assert of(one) == [
        ("create", {"name": [None, "a"]}),
        ("update", {"name": ["a", "b"]}),
        ("baseline", {"stock": [None, 3]}),
    ]
    assert differences("shop.historyexcluding") == []


def test_multi_table_children_keep_all_of_their_fields(settings: Any) -> None:
    one = Restaurant.objects.create(name="a", stars=1)
    one.name = "b"
    one.save()
    Place.objects.create(name="c")
    settings.SIGNAL_AUDIT = RULES
    run_import("simple_history")
    assert differences("shop.place", "shop.restaurant") == []
    assert [changes for kind, changes in of(one) if kind == "update"] == [{"name": ["a", "b"]}]
    assert AuditEvent.objects.state_of(Place, one.pk)["name"] == "b"  # type: ignore[index]


def test_reasons_and_users_come_along(settings: Any, django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("ada")
    one = Place(name="a")
    one._history_user = user
    one._change_reason = "opened"
    one.save()
    settings.SIGNAL_AUDIT = RULES
    run_import("simple_history")
    event = AuditEvent.objects.for_object(one).get()
    assert (event.actor_repr, event.context["reason"]) == ("ada", "opened")
