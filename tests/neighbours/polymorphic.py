"""django-polymorphic: one event for each object, under the label of its own class."""

from __future__ import annotations

import pytest
from django.db import models
from polymorphic.models import PolymorphicModel

from django_signal_audit.models import AuditEvent
from tests.conftest import events, trail

pytestmark = pytest.mark.django_db


class Project(PolymorphicModel):
    topic = models.CharField(max_length=30)

    class Meta:
        app_label = "shop"


class ArtProject(Project):
    artist = models.CharField(max_length=30)

    class Meta:
        app_label = "shop"


def test_events_have_the_label_of_the_class() -> None:
    project, art = Project.objects.create(topic="plain"), ArtProject.objects.create(topic="art", artist="Ada")
    assert [event.model for event in events()] == ["shop.project", "shop.artproject"]
    found = Project.objects.get(pk=art.pk)
    found.topic, found.artist = "fine art", "Bob"
    found.save()
    assert (events()[-1].model, trail()[-1]) == (
        "shop.artproject",
        ("update", {"topic": ["art", "fine art"], "artist": ["Ada", "Bob"]}),
    )
    Project.objects.filter(pk=art.pk).update(topic="arts")
    assert (events()[-1].model, trail()[-1][1]) == ("shop.artproject", {"topic": ["fine art", "arts"]})
    assert AuditEvent.objects.state_of(ArtProject, art.pk)["topic"] == "arts"
    Project.objects.all().delete()
    assert {(event.model, event.object_id) for event in events(event_type="delete")} == {
        ("shop.project", str(project.pk)),
        ("shop.artproject", str(art.pk)),
    }
