from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as django_settings

from django_signal_audit.models import AuditEvent

from .shop.models import model
from .writes import differences, imported, of, run_import

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(not django_settings.HAS_TRIGGERS, reason="django-pghistory needs PostgreSQL"),
]
RULES = {"RULES": [{"name": "shop", "model": "shop.*"}]}


def test_what_wrote_the_row_is_known_by_the_context(settings: Any, django_user_model: Any) -> None:
    import pghistory

    user = django_user_model.objects.create_user("ada")
    with pghistory.context(user=user.pk, url="/shop/1/", ticket=17):
        model("Triggered").objects.create(name="a")
    settings.SIGNAL_AUDIT = RULES
    run_import("pghistory", "shop.Triggered")
    (event,) = imported("shop.triggered")
    assert (event.actor_repr, event.object_repr) == ("ada", "a")
    assert event.context["request"] == {"path": "/shop/1/"}
    assert event.context["extra"] == {"ticket": 17}
    assert len(event.correlation_id) == 36


def test_deletions_that_nothing_tracks_are_inferred(settings: Any) -> None:
    tracked = model("TriggeredWithoutDeletes")
    one = tracked.objects.create(name="a", stock=1)
    pk = one.pk
    one.delete()
    again = tracked.objects.create(pk=pk, name="b")
    gone = tracked.objects.create(name="c")
    gone_pk = gone.pk
    gone.delete()
    settings.SIGNAL_AUDIT = RULES
    run_import("pghistory")
    assert [kind for kind, _ in of(again)] == ["create", "delete", "create"]
    kinds = AuditEvent.objects.for_key(tracked, gone_pk).order_by("id").values_list("event_type", "data")
    assert list(kinds) == [("create", {}), ("delete", {"inferred": True})]
    assert differences("shop.triggeredwithoutdeletes") == []


def test_rows_with_the_values_before_the_update(settings: Any) -> None:
    tracked = model("TriggeredBefore")
    one = tracked.objects.create(name="a", stock=1)
    for stock in (2, 3):
        one.stock = stock
        one.save()
    two = tracked.objects.create(name="b", stock=1)
    two.stock = 5
    two.save()
    pk = two.pk
    two.delete()
    settings.SIGNAL_AUDIT = RULES
    run_import("pghistory")
    assert of(one)[1:] == [("update", {"stock": [1, 2]}), ("baseline", {"stock": [2, 3]})]
    changes = AuditEvent.objects.for_key(tracked, pk).order_by("id").values_list("event_type", "changes")
    assert list(changes)[1:] == [
        ("update", {"stock": [1, 5]}),
        ("delete", {"name": ["b", None], "stock": [5, None]}),
    ]
    assert differences("shop.triggeredbefore") == []
    assert "0 events written" in run_import("pghistory")


def test_bulk_writes_and_sql_are_there(settings: Any) -> None:
    tracked = model("TriggeredWithoutDeletes")
    tracked.objects.bulk_create([tracked(name="a"), tracked(name="b")])
    tracked.objects.update(stock=7)
    settings.SIGNAL_AUDIT = RULES
    out = run_import("pghistory")
    assert "close" not in out
    assert {tuple(kind for kind, _ in of(one)) for one in tracked.objects.all()} == {("create", "update")}
