"""Paging through a table that is too long to count."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property

COUNTED = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # generic in the stubs only
    """A paginator that counts to 10,000 and pages through no more: counting a whole log means reading it."""

    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        """Return how many rows can be paged through."""
        return min(self._counted, COUNTED)

    @cached_property
    def is_cut(self) -> bool:
        """Return whether there are more rows than that."""
        return self._counted > COUNTED

    @cached_property
    def _counted(self) -> int:
        return self.object_list.order_by().values("pk")[: COUNTED + 1].count()
