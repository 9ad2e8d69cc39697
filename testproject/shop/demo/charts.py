"""Pictures of prices, small and real, for the products' pages."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from io import BytesIO

from django.core.files.base import ContentFile
from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN = 600, 400, 24
PAPER, INK = "#f1ece2", "#7a3e12"


def chart(prices: Sequence[Decimal], name: str) -> ContentFile[bytes]:
    """Return a PNG file with the line of the prices."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    ImageDraw.Draw(picture).line(_points(prices), fill=INK, width=4, joint="curve")
    content = BytesIO()
    picture.save(content, "PNG")
    return ContentFile(content.getvalue(), name=name)


def _points(prices: Sequence[Decimal]) -> list[tuple[float, float]]:
    top = float(max(prices))
    step = (WIDTH - 2 * MARGIN) / (len(prices) - 1)
    scale = (HEIGHT - 2 * MARGIN) / top
    return [(MARGIN + step * index, HEIGHT - MARGIN - scale * float(price)) for index, price in enumerate(prices)]
