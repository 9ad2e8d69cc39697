"""The pages of the shop."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from .models import Product
from .signals import product_viewed


@require_safe
def product_list(request: HttpRequest) -> HttpResponse:
    """Show what is for sale."""
    products = Product.objects.filter(is_active=True).select_related("category").prefetch_related("images")
    return render(request, "shop/product_list.html", {"products": products})


@require_safe
def product_page(request: HttpRequest, sku: str) -> HttpResponse:
    """Show one product with its history, and tell who listens that it was viewed."""
    products = Product.objects.select_related("category").prefetch_related("images", "tags")
    product = get_object_or_404(products, sku=sku, is_active=True)
    product_viewed.send(sender=Product, instance=product, user=request.user)
    return render(request, "shop/product_page.html", {"product": product})
