from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from .base import Contender

if TYPE_CHECKING:
    from django.db.models import Model


class PgHistory(Contender):
    """Triggers for every row, with a context, as its middleware would give one."""

    name = "django-pghistory"
    distribution = "django-pghistory"
    apps = ("pgtrigger", "pghistory")
    settings = {"PGTRIGGER_INSTALL_ON_MIGRATE": False, "PGTRIGGER_MIGRATIONS": False}
    databases = ("postgresql",)

    def options(self) -> dict[str, Any]:
        """Return how the triggers fire."""
        return {}

    def adapt(self, product: type[Model]) -> None:
        """Track the model and the table of its many-to-many field."""
        import pghistory

        written = (pghistory.InsertEvent(), pghistory.UpdateEvent(), pghistory.DeleteEvent())
        pghistory.track(*written, **self.options())(product)
        pghistory.track(
            pghistory.InsertEvent(), pghistory.DeleteEvent(), obj_field=None, app_label="shop", **self.options()
        )(product.tags.through)

    def tables_made(self) -> None:
        """Install the triggers."""
        import pgtrigger

        logging.getLogger("pgtrigger").setLevel(logging.WARNING)
        pgtrigger.install()

    def logs(self) -> Sequence[type[Model]]:
        """Return both event models."""
        from django.apps import apps
        from pghistory.models import Event

        return [model for model in apps.get_app_config("shop").get_models() if issubclass(model, Event)]

    def session(self) -> AbstractContextManager[object]:
        """Return a context with a user."""
        import pghistory

        return pghistory.context(user=1, url="/products/")


class PgHistoryStatements(PgHistory):
    """Triggers for every statement."""

    name = "django-pghistory, statement triggers"

    def options(self) -> dict[str, Any]:
        """Return the level of the triggers."""
        import pgtrigger

        return {"level": pgtrigger.Statement}
