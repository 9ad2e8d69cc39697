"""The setting TENANT: whose an event is, on every path, and that tenants in one table don't mix."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client

from django_signal_audit import history_of, record
from django_signal_audit.checks import check_plugins, check_rules
from django_signal_audit.evidence import leaf, tree
from django_signal_audit.evidence.sealing import seal
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.models import AuditEvent
from django_signal_audit.replay import Replay
from django_signal_audit.retention.holds import hold
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.viewing import record_view

from .app.models import Category, Picture, Product, Room, Shelf, Tag, Thing
from .conftest import EVERYTHING, SAVES_ARE_ONE_STATEMENT, Audit, events, last
from .samples import make_event

pytestmark = pytest.mark.django_db

GOLDEN = Path(__file__).parent / "golden"
now: Any = ""
ROWS = {"app.Product": "category", "app.Picture": "product__category_id", "app.*": ""}


def tenant() -> Any:
    if isinstance(now, Exception):
        raise now
    return now() if callable(now) else now


FUNCTION = f"{__name__}.tenant"


def here(value: Any) -> None:
    global now
    now = value


@pytest.fixture(autouse=True)
def nowhere() -> None:
    here("")


@pytest.fixture
def north() -> Category:
    return Category.objects.create(name="North")


@pytest.fixture
def south() -> Category:
    return Category.objects.create(name="South")


def tenants(**filters: Any) -> list[tuple[str, str]]:
    found = AuditEvent.of_all_tenants.filter(**filters).order_by("id")
    return [(event.event_type, event.tenant) for event in found]


def run(name: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(name, *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def codes() -> dict[str, str]:
    found = [*check_rules(), *check_plugins()]
    return {str(one.id).rpartition(".")[2]: f"{one.msg} {one.hint}" for one in found if "TENANT" in one.msg}


# Whose an event is


def test_every_write_of_a_row_has_the_tenant_that_the_row_names(audit: Audit, north: Category) -> None:
    audit(TENANT=ROWS)
    tag = Tag.objects.create(name="t")
    tea = Product.objects.create(name="Tea", category=north)
    tea.name = "Green tea"
    tea.save()
    Product.objects.filter(pk=tea.pk).update(price=3)
    tea.refresh_from_db()
    tea.stock = 3
    tea.save(update_fields=["stock"])
    tea.price = 4
    Product.objects.bulk_update([tea], ["price"])
    tea.tags.add(tag)
    record("tasted", tea)
    key = str(tea.pk)
    Product.objects.filter(pk=tea.pk).delete()
    kinds = ["create", "update", "update", "update", "update", "m2m", "tasted", "m2m", "delete"]
    found = tenants(object_id=key, model="app.product")
    assert [kind for kind, _ in found if kind != "m2m"] == [kind for kind in kinds if kind != "m2m"]
    assert {name for _, name in found} == {str(north.pk)}
    assert tenants(model="app.tag") == [("create", "")]


@pytest.mark.skipif(not SAVES_ARE_ONE_STATEMENT, reason="the engine of PostgreSQL")
def test_a_column_of_the_row_is_told_in_the_statement_that_writes_it(
    audit: Audit, north: Category, django_assert_num_queries: Any
) -> None:
    audit(TENANT={"app.Category": "pk", "app.Product": "category_id", "app.*": ""})
    Category.objects.create(name="first statements of a connection")
    with django_assert_num_queries(1):
        south = Category.objects.create(name="South")
    with django_assert_num_queries(1):
        Category.objects.filter(pk=south.pk).update(name="s")
    south.name = "south"
    with django_assert_num_queries(1):
        south.save()
    found = tenants(object_id=str(south.pk), model="app.category")
    assert found == [("create", str(south.pk)), ("update", str(south.pk)), ("update", str(south.pk))]


def test_bulk_writes_and_cascades_have_it_row_by_row(audit: Audit, north: Category, south: Category) -> None:
    audit(TENANT=ROWS)
    rows = [Product(name=f"p{number}", category=(north, south, None)[number % 3]) for number in range(6)]
    Product.objects.bulk_create(rows)
    names = [str(north.pk), str(south.pk), ""]
    assert [name for _, name in tenants(model="app.product")] == names * 2
    Product.objects.update(price=5)
    assert [name for _, name in tenants(model="app.product", event_type="update")] == names * 2
    Picture.objects.create(product=Product.objects.filter(category=north)[0])
    assert tenants(model="app.picture") == [("create", str(north.pk))]
    Product.objects.filter(category=north).delete()
    assert tenants(model="app.picture")[1:] == [("delete", str(north.pk))]
    assert tenants(model="app.product", event_type="delete") == [("delete", str(north.pk))] * 2
    south.delete()
    assert tenants(model="app.product", source="cascade")[-2:] == [("update", "")] * 2


def test_a_row_that_moves_belongs_to_the_tenant_that_it_has_after_the_write(
    audit: Audit, north: Category, south: Category
) -> None:
    audit(TENANT=ROWS)
    tea = Product.objects.create(name="Tea", category=north)
    tea.category = south
    tea.save()
    Product.objects.update(category=north)
    Product.objects.update(category=south)
    tea.delete()
    a, b = str(north.pk), str(south.pk)
    assert tenants(model="app.product") == [
        ("create", a), ("update", b), ("update", a), ("update", b), ("delete", b),
    ]  # fmt: skip


def test_the_history_of_a_row_that_moves_stays_whole(audit: Audit, north: Category, south: Category) -> None:
    audit(TENANT=ROWS)
    tea = Product.objects.create(name="Tea", category=north, price=1)
    tea.category = south
    tea.save()
    assert len(history_of(tea)) == 2
    state = AuditEvent.objects.state_of(Product, tea.pk)
    assert state is not None
    assert (state["name"], state["category"]) == ("Tea", south.pk)
    said = run("audit_history", "app.Product", str(tea.pk), "--tenant", str(south.pk), "--at", "0h")
    assert "Tea" in said
    assert "price" in said
    assert "price" not in run("audit_history", "app.Product", str(tea.pk), "--tenant", str(north.pk), "--at", "0h")
    for one in (north, south):
        assert "0 differences" in run("audit_replay", "app.Product", "--check", "--tenant", str(one.pk))


def test_replay_of_a_tenant_compares_its_rows_alone(audit: Audit, north: Category, south: Category) -> None:
    audit(TENANT=ROWS)
    Product.objects.create(name="Tea", category=north)
    Product.objects.create(name="Salt", category=south)
    gone = Product.objects.create(name="Gone", category=south)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE app_product SET stock = 7 WHERE name = 'Salt'")
        cursor.execute("DELETE FROM app_product WHERE id = %s", [gone.pk])
    found = json.loads(run("audit_replay", "app.Product", "--tenant", str(north.pk), "--format", "json"))
    assert (found["differences"], found["rows"]) == ([], 1)
    found = json.loads(run("audit_replay", "app.Product", "--tenant", str(south.pk), "--format", "json"))
    assert {one["field"] for one in found["differences"]} >= {"stock"}
    assert {one["pk"] for one in found["differences"]} == {str(gone.pk), str(Product.objects.get(name="Salt").pk)}


def test_keys_that_foreign_keys_point_to_are_followed(audit: Audit) -> None:
    audit(TENANT={"app.Thing": "shelf__room__name", "app.Shelf": "room", "app.Room": "pk", "app.*": ""})
    room = Room.objects.create(code="r1", name="Attic")
    shelf = Shelf.objects.create(code="s1", room=room)
    thing = Thing.objects.create(shelf=shelf)
    assert tenants(model="app.room") == [("create", str(room.pk))]
    assert tenants(model="app.shelf") == [("create", "r1")]
    assert tenants(model="app.thing") == [("create", "Attic")]
    thing.delete()
    assert tenants(model="app.thing")[1:] == [("delete", "Attic")]


def test_views_and_baselines_have_it(audit: Audit, north: Category) -> None:
    tea = Product.objects.create(name="Tea", category=north)
    AuditEvent.of_all_tenants.filter(model="app.product").prune()
    everything = {"name": "all", "model": "app.*", "events": ["create", "update", "delete", "m2m", "view"]}
    audit(everything, TENANT=ROWS)
    run("audit_baseline", "app.Product")
    record_view(tea)
    assert tenants(model="app.product") == [("baseline", str(north.pk)), ("view", str(north.pk))]


def test_a_starting_point_has_the_tenant_of_what_it_replaces(audit: Audit, north: Category, south: Category) -> None:
    audit(TENANT=ROWS)
    tea = Product.objects.create(name="Tea", category=north)
    Product.objects.update(category=south)
    Product.objects.update(price=2)
    AuditEvent.objects.filter(model="app.product", event_type__in=("create", "update")).order_by("id").filter(
        id__lt=last().pk
    ).prune()
    first = AuditEvent.objects.filter(model="app.product").order_by("id")[0]
    assert (first.source, first.tenant) == ("baseline", str(south.pk))
    assert "0 differences" in run("audit_replay", "app.Product", "--check")
    assert AuditEvent.objects.state_of(Product, tea.pk) is not None


# The function


def test_a_function_is_asked_for_every_event_wherever_it_comes_from(audit: Audit) -> None:
    audit(TENANT=FUNCTION)
    here("north")
    tag = Tag.objects.create(name="t")
    tea = Product.objects.create(name="Tea")
    Product.objects.bulk_create([Product(name="Salt"), Product(name="Milk")])
    Product.objects.update(price=2)
    tea.tags.add(tag)
    record("opened")
    here("south")
    Product.objects.all().delete()
    assert {name for kind, name in tenants() if kind != "delete"} == {"north"}
    assert {name for kind, name in tenants(event_type="delete")} == {"south"}


def test_who_is_in_a_tenant_reads_its_events_alone(audit: Audit) -> None:
    audit(TENANT=FUNCTION)
    here("north")
    tea = Product.objects.create(name="Tea", price=1)
    here("south")
    record("opened", tea)
    Product.objects.filter(pk=tea.pk).update(price=9)
    assert len(history_of(tea)) == 1
    here("north")
    state = AuditEvent.objects.state_of(Product, tea.pk)
    assert state is not None
    assert state["price"] == 1
    assert [event.event_type for event in AuditEvent.objects.for_object(tea)] == ["create"]
    assert "opened" not in run("audit_report", "--by", "event")
    assert "opened" in run("audit_report", "--by", "event", "--tenant", "south")
    assert "opened" not in run("audit_export")
    here("")
    assert {event.tenant for event in AuditEvent.objects.all()} >= {"north", "south"}
    said = run("audit_report", "--by", "tenant", "--format", "csv")
    assert "north" in said
    assert "south" in said


def test_prunes_take_a_tenants_events_and_leave_each_its_starting_point(audit: Audit) -> None:
    audit(TENANT=FUNCTION)
    for name, price in (("north", 1), ("south", 5)):
        here(name)
        # As if each had a table of its own: the same key in both.
        tea = Product(pk=77, name=name, price=price)
        with transaction.atomic():
            tea.save(force_insert=True)
            Product.objects.update(stock=price)
            connection.cursor().execute("DELETE FROM app_product WHERE id = 77")
    here("")
    AuditEvent.objects.filter(object_id="77").prune()
    here("north")
    state = AuditEvent.objects.state_of(Product, 77)
    assert state is not None
    assert (state["name"], state["stock"]) == ("north", 1)
    here("south")
    state = AuditEvent.objects.state_of(Product, 77)
    assert state is not None
    assert (state["name"], state["stock"]) == ("south", 5)
    run("audit_prune", "--keep-last", "1")
    assert "north" in {name for _, name in tenants(object_id="77")}


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_hold_keeps_the_events_of_every_tenant_that_the_row_was_of(
    audit: Audit, north: Category, south: Category, is_gone: bool
) -> None:
    audit(TENANT=ROWS)
    tea = Product.objects.create(name="Tea", category=north)
    key = tea.pk
    Product.objects.update(price=2)
    Product.objects.update(category=south)
    Product.objects.update(price=3)
    if is_gone:
        tea.delete()
    before = tenants(model="app.product")
    hold(Product, key, "Case 7")
    for one in (north, south):
        assert run("audit_prune", "--keep-last", "1", "--tenant", str(one.pk)) == "0 events pruned.\n"
    assert tenants(model="app.product")[: len(before)] == before


def test_a_hold_without_a_tenant_counts_for_all_and_one_of_a_tenant_for_its_rows(audit: Audit) -> None:
    audit(TENANT=FUNCTION)
    for name in ("north", "south"):
        here(name)
        for key in ("1", "2"):
            make_event(model="app.product", object_id=key, tenant=name)
    hold(Product, "1", "Case 7")  # of the south
    here("")
    hold(Product, "2", "Case 8")
    for name in ("north", "south"):
        here(name)
        AuditEvent.objects.filter(event_type="update").prune()
    found = AuditEvent.of_all_tenants.filter(event_type="update").order_by("id")
    assert [(event.tenant, event.object_id) for event in found] == [("north", "2"), ("south", "1"), ("south", "2")]


@pytest.mark.parametrize("said", [ValueError("secret 4711"), 3, TypeError("no")])
def test_a_function_that_fails_breaks_no_write_and_the_event_says_so(
    audit: Audit, said: Any, caplog: pytest.LogCaptureFixture
) -> None:
    audit(TENANT=FUNCTION)
    here(said)
    Product.objects.create(name="Tea")
    here("")
    event = last()
    assert (event.event_type, event.tenant) == ("create", "")
    assert FUNCTION in event.context["tenant_error"]
    assert "4711" not in str(event.context)
    assert 'SIGNAL_AUDIT["TENANT"]' in caplog.text


def test_a_function_whose_query_fails_leaves_the_transaction_whole(audit: Audit) -> None:
    audit(TENANT=FUNCTION)

    def broken() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM no_such_table")
        return "never"

    here(broken)
    with transaction.atomic():
        Product.objects.create(name="Tea")
        assert Product.objects.count() == 1
    here("")
    assert "tenant_error" in last().context


def test_a_function_that_writes_and_reads_the_log_is_not_asked_for_that(audit: Audit) -> None:
    audit(TENANT=FUNCTION)

    def busy() -> str:
        AuditEvent.objects.count()
        Tag.objects.create(name="asked")
        return "north"

    here(busy)
    Product.objects.create(name="Tea")
    here("")
    assert set(tenants(model="app.product")) == {("create", "north")}
    assert set(tenants(model="app.tag")) == {("create", "")}


def test_a_failing_function_shows_nobody_elses_events(audit: Audit) -> None:
    audit(TENANT=FUNCTION)
    here("north")
    Product.objects.create(name="Tea")
    here(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        AuditEvent.objects.count()
    here("")


def test_capitals_and_blanks_make_another_tenant(audit: Audit) -> None:
    audit(TENANT=FUNCTION)
    for name in ("a", "A", "a "):
        here(name)
        Tag.objects.create(name=name)
    for name in ("a", "A", "a "):
        here(name)
        assert AuditEvent.objects.count() == 1
        assert AuditEvent.of_all_tenants.for_tenant(name).count() == 1


# Pages


def test_pages_show_search_and_count_one_tenant(audit: Audit, client: Client) -> None:
    audit(TENANT=FUNCTION)
    here("north")
    Product.objects.create(name="Tea of the north")
    here("south")
    Product.objects.create(name="Salt of the south")
    here("")
    client.force_login(User.objects.create_superuser("ada"))
    page = "/admin/django_signal_audit/auditevent/"
    found = client.get(page, {"q": "tenant:north model:product"}).content.decode()
    assert "Tea of the north" in found
    assert "Salt of the south" not in found
    assert "Salt of the south" not in client.get(page, {"tenant": "north"}).content.decode()
    event = AuditEvent.objects.get(tenant="south", model="app.product")
    shown = client.get(f"{page}{event.pk}/change/").content.decode()
    assert "tenant=south" in shown
    here("north")
    assert client.get(f"{page}{event.pk}/change/").status_code in (302, 404)
    for path in (page, f"{page}dashboard/", f"{page}?q=Salt"):
        found = client.get(path).content.decode()
        assert "Salt of the south" not in found
    assert "Tea of the north" in client.get(page).content.decode()


# The settings


@pytest.mark.parametrize(
    ("value", "code", "said"),
    [
        ("tests.test_tenants.nothing", "E086", "cannot import"),
        ("tests.test_tenants.here", "E086", "without arguments"),
        ({"app.Prodct": "category"}, "E087", "app.Product"),
        ({"app.Product": "categry"}, "E088", "category"),
        ({"app.Product": "name__x"}, "E088", 'End the path with "name"'),
        ({"app.Product": "tags"}, "E088", "no column 'tags'"),
        ({"app.Product": "api_token"}, "E089", "masked"),
        ({"app.*": "api_token"}, "E089", "masked"),
        ({"app.*": "nothing_has_it"}, "E088", "nothing_has_it"),
        ({"app.product": "category", "app.Product": "name"}, "E091", "means the same as 'app.product'"),
        ({"app.Product": "category"}, "W087", "no tenant"),
        (3, "E001", "dotted path"),
    ],
)
def test_mistakes_are_named(audit: Audit, value: Any, code: str, said: str) -> None:
    audit(*EVERYTHING, TENANT=value)
    found = codes()
    assert any(said in text for text in found.values()), found
    if code != "E001":
        assert said in found[code]


def test_a_right_setting_has_no_mistakes(audit: Audit) -> None:
    audit(TENANT=ROWS)
    assert codes() == {}
    audit(TENANT=FUNCTION)
    assert codes() == {}


def test_a_masked_column_names_no_tenant(audit: Audit) -> None:
    audit(TENANT={"app.Product": "api_token"})
    Product.objects.create(name="Tea", api_token="hunter2")
    assert last().tenant == ""


def test_explain_tells_where_the_tenant_comes_from(audit: Audit) -> None:
    audit(TENANT=ROWS)
    found = json.loads(run("audit_rules", "--explain", "app.Picture", "update", "--format", "json"))
    assert found["tenant"] == [{"tenant": "the row's product__category", "pattern": "app.Picture"}]
    audit(TENANT=FUNCTION)
    found = json.loads(run("audit_rules", "--explain", "app.Picture", "update", "--format", "json"))
    assert FUNCTION in found["tenant"][0]["tenant"]


def test_without_the_setting_nothing_is_asked_and_no_query_is_added(
    audit: Audit, django_assert_num_queries: Any
) -> None:
    audit()
    Tag.objects.create(name="a")
    with django_assert_num_queries(0):
        assert get_registry().plan_for(Product).tenant is None  # type: ignore[union-attr]
        assert AuditEvent.objects.all().query.where.children == []


# Evidence


def test_every_golden_leaf_with_a_tenant_has_its_hash_for_ever() -> None:
    lines = (GOLDEN / "leaves_2.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    for line in lines:
        golden = leaf.decode(line)
        text = leaf.leaf_text(golden["event"], golden["commitments"])
        assert text == golden["text"]
        assert '"v":2}' in text
        assert tree.leaf_hash(text.encode()).hex() == golden["hash"]


@pytest.mark.parametrize("value", ["", "south", "North"])
def test_the_tenant_of_a_sealed_event_cannot_be_changed_unseen(audit: Audit, value: str) -> None:
    pytest.importorskip("cryptography")
    audit(TENANT=FUNCTION, EVIDENCE={"KEY": "tests.test_evidence_verify.key"})
    here("north")
    Product.objects.create(name="Tea")
    here("")
    Product.objects.create(name="Salt")
    seal("default")
    assert list(Verifier("default").findings()) == []
    event = AuditEvent.objects.get(tenant="north")
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {AuditEvent._meta.db_table} SET tenant = %s WHERE id = %s", [value, event.pk])
    assert str(event.uid) in str(list(Verifier("default").findings()))


def test_replay_of_all_is_true_after_all_that(audit: Audit, north: Category) -> None:
    audit(TENANT={"app.*": "category"})
    Product.objects.create(name="Tea", category=north)
    Category.objects.create(name="x")
    plans = [plan for plan in get_registry().plans.values() if plan.model is Product]
    assert list(Replay(plans, "default").differences()) == []
    assert len(events(tenant=str(north.pk))) == 1
