"""django-taggit: tags are rows of its own through model, and so are their events."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import models
from taggit.managers import TaggableManager

from tests.conftest import events

pytestmark = pytest.mark.django_db


class Note(models.Model):
    text = models.CharField(max_length=30)
    tags = TaggableManager(blank=True)

    class Meta:
        app_label = "shop"


def test_tags_are_events_of_the_through_model(settings: Any) -> None:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "notes", "model": ["shop.Note", "taggit.*"]}]}
    note = Note.objects.create(text="a")
    note.tags.add("red", "green")
    note.tags.remove("red")
    note.tags.set(["blue"])
    note.tags.clear()
    note.text = "b"
    note.save()
    found = [(event.model, event.event_type) for event in events()]
    assert found.count(("taggit.taggeditem", "create")) == 3
    assert found.count(("taggit.taggeditem", "delete")) == 3
    assert found.count(("taggit.tag", "create")) == 3
    assert found[-1] == ("shop.note", "update")
    created = next(event for event in events() if event.model == "taggit.taggeditem")
    assert created.changes["object_id"] == [None, note.pk]
    note.delete()
