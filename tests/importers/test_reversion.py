from __future__ import annotations

from typing import Any

import pytest
import reversion
from django.core import serializers
from reversion.models import Version

from django_signal_audit.models import AuditEvent

from .shop.models import Category, Versioned, VersionedPlace, VersionedRestaurant
from .writes import differences, imported, of, run_import

pytestmark = pytest.mark.django_db
RULES = {"RULES": [{"name": "shop", "model": "shop.*"}]}


def revise(one: Any, comment: str = "", user: Any = None) -> None:
    with reversion.create_revision():
        one.save()
        reversion.set_comment(comment)
        if user:
            reversion.set_user(user)


def test_a_multi_table_child_is_one_event_with_all_fields(settings: Any) -> None:
    one = VersionedRestaurant(name="a", stars=1)
    revise(one)
    one.name, one.stars = "b", 2
    revise(one)
    plain = VersionedPlace(name="c")
    revise(plain)
    settings.SIGNAL_AUDIT = RULES
    run_import("reversion")
    assert [event.changes for event in imported("shop.versionedrestaurant")] == [
        {"name": [None, "a"], "stars": [None, 1]},
        {"name": ["a", "b"], "stars": [1, 2]},
    ]
    assert [event.object_id for event in imported("shop.versionedplace")] == [str(plain.pk)]
    assert differences("shop.versionedrestaurant", "shop.versionedplace") == []


def test_who_and_why(settings: Any, django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("ada")
    one = Versioned(name="a")
    revise(one, "because", user)
    revise(one, '[{"changed": {"fields": ["Name"]}}]')
    one.name = "b"
    revise(one, '[{"changed": {"fields": ["Name"]}}]')
    settings.SIGNAL_AUDIT = RULES
    out = run_import("reversion")
    first, second = imported("shop.versioned")
    assert (first.actor_repr, first.context["reason"]) == ("ada", "because")
    assert second.context["reason"] == "Changed Name."
    assert first.correlation_id != second.correlation_id
    assert "1 row changed nothing" in out


def test_other_formats(settings: Any) -> None:
    one = Versioned(name="a", qty=1, category=Category.objects.create(name="Tea"))
    revise(one)
    version = Version.objects.get()
    version.format, version.serialized_data = "xml", serializers.serialize("xml", [one])
    version.save()
    broken = Version.objects.get()
    broken.pk, broken.serialized_data, broken.format = None, "<xml", "xml"
    broken.object_id = "99"
    broken.save()
    settings.SIGNAL_AUDIT = RULES
    out = run_import("reversion")
    assert f"its data can't be read (xml): reversion_version {broken.pk}" in out
    assert of(one)[0][1]["qty"] == [None, 1]
    assert differences("shop.versioned") == []


def test_versions_of_other_databases_are_others(settings: Any) -> None:
    revise(Versioned(name="a"))
    Version.objects.update(db="other")
    settings.SIGNAL_AUDIT = RULES
    assert "0 rows read" in run_import("reversion")
    assert not AuditEvent.objects.exists()
