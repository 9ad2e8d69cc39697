from __future__ import annotations

from typing import Any

import pytest
from field_audit.models import AuditEvent as Recorded

from django_signal_audit.models import AuditEvent

from .shop.models import FieldAudited
from .writes import differences, of, run_import, write

pytestmark = pytest.mark.django_db
RULES = {"RULES": [{"name": "shop", "model": "shop.*"}]}


def test_rows_under_a_class_path_that_is_gone(settings: Any) -> None:
    write(FieldAudited)
    Recorded.objects.update(object_class_path="old.models.Thing")
    settings.SIGNAL_AUDIT = RULES
    out = run_import("field-audit")
    assert "its class old.models.Thing isn't in the project (--rename old.models.Thing=app.Model)" in out
    assert not AuditEvent.objects.exists()
    run_import("field-audit", "--rename", "old.models.Thing=shop.FieldAudited")
    assert differences("shop.fieldaudited") == []


def test_a_bootstrap_is_a_baseline_and_the_name_of_who_did_it_stays(settings: Any, django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("ada")
    FieldAudited.objects.bulk_create([FieldAudited(name="a", qty=1)])
    one = FieldAudited.objects.get()
    event = Recorded.objects.create(
        object_class_path="tests.importers.shop.models.FieldAudited",
        object_pk=one.pk,
        change_context={"user_type": "User", "username": "ada"},
        is_bootstrap=True,
        delta={"qty": {"new": 1}},
    )
    event.pk, event.is_bootstrap, event.delta = None, False, {"qty": {"old": 1, "new": 2}}
    event.change_context = {"user_type": "SystemUser", "username": "root"}
    event.save()
    settings.SIGNAL_AUDIT = RULES
    run_import("field_audit")
    assert [kind for kind, _ in of(one)] == ["baseline", "update", "baseline"]
    first, second, _ = AuditEvent.objects.order_by("id")
    assert (first.actor_id, first.actor_repr) == (str(user.pk), "ada")
    assert (second.actor_id, second.actor_repr) == ("", "root")
