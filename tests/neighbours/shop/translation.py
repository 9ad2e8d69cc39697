"""What django-modeltranslation is to translate. It finds this module where it is installed."""

from __future__ import annotations

from modeltranslation.translator import TranslationOptions, register

from .models import News


@register(News)
class NewsOptions(TranslationOptions):  # type: ignore[misc]
    fields = ("title",)
