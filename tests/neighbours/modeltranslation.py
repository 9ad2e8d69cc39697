"""django-modeltranslation: each language is a column, and a field of the event."""

from __future__ import annotations

import pytest
from django.utils.translation import override

from tests.conftest import trail

from .shop.models import News

pytestmark = pytest.mark.django_db


def test_each_language_is_a_field() -> None:
    news = News.objects.create(title_en="tea", title_de="Tee")
    news.title_de = "Grüner Tee"
    news.save()
    assert trail()[-1] == ("update", {"title_de": ["Tee", "Grüner Tee"]})
    with override("de"):
        news.title = "Schwarzer Tee"
        news.save()
    assert trail()[-1][1]["title_de"] == ["Grüner Tee", "Schwarzer Tee"]
    with override("de"):
        News.objects.update(title="Weißer Tee")
    assert trail()[-1][1]["title_de"] == ["Schwarzer Tee", "Weißer Tee"]
    news.refresh_from_db()
    news.delete()
    assert trail()[-1][0] == "delete"
