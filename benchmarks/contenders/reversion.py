from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .base import Contender, Run

if TYPE_CHECKING:
    from django.db.models import Model


class Reversion(Contender):
    """Keeps versions of what is saved inside a revision: each operation is one."""

    name = "django-reversion"
    distribution = "django-reversion"
    apps = ("reversion",)

    def adapt(self, product: type[Model]) -> None:
        """Register the model with all its fields."""
        import reversion

        reversion.register(product)

    def logs(self) -> Sequence[type[Model]]:
        """Return its versions."""
        from reversion.models import Version

        return (Version,)

    def around(self, run: Run) -> Run:
        """Return the operation inside a revision."""
        import reversion

        def in_revision(subject: Any) -> None:
            with reversion.create_revision():
                run(subject)

        return in_revision
