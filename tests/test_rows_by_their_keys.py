"""Which rows a ModelAdmin shows, asked by their keys alone: the same as if the rows were read."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import models
from django.db.models import Count, Exists, F, OuterRef
from django.db.models.signals import post_init
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from django_signal_audit.admin.policies import AdminPolicy
from django_signal_audit.events.keys import object_id, parse_id, parse_ids
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.functions import AnyOf

from .app.models import Category, Country, Document, Line, Person, Product, Restaurant, Tag
from .model_admins import person_who_may, registered

pytestmark = pytest.mark.django_db


class Hiding(models.QuerySet[Any]):
    """Leaves rows out in Python."""

    def _fetch_all(self) -> None:
        super()._fetch_all()
        self._result_cache = [one for one in self._result_cache if getattr(one, "name", "") != "3"]


class HidingByIterator(models.QuerySet[Any]):
    def __iter__(self) -> Any:
        return (one for one in super().__iter__() if getattr(one, "name", "") != "3")


class HidingByFilter(models.QuerySet[Any]):
    def filter(self, *args: Any, **kwargs: Any) -> Any:
        return super().filter(*args, **kwargs).exclude(name="3")


class Odd(models.query.ModelIterable):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return (one for one in super().__iter__() if one.name != "3")


def with_odd_rows(rows: Any) -> Any:
    rows._iterable_class = Odd
    return rows


QUERYSETS = {
    "all": lambda rows: rows,
    "none": lambda rows: rows.none(),
    "filtered": lambda rows: rows.filter(name__lt="5"),
    "without one": lambda rows: rows.exclude(name="3"),
    "distinct": lambda rows: rows.filter(products__stock__gte=0).distinct(),
    "many times": lambda rows: rows.filter(products__stock__gte=0),
    "counted": lambda rows: rows.annotate(number=Count("products")).filter(number__gt=1),
    "counted and ordered": lambda rows: rows.annotate(number=Count("products")).order_by("-number", "name"),
    "existing": lambda rows: rows.filter(Exists(Product.objects.filter(category=OuterRef("pk")))),
    "related": lambda rows: rows.select_related().prefetch_related("products"),
    "deferred": lambda rows: rows.defer("name"),
    "only": lambda rows: rows.only("name").filter(pk__gt=2),
    "named": lambda rows: rows.annotate(other=F("name")).filter(other__gt="2"),
    "sliced": lambda rows: rows.order_by("name")[:4],
    "united": lambda rows: rows.filter(name="1").union(rows.filter(name="2")),
    "extra": lambda rows: rows.extra(where=["app_category.name < '4'"]),
    "values": lambda rows: rows.values("pk", "name"),
    "pairs": lambda rows: rows.values_list("pk", "name"),
    "hiding": lambda rows: Hiding(rows.model),
    "hiding by iterator": lambda rows: HidingByIterator(rows.model),
    "hiding by filter": lambda rows: HidingByFilter(rows.model),
    "odd rows": with_odd_rows,
    "failing": lambda rows: rows.filter(name=1 / 0),
}


@pytest.fixture
def categories() -> list[Category]:
    found = [Category.objects.create(name=str(number)) for number in range(1, 8)]
    for number, category in enumerate(found):
        for _ in range(number % 3):
            Product.objects.create(name="Tea", category=category)
    return found


@pytest.mark.parametrize("name", QUERYSETS)
def test_what_is_seen_is_what_would_be_read(categories: list[Category], name: str) -> None:
    class Some(admin.ModelAdmin[Category]):
        def get_queryset(self, request: Any) -> Any:
            return QUERYSETS[name](super().get_queryset(request))

    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root")
    policy = AdminPolicy(request, Some(Category, admin.site))
    keys = {*(object_id(one.pk) for one in categories), "999", "no key", ""}
    categories[-1].delete()
    seen = policy.rows(keys, "default")
    there = set(map(object_id, Category.objects.values_list("pk", flat=True)))
    assert policy.verdicts(keys, "default") == {key: key in seen for key in there}
    if name in ("filtered", "without one", "distinct", "counted", "sliced", "hiding", "odd rows"):
        assert 0 < len(seen) < len(there)


@pytest.mark.parametrize("model", [Category, Country, Document, Line, Restaurant, Person])
def test_keys_are_those_of_one_by_one(model: type[models.Model]) -> None:
    names = [
        "1", "-1", "0", "-0", "01", "+1", " 1", "1 ", "1.0", "1_000", "1e3", "\u0663", "", "a", "[1, 2]", "[1,2]",
        "None", str(2**63 - 1), str(2**63), str(-(2**63)), str(-(2**63) - 1), "9" * 30, "1" * 5000, "\n1", "1\n",
        "5f3b1c1e-0f6b-4a58-9c35-1f2a3b4c5d6e", "x" * 300,
    ]  # fmt: skip
    one_by_one = {name: pk for name in names if (pk := parse_id(model, name)) is not None}
    assert parse_ids(model, names) == one_by_one


@pytest.mark.parametrize("count", [1, 3, 5000])
def test_any_of_many_values(count: int) -> None:
    tags = [Tag.objects.create(name=f"{number}'%s") for number in range(4)]
    numbers = [one.pk for one in tags[:2]] + [tags[-1].pk + 1 + number for number in range(count)]
    texts = [tags[1].name, tags[2].name, *(f"no {number}" for number in range(count))]
    assert list(Tag.objects.filter(AnyOf(F("pk"), numbers)).order_by("pk")) == tags[:2]
    assert list(Tag.objects.filter(AnyOf(F("name"), texts)).order_by("pk")) == tags[1:3]
    assert list(Tag.objects.exclude(AnyOf(F("pk"), numbers)).order_by("pk")) == tags[2:]


class HalfOfThem(admin.ModelAdmin):  # type: ignore[type-arg]
    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).filter(name__startswith="a")


def test_the_dashboard_of_who_sees_some_rows_makes_no_instances_of_them(client: Client) -> None:
    """Thousands of events are read for it."""
    chance, now = random.Random(3), timezone.now()
    Group.objects.bulk_create(Group(name=f"{'ab'[number % 2]}{number}") for number in range(60))
    keys = [str(pk) for pk in Group.objects.values_list("pk", flat=True)]
    AuditEvent.objects.bulk_create(
        AuditEvent(
            event_type=chance.choice(["create", "update", "delete"]), source="orm", model="auth.group",
            object_id=chance.choice(keys), object_repr="group", recorded_at=now,
        )
        for _ in range(400)
    )  # fmt: skip
    made: list[str] = []

    def note(sender: Any, **_more: Any) -> None:
        made.append(sender._meta.label)

    client.force_login(person_who_may("ann", "view_group"))
    with registered(Group, HalfOfThem):
        page = reverse("admin:django_signal_audit_auditevent_dashboard")
        client.get(page)
        post_init.connect(note)
        try:
            response = client.get(page)
        finally:
            post_init.disconnect(note)
    tiles = {tile.name: tile.value for tile in response.context["tiles"]}
    assert 0 < int(tiles["events"]) < 400
    assert not {"auth.Group", "django_signal_audit.AuditEvent"} & set(made)
