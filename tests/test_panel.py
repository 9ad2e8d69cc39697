"""``{% audit_history object %}``: the latest changes of an object on any page, for users who may view them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.db import connection
from django.template import Context, RequestContext, Template, TemplateSyntaxError
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.utils.html import strip_tags

from django_signal_audit import audit_context, record

from .app.models import Category, Country, Person, Pizzeria, Place, Product, Tag
from .conftest import Audit
from .model_admins import person_who_may, registered
from .samples import HOSTILE, make_event

pytestmark = pytest.mark.django_db

TAG = "{% load signal_audit %}{% audit_history object %}"


def panel(obj: object, user: Any, template: str = TAG) -> str:
    request = RequestFactory().get("/")
    request.user = user
    return Template(template).render(RequestContext(request, {"object": obj})).strip()


def text(html: str) -> str:
    return re.sub(r"\s+", " ", strip_tags(html)).strip()


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def product(audit: Audit) -> Product:
    audit({"name": "products", "model": "app.Product", "exclude": ["modified"]}, {"name": "asked", "events": ["asked"]})
    product = Product.objects.create(name="Tea", price=Decimal("10.00"), stock=3)
    with audit_context(actor="bruno", reason="Market prices"):
        product.price = Decimal("9.00")
        product.save()
    return product


def test_it_shows_the_change_its_actor_its_reason_and_its_time(product: Product, root: User) -> None:
    shown = text(panel(product, root))
    assert "Price 10.00 → 9.00 −10.0 %" in shown  # noqa: RUF001  # a minus
    assert "bruno, Market prices" in shown
    assert f"{timezone.localtime().day}, " in shown
    assert shown.index("Market prices") < shown.index("Created")


def test_full_history_is_for_those_who_may_open_the_admin(product: Product, root: User) -> None:
    assert f"auditevent/history/app.product/{product.pk}/" in panel(product, root)
    reader = User.objects.create_user("reader")
    reader.user_permissions.set(Permission.objects.filter(codename__in=["view_auditevent", "view_product"]))
    assert "Market prices" in panel(product, reader)
    assert "Full history" not in panel(product, reader)


@pytest.mark.parametrize("permissions", [(), ("view_auditevent",), ("view_product",)])
def test_without_permission_not_even_the_heading_is_there(product: Product, permissions: tuple[str, ...]) -> None:
    reader = User.objects.create_user("reader", is_staff=True)
    reader.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert panel(product, reader) == ""
    assert panel(product, AnonymousUser()) == ""


def test_an_object_without_changes_says_so(audit: Audit, root: User) -> None:
    product = Product.objects.create(name="Tea")
    audit()
    assert "No changes yet." in panel(product, root)


def test_only_changes_are_shown_and_no_views_of_the_object(product: Product, root: User) -> None:
    for _ in range(10):
        record("asked", product)
    shown = panel(product, root)
    assert shown.count("<li>") == 2


def test_the_limit_and_the_fields_are_those_asked_for(product: Product, root: User) -> None:
    for number in range(6):
        product.stock = number + 10
        product.save()
    assert panel(product, root).count("<li>") == 5
    assert panel(product, root, "{% load signal_audit %}{% audit_history object limit=2 %}").count("<li>") == 2
    priced = text(panel(product, root, '{% load signal_audit %}{% audit_history object fields="price, name" %}'))
    assert "Price" in priced
    assert "Stock" not in priced
    assert "No changes" in panel(product, root, '{% load signal_audit %}{% audit_history object fields="weight" %}')


def with_argument(product: Product, user: Any, argument: str, **context: Any) -> str:
    template = f"{{% load signal_audit %}}{{% audit_history object {argument} %}}"
    request = RequestFactory().get("/")
    request.user = user
    return Template(template).render(RequestContext(request, {"object": product, **context}))


@pytest.mark.parametrize("limit", ["1", '"2"', "2.0", "100", "5000", "missing", "none", '""'])
def test_any_whole_number_will_do_as_limit_and_none_is_the_usual_one(product: Product, root: User, limit: str) -> None:
    assert "<li>" in with_argument(product, root, f"limit={limit}", none=None)


@pytest.mark.parametrize("limit", [0, -3, 2.5, "many", "1.5", float("inf"), float("nan"), True, [], {}, object()])
def test_what_is_no_limit_is_refused_for_every_user(product: Product, root: User, limit: object) -> None:
    for user in (root, AnonymousUser()):
        with pytest.raises(TemplateSyntaxError, match="limit must be a whole number of 1 or more, not "):
            with_argument(product, user, "limit=limit", limit=limit)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("prise", r"'prise' isn't a field of app.Product. Did you mean 'price'\?"),
        ("name, prise", "'prise' isn't a field of"),
        ("price stock", "'price stock' isn't a field of"),
        (["name", "category_id"], "'category_id' isn't a field of app.Product. Did you mean 'category'"),
        (["line_items"], "'line_items' isn't a field of app.Product"),
        (["price", 3], "fields must be the names of fields, not 3"),
        (7, "fields must be the names of fields, not 7"),
        ({"price": 1}, "fields must be the names of fields, not "),
    ],
)
def test_what_is_no_field_is_refused_for_every_user(product: Product, root: User, fields: object, message: str) -> None:
    for user in (root, AnonymousUser()):
        with pytest.raises(TemplateSyntaxError, match=message):
            with_argument(product, user, "fields=fields", fields=fields)


@override_settings(DEBUG=False)
def test_a_misspelled_field_is_refused_without_a_request_and_outside_of_debug(product: Product) -> None:
    template = Template('{% load signal_audit %}{% audit_history object fields="prise" %}')
    with pytest.raises(TemplateSyntaxError, match="prise"):
        template.render(Context({"object": product}))


def test_fields_of_parents_and_children_are_known(audit: Audit, root: User) -> None:
    audit({"name": "places", "model": "app.Place"})
    pizzeria = Pizzeria.objects.create(name="Da Gino")
    own = next(field.name for field in Pizzeria._meta.local_concrete_fields if not field.primary_key)
    for obj in (pizzeria, Place.objects.get()):
        assert "Da Gino" in with_argument(obj, root, f'fields="name, {own}"')


@pytest.mark.parametrize("fields", ['"price"', '" price ,"', "listed", "pair", "several"])
def test_fields_are_a_text_or_a_list(product: Product, root: User, fields: str) -> None:
    request = RequestFactory().get("/")
    request.user = root
    kinds = {"listed": ["price"], "pair": ("price", ""), "several": {"price"}, "none": None}
    context = RequestContext(request, {"object": product, **kinds})
    tag = "{% load signal_audit %}{% audit_history object fields=FIELDS %}"
    shown = text(Template(tag.replace("FIELDS", fields)).render(context))
    assert "Price" in shown
    assert "Stock" not in shown
    assert "Stock" in text(Template(tag.replace("FIELDS", "none")).render(context))


class PricesHidden(admin.ModelAdmin):
    exclude = ("price",)


class OwnersOnly(admin.ModelAdmin):
    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).filter(owner=request.user)


def test_fields_that_the_modeladmin_hides_are_hidden(product: Product) -> None:
    ann = person_who_may("ann", "view_product")
    product.name = "Green tea"
    product.save()
    with registered(Product, PricesHidden):
        shown = text(panel(product, ann))
    assert "Green tea" in shown
    assert "9.00" not in shown
    assert "Market prices" not in shown


def test_rows_that_the_modeladmin_hides_are_hidden(audit: Audit) -> None:
    audit()
    ann = person_who_may("ann", "view_person")
    own, foreign = Person.objects.create(name="Own", owner=ann), Person.objects.create(name="Foreign")
    with registered(Person, OwnersOnly):
        assert "Own" in panel(own, ann)
        assert panel(foreign, ann) == ""


def test_without_a_modeladmin_visibility_is_asked(audit: Audit, root: User) -> None:
    audit(VISIBILITY="tests.test_panel.nothing")
    product = Product.objects.create(name="Tea")
    assert "Tea" not in panel(product, person_who_may("ann", "view_product"))


def nothing(user: object, events: Any) -> Any:
    return events.none()


def test_names_of_related_rows_need_one_query_for_all(audit: Audit, root: User) -> None:
    audit()
    product = Product.objects.create(name="Tea")
    queries = []
    for number in (3, 10):
        for _ in range(number):
            product.category = Category.objects.create(name=f"Category {number}")
            product.save()
            product.tags.add(Tag.objects.create(name=f"Tag {number}"))
        with CaptureQueriesContext(connection) as captured:
            shown = panel(product, root, "{% load signal_audit %}{% audit_history object limit=20 %}")
        queries.append(len(captured))
        assert f"Category {number}" in shown
        assert f"Tag {number}" in shown
    assert queries[0] == queries[1] <= 12


def test_hostile_values_are_escaped_and_spelled_out(product: Product, root: User) -> None:
    with audit_context(actor=HOSTILE, reason=HOSTILE):
        product.name = HOSTILE[:50]
        product.save()
    shown = panel(product, root)
    assert "<script>" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\\u202e" in shown


def test_what_sql_left_in_the_columns_breaks_no_page(product: Product, root: User) -> None:
    key = str(product.pk)
    make_event(model="app.product", object_id=key, changes={"price": ["x", {"a": [1]}], "tags": {"added": [1]}})
    make_event(model="app.product", object_id=key, changes=[1], data=[], context="x", rules={})
    make_event(model="app.product", object_id=key, changes={"gone": [1, 2]}, context={"reason": {"a": 1}})
    assert "Market prices" in panel(product, root)


@pytest.mark.parametrize("obj", [None, "", AnonymousUser(), SimpleLazyObject(AnonymousUser), Product, Product()])
def test_nobody_and_nothing_have_no_panel(root: User, obj: object) -> None:
    assert panel(obj, root) == ""
    assert panel(obj, root, "{% load signal_audit %}{% audit_history missing %}") == ""


@pytest.mark.parametrize("obj", ["Tea", 3, [1], 0, {}, Product.objects])
def test_what_is_no_object_is_refused(root: User, obj: object) -> None:
    with pytest.raises(TemplateSyntaxError, match="audit_history %} takes a model instance, not "):
        panel(obj, root)


def test_objects_of_every_kind(audit: Audit, root: User) -> None:
    audit({"name": "places", "model": ["app.Place", "app.Country", "app.Person", "auth.User"]})
    pizzeria = Pizzeria.objects.create(name="Da Gino")
    assert "Da Gino" in panel(pizzeria, root)
    assert "Da Gino" in panel(Place.objects.get(), root)
    country = Country.objects.create(code="a/b ../%", name="Odd")
    assert "Odd" in panel(country, root)
    assert panel(Product(name="unsaved"), root) == ""
    user = User.objects.create(username="ada")
    lazy = SimpleLazyObject(lambda: User.objects.get(pk=user.pk))
    assert "ada" in panel(lazy, root)


def test_a_request_without_a_user_is_shown_nothing(product: Product) -> None:
    context = RequestContext(RequestFactory().get("/"), {"object": product})
    assert Template("{% load signal_audit %}{% audit_history object %}").render(context) == ""


def test_without_a_request_in_the_context_nothing_is_shown(product: Product) -> None:
    assert Template(TAG).render(Context({"object": product})).strip() == ""


@override_settings(ROOT_URLCONF="tests.test_panel")
def test_the_admin_need_not_be_in_the_urls(product: Product, root: User) -> None:
    shown = panel(product, root)
    assert "Market prices" in shown
    assert "Full history" not in shown


urlpatterns: list[Any] = []


def test_another_site_with_the_audit_log_is_asked(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    from django_signal_audit.models import AuditEvent

    staff = admin.AdminSite(name="staff")
    staff.register(AuditEvent, type(admin.site._registry[AuditEvent]))
    staff.register(Product, PricesHidden)
    monkeypatch.delitem(admin.site._registry, AuditEvent)
    assert "9.00" not in text(panel(product, person_who_may("ann", "view_product")))
