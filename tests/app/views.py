from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render

from testproject.shop.models import Product as ShopProduct

from .models import Category


def create(request: HttpRequest, name: str) -> HttpResponse:
    Category.objects.create(name=name)
    return HttpResponse("ok")


async def acreate(request: HttpRequest, name: str) -> HttpResponse:
    await asyncio.sleep(0.01)
    await Category.objects.acreate(name=name)
    return HttpResponse("ok")


def stream(request: HttpRequest, name: str) -> StreamingHttpResponse:
    def body() -> Iterator[bytes]:
        yield b"a"
        Category.objects.create(name=name)
        yield b"b"

    return StreamingHttpResponse(body())


async def astream(request: HttpRequest, name: str) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        await Category.objects.acreate(name=name)
        yield b"b"

    return StreamingHttpResponse(body())


def token(request: HttpRequest, name: str) -> HttpResponse:
    """Authenticate inside the view, as Django REST framework does."""
    request.user = get_user_model().objects.get(username=request.headers["X-Token"])
    Category.objects.create(name=name)
    return HttpResponse("ok")


def fail(request: HttpRequest) -> HttpResponse:
    msg = "no"
    raise ValueError(msg)


def product_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a product of the shop, also one that isn't sold, without counting that."""
    return render(request, "shop/product_page.html", {"product": get_object_or_404(ShopProduct, pk=pk)})
