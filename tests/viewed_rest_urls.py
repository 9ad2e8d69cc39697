"""A REST API of the tests' products."""

from __future__ import annotations

from typing import Any

from django.urls import include, path
from rest_framework import generics, routers, serializers, viewsets

from .app.models import Product
from .urls import urlpatterns as others


class ProductSerializer(serializers.ModelSerializer[Product]):
    class Meta:
        model = Product
        fields = ("id", "name")


class ProductViewSet(viewsets.ModelViewSet[Product]):
    queryset = Product.objects.order_by("id")
    serializer_class = ProductSerializer


class OneProduct(generics.RetrieveAPIView[Product]):
    queryset = Product.objects.order_by("id")
    serializer_class = ProductSerializer


router: Any = routers.SimpleRouter()
router.register("products", ProductViewSet)
urlpatterns = [path("api/", include(router.urls)), path("api/one/<int:pk>/", OneProduct.as_view()), *others]
