"""django-mptt: the parent is recorded; the columns of the tree are renumbered by SQL that nothing sees."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.db import models
from mptt.models import MPTTModel, TreeForeignKey

from tests.conftest import trail

pytestmark = pytest.mark.django_db


class Genre(MPTTModel):  # type: ignore[misc]
    name = models.CharField(max_length=30)
    parent = TreeForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="children")

    class Meta:
        app_label = "shop"


def test_a_moved_node_is_recorded_and_replays_without_the_columns_of_the_tree(settings: Any) -> None:
    rule = {"name": "genres", "model": "shop.Genre", "exclude": ["lft", "rght", "tree_id", "level"]}
    settings.SIGNAL_AUDIT = {"RULES": [rule]}
    rock, metal = Genre.objects.create(name="Rock"), Genre.objects.create(name="Metal")
    punk = Genre.objects.create(name="Punk", parent=rock)
    rock_pk = rock.pk
    punk.move_to(metal)
    punk.save()
    metal.refresh_from_db()
    rock.refresh_from_db()
    metal.move_to(rock)
    metal.save()
    assert [changes for event_type, changes in trail() if event_type == "update"] == [
        {"parent": [rock_pk, metal.pk]},
        {"parent": [None, rock_pk]},
    ]
    call_command("audit_replay", check=True)
    rock.refresh_from_db()
    rock.delete()
    assert [event_type for event_type, _ in trail()].count("delete") == 3
    call_command("audit_replay", check=True)
