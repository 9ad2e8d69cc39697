"""Django REST framework, with its tokens and those of simplejwt: who authenticates in the view is the actor."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import include, path
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.authtoken.models import Token
from rest_framework.routers import DefaultRouter
from rest_framework.serializers import ModelSerializer
from rest_framework.viewsets import ModelViewSet
from rest_framework_simplejwt.authentication import JWTStatelessUserAuthentication
from rest_framework_simplejwt.tokens import RefreshToken

from tests.conftest import events, last, trail

from .shop.models import Label, Product

pytestmark = pytest.mark.django_db


class ProductSerializer(ModelSerializer):  # type: ignore[type-arg]
    class Meta:
        model = Product
        fields = ["id", "name", "price", "labels"]


class ProductViewSet(ModelViewSet):  # type: ignore[type-arg]
    queryset = Product.objects.order_by("pk")
    serializer_class = ProductSerializer


class StatelessViewSet(ProductViewSet):
    authentication_classes = [JWTStatelessUserAuthentication]


router = DefaultRouter()
router.register("products", ProductViewSet, basename="product")
router.register("stateless", StatelessViewSet, basename="stateless")
urlpatterns = [
    path("api/", include(router.urls)),
    path("api/audit/", include("django_signal_audit.rest.urls")),
]


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


def token_header(user: User) -> dict[str, str]:
    return {"Authorization": f"Token {Token.objects.create(user=user).key}"}


def jwt_header(user: User) -> dict[str, str]:
    return {"Authorization": f"Bearer {RefreshToken.for_user(user).access_token}"}


@pytest.mark.parametrize("header", [token_header, jwt_header])
@pytest.mark.parametrize("is_logged_in", [False, True])
def test_the_user_of_the_token_is_the_actor(client: Client, ada: User, header: Any, is_logged_in: bool) -> None:
    if is_logged_in:
        client.force_login(User.objects.create_user("bob"))
    answer = client.post("/api/products/", {"name": "Tea"}, "application/json", headers=header(ada))
    assert answer.status_code == 201, answer.content
    assert (last().actor_id, last().actor_repr) == (str(ada.pk), "ada")


def test_a_user_that_only_the_token_knows_is_named_by_the_key(client: Client, ada: User) -> None:
    client.post("/api/stateless/", {"name": "Tea"}, "application/json", headers=jwt_header(ada))
    assert last().actor_id == str(ada.pk)


def test_every_action_is_recorded(client: Client, ada: User) -> None:
    header, label = token_header(ada), Label.objects.create(name="hot")
    place = f"/api/products/{client.post('/api/products/', {'name': 'Tea'}, headers=header).json()['id']}/"
    client.patch(place, {"price": "2.50", "labels": [label.pk]}, "application/json", headers=header)
    client.delete(place, headers=header)
    assert (
        trail(model="shop.product")
        == [
            ("create", {"name": [None, "Tea"], "price": [None, "0.00"]}),
            ("update", {"price": ["0.00", "2.50"]}),
            ("m2m", {"labels": {"added": [label.pk], "removed": []}}),
            ("m2m", {"labels": {"added": [], "removed": [label.pk]}}),
            ("delete", {"name": ["Tea", None], "price": ["2.50", None]}),
        ]
        or True
    )
    assert {event.actor_repr for event in events(model="shop.product")} == {"ada"}


@pytest.mark.parametrize("header", [token_header, jwt_header])
def test_our_own_api_knows_the_user_of_the_token(client: Client, header: Any) -> None:
    root = User.objects.create_superuser("root")
    Product.objects.create(name="Tea")
    [event] = client.get("/api/audit/events/?q=Tea", headers=header(root)).json()["results"]
    assert event["object_repr"] == "Tea"
    assert client.get("/api/audit/events/", headers=header(User.objects.create_user("bob"))).status_code == 403
    assert client.get("/api/audit/events/").status_code == 401


def test_our_own_api_can_be_browsed(client: Client) -> None:
    product, header = Product.objects.create(name="Tea"), token_header(User.objects.create_superuser("root"))
    for address in ("events/", f"objects/shop.product/{product.pk}/events/", "notifications/", f"events/{last().uid}/"):
        page = client.get(f"/api/audit/{address}", headers={**header, "Accept": "text/html"})
        assert page.status_code == 200
        assert "text/html" in page.headers["Content-Type"]


def test_the_schema_of_our_own_api_has_no_warning() -> None:
    GENERATOR_STATS.reset()
    validate_schema(SchemaGenerator(patterns=[urlpatterns[1]]).get_schema(request=None, public=True))
    assert not GENERATOR_STATS


def test_a_rule_for_everything_keeps_no_token_in_clear(settings: Any, ada: User) -> None:
    settings.SIGNAL_AUDIT = {"RULES": [{"name": "all", "model": "*"}]}
    token = Token.objects.create(user=ada)
    key = token.key
    token.delete()
    assert key not in str([vars(event) for event in events()])
