from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .base import Contender, Run

if TYPE_CHECKING:
    from django.db.models import Model


class SimpleHistory(Contender):
    """Copies the row at every save, and offers functions in place of two bulk calls."""

    name = "django-simple-history"
    distribution = "django-simple-history"
    apps = ("simple_history",)

    def adapt(self, product: type[Model]) -> None:
        """Register the model with its many-to-many field."""
        import simple_history

        simple_history.register(product, m2m_fields=[product._meta.get_field("tags")])

    def logs(self) -> Sequence[type[Model]]:
        """Return the table of copies."""
        from benchmarks.shop.models import Product

        return (Product.history.model,)

    def runs(self) -> Mapping[str, Run]:
        """Return its own bulk calls."""
        from simple_history.utils import bulk_create_with_history, bulk_update_with_history

        from benchmarks.shop.models import Product

        return {
            "bulk_create": lambda rows: bulk_create_with_history(rows, Product),
            "bulk_update": lambda rows: bulk_update_with_history(rows, Product, ["price", "stock"], batch_size=500),
        }
