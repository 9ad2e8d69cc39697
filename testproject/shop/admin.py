"""The shop in the admin; each change form gets its audit history by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

from .models import Category, Product, ProductImage, Tag

if TYPE_CHECKING:
    ProductAdminBase = admin.ModelAdmin[Product]
    ImageInlineBase = admin.TabularInline[ProductImage, Product]
else:
    # Django's own classes cannot be subscripted at run time.
    ProductAdminBase = admin.ModelAdmin
    ImageInlineBase = admin.TabularInline


class ProductImageInline(ImageInlineBase):
    model = ProductImage
    extra = 0


@admin.register(Product)
class ProductAdmin(ProductAdminBase):
    list_display = ["name", "category", "price", "stock", "is_active", "views"]
    list_filter = ["category", "is_active", "tags"]
    list_editable = ["stock"]
    list_select_related = ["category"]
    search_fields = ["name", "sku"]
    filter_horizontal = ["tags"]
    readonly_fields = ["views", "created", "modified"]
    inlines = [ProductImageInline]


admin.site.register([Category, Tag])
