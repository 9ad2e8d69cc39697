"""Who looked: ``events: ["view"]``, only where a rule names it, once in a while, and never in anybody's way."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.views.generic import DetailView

from django_signal_audit import Rule, audit_context, record, record_view, suspend_auditing, viewing
from django_signal_audit.checks import check_rules
from django_signal_audit.context.scopes import context_scope
from django_signal_audit.models import AuditEvent
from django_signal_audit.models.events import erase_values
from django_signal_audit.replay.baseline import Baseline
from django_signal_audit.replay.replay import Replay
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.viewing import AuditedDetailMixin

from .app.models import Category, Product, Restaurant, Tag
from .conftest import Audit, events, last, run_async
from .model_admins import registered
from .urls import urlpatterns as others

pytestmark = pytest.mark.django_db

VIEWED = {"name": "who-looked", "model": "app.Product", "events": ["view"]}


class ProductPage(AuditedDetailMixin, DetailView[Product]):
    model = Product
    template_name = "admin/404.html"


urlpatterns = [path("page/<int:pk>/", ProductPage.as_view()), *others]


@pytest.fixture
def tea(audit: Audit) -> Product:
    audit(VIEWED)
    return Product.objects.create(name="Tea", stock=3)


@pytest.fixture
def ada(client: Client) -> User:
    ada = User.objects.create_superuser("ada")
    client.force_login(ada)
    return ada


def views() -> list[tuple[str, str, str]]:
    return [(event.model, event.object_id, event.actor_repr) for event in events(event_type="view")]


def test_pages_of_the_admin_are_recorded(tea: Product, client: Client, ada: User) -> None:
    with registered(Product, admin.ModelAdmin):
        for page in ("change", "history", "delete"):
            erase_values(AuditEvent.objects.all(), {"recorded_at": timezone.now() - dt.timedelta(days=1)})
            assert client.get(f"/admin/app/product/{tea.pk}/{page}/").status_code == 200
            assert (last().event_type, last().object_repr, last().actor_repr) == ("view", "Tea", "ada")
        assert len(views()) == 3
        client.get("/admin/app/product/")
        client.get("/admin/app/product/add/")
        client.get("/admin/app/product/77777/change/")
        assert len(views()) == 3
    assert last().context["request"]["path"].endswith("/delete/")
    assert (last().changes, last().rules, last().source) == ({}, ["who-looked"], "signal")


def test_a_lazy_object_is_what_it_stands_for(tea: Product) -> None:
    assert record_view(SimpleLazyObject(lambda: Product.objects.get(pk=tea.pk)))  # type: ignore[arg-type]
    assert (last().event_type, last().object_repr) == ("view", "Tea")


def test_it_is_one_event_per_user_object_and_window(tea: Product, audit: Audit) -> None:
    other = Product.objects.create(name="Other")
    ada, bert = User.objects.create_user("ada"), User.objects.create_user("bert")
    for actor in (ada, ada, bert, ada):
        with audit_context(actor=actor):
            record_view(tea)
            record_view(other)
    assert views() == [
        ("app.product", str(tea.pk), "ada"),
        ("app.product", str(other.pk), "ada"),
        ("app.product", str(tea.pk), "bert"),
        ("app.product", str(other.pk), "bert"),
    ]
    erase_values(AuditEvent.objects.all(), {"recorded_at": timezone.now() - dt.timedelta(minutes=61)})
    with audit_context(actor=ada):
        assert record_view(tea)
        assert not record_view(tea)
    audit({**VIEWED, "window": "3h"}, {**VIEWED, "name": "other"})
    with audit_context(actor=bert):
        assert record_view(tea)
        assert not record_view(tea)
    erase_values(AuditEvent.objects.all(), {"recorded_at": timezone.now() - dt.timedelta(hours=2)})
    audit({**VIEWED, "window": "3h"})
    with audit_context(actor=bert):
        assert not record_view(tea)


def test_somebody_who_works_as_another_user_looks_for_themselves(tea: Product, rf: RequestFactory) -> None:
    ada, bert, carl = (User.objects.create_user(name) for name in ("ada", "bert", "carl"))
    for real in (None, bert, carl):
        request: Any = rf.get("/")
        request.user, request.impersonator = ada, real
        with context_scope(request=request):
            assert record_view(tea)
            assert not record_view(tea)
    found = AuditEvent.objects.filter(event_type="view").order_by("id")
    assert [event.context.get("impersonator", {}).get("repr") for event in found] == [None, "bert", "carl"]


def test_only_rules_that_name_it_ask_for_it(tea: Product, audit: Audit, client: Client, ada: User) -> None:
    audit({"name": "all", "model": "app.*"})
    assert not record_view(tea)
    with registered(Product, admin.ModelAdmin):
        client.get(f"/admin/app/product/{tea.pk}/change/")
    assert events() == []
    audit({"name": "all", "model": "app.*"}, VIEWED, {"name": "tags", "model": "app.Tag", "enabled": False})
    assert record_view(tea)
    assert not record_view(Tag.objects.create(name="t"))
    assert last().event_type == "create"


def test_it_is_never_part_of_a_state(audit: Audit, tea: Product) -> None:
    audit({"name": "all", "model": "app.*"}, VIEWED)
    other = Product.objects.create(name="Other")
    before = AuditEvent.objects.state_of(Product, other.pk)
    record_view(other)
    record_view(tea)
    assert AuditEvent.objects.state_of(Product, other.pk) == before
    assert AuditEvent.objects.state_of(Product, tea.pk) is None
    Product.objects.filter(pk=tea.pk).delete()
    assert list(Replay([get_registry().plans[Product]], "default").differences()) == []


def test_a_rule_for_views_alone_audits_no_change(tea: Product) -> None:
    tea.name = "Green tea"
    tea.save()
    Product.objects.update(stock=1)
    assert events() == []
    assert [batch.written for batch in Baseline(get_registry().plans[Product], "default").run()] == []
    assert events() == []


def test_a_detail_view_with_the_mixin(tea: Product, client: Client, ada: User, settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    assert client.get(f"/page/{tea.pk}/").status_code == 200
    assert views() == [("app.product", str(tea.pk), "ada")]
    assert client.get("/page/7777/").status_code == 404
    assert len(views()) == 1


def test_the_mixin_after_the_view_is_refused_because_it_would_record_nothing() -> None:
    with pytest.raises(TypeError, match=r"^Name AuditedDetailMixin first among the base classes of Late: "):

        class Late(DetailView[Product], AuditedDetailMixin):
            model = Product

    class Between(AuditedDetailMixin):
        pass

    assert issubclass(type("Right", (Between, DetailView), {}), DetailView)


def test_included_fields_and_notifications_come_along(audit: Audit, mailoutbox: list[Any]) -> None:
    channel = {
        "BACKEND": "django_signal_audit.channels.email.EmailChannel",
        "OPTIONS": {"to": ["shop@example.com"]},
    }
    audit({**VIEWED, "include": ["stock"], "notify": ["mail"]}, CHANNELS={"mail": channel})
    tea = Product.objects.create(name="Tea", stock=3)
    record_view(tea)
    assert last().context["include"] == {"stock": 3}
    assert AuditEvent.objects.count() == 1


def test_record_leaves_the_name_to_record_view(tea: Product) -> None:
    with pytest.raises(ValueError, match="record_view"):
        record("view", tea)


def test_children_are_viewed_as_the_ruled_parent(audit: Audit) -> None:
    audit({"name": "places", "model": "app.Place", "events": ["view"]})
    inn = Restaurant.objects.create(name="Inn")
    assert record_view(inn)
    assert (last().model, last().object_id) == ("app.place", str(inn.pk))


def test_what_fails_is_logged_and_nobody_is_kept_from_looking(
    tea: Product, client: Client, ada: User, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("django_signal_audit.recorder.insert_row", lambda *_: 1 / 0)
    with registered(Product, admin.ModelAdmin), caplog.at_level(logging.ERROR):
        assert client.get(f"/admin/app/product/{tea.pk}/change/").status_code == 200
    assert "could not be recorded" in caplog.text
    with transaction.atomic():
        assert not record_view(tea)
        assert Product.objects.count() == 1
    with transaction.atomic():
        transaction.set_rollback(True)
        assert not record_view(tea)
    assert views() == []


def test_a_query_that_fails_leaves_the_transaction_of_the_request_whole(tea: Product, monkeypatch: Any) -> None:
    def failing(*_: Any) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM there_is_no_such_table")
        return True

    monkeypatch.setattr(viewing, "_is_due", failing)
    with transaction.atomic():
        assert not record_view(tea)
        Product.objects.create(name="Other")
    assert Product.objects.count() == 2
    assert views() == []


def test_an_object_that_was_never_saved_and_suspended_models_are_left_out(tea: Product) -> None:
    assert not record_view(Product(name="new"))
    with suspend_auditing(Product, reason="test"):
        assert not record_view(tea)


@pytest.mark.django_db(transaction=True)
def test_an_async_request_is_recorded_too(audit: Audit, settings: Any) -> None:
    audit(VIEWED)
    tea = Product.objects.create(name="Tea")
    user = User.objects.create_superuser("ada")

    async def look() -> int:
        client = AsyncClient()
        await client.aforce_login(user)
        return (await client.get(f"/admin/app/product/{tea.pk}/change/")).status_code

    with registered(Product, admin.ModelAdmin):
        assert run_async(look()) == 200
    assert views() == [("app.product", str(tea.pk), "ada")]


def test_a_retrieve_of_rest_framework(tea: Product, settings: Any) -> None:
    pytest.importorskip("rest_framework", reason="djangorestframework is not installed")
    settings.ROOT_URLCONF = "tests.viewed_rest_urls"
    user = User.objects.create_superuser("ada")
    client = Client()
    client.force_login(user)
    assert client.get(f"/api/products/{tea.pk}/").json()["name"] == "Tea"
    assert views() == [("app.product", str(tea.pk), "ada")]
    other = Product.objects.create(name="Other")
    assert len(client.get("/api/products/").json()) == 2
    assert client.get("/api/products/7777/").status_code == 404
    assert len(views()) == 1
    assert client.get(f"/api/one/{other.pk}/").status_code == 200
    assert views()[1] == ("app.product", str(other.pk), "ada")


@pytest.mark.parametrize(
    ("rule", "code", "said"),
    [
        (Rule(name="r", model="app.Product", events=["viewed"]), "E011", "'view'"),
        (Rule(name="r", model="app.Product", events=["view"], window="x"), "E021", "duration"),
        (Rule(name="r", model="app.Product", events=["view"], window="0m"), "E021", "duration"),
        (Rule(name="r", model="app.Product", window="1h"), "W001", "has no effect"),
        (Rule(name="r", model="app.Product", events=["view"], when={"stock": "changed"}), "W001", "never match"),
        (Rule(name="r", events=["view"]), "E011", "model"),
    ],
)
def test_check_names_what_is_wrong(audit: Audit, rule: Rule, code: str, said: str) -> None:
    audit(rule)
    found = {str(one.id)[-4:]: f"{one.msg} {one.hint}" for one in check_rules()}
    assert said in found[code]


def test_nothing_is_asked_where_no_rule_wants_it(audit: Audit, client: Client, ada: User) -> None:
    audit({"name": "all", "model": "app.*"})
    category = Category.objects.create(name="c")
    with registered(Category, admin.ModelAdmin), CaptureQueriesContext(connection) as captured:
        assert client.get(f"/admin/app/category/{category.pk}/change/").status_code == 200
    assert not any("django_signal_audit" in query["sql"] for query in captured.captured_queries)
