from __future__ import annotations

from typing import Any

import pytest
from wagtail.models import ModelLogEntry

from django_signal_audit.models import AuditEvent

from .shop.models import Category
from .writes import run_import

pytestmark = pytest.mark.django_db


def test_what_was_done_to_an_object_is_an_event_of_it(settings: Any, django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("ada")
    tea = Category.objects.create(name="Tea")
    entry = ModelLogEntry.objects.log_action(
        tea, "wagtail.edit", user=user, data={"title": "Tea", "password": "hunter22"}, content_changed=True
    )
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "shop", "model": "shop.*"}]}
    run_import("wagtail")
    event = AuditEvent.objects.for_object(tea).get()
    assert (event.event_type, event.actor_repr, event.object_repr) == ("wagtail.edit", "ada", "Tea")
    assert event.recorded_at == entry.timestamp
    assert event.data["title"] == "Tea"
    assert event.data["content_changed"] is True
    assert "hunter22" not in str(event.data)
    assert event.changes == {}
    assert "0 events written" in run_import("wagtail")
    assert AuditEvent.objects.state_of(Category, tea.pk) is None
