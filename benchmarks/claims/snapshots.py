"""The packages that keep the whole row after each change."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from .base import Calls, Package, Recorded
from .readings import Snapshots, of_members, submit, tag_names

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.db.models import Model
    from django.test import Client

CONCRETE = ("name", "code", "price", "details", "category_id", "supplier_id")


def _values(row: Any) -> dict[str, Any]:
    return {name.removesuffix("_id"): getattr(row, name) for name in CONCRETE}


class SimpleHistory(Package):
    """A historical model per model, registered in code."""

    name = "django-simple-history"
    apps = ("simple_history",)
    middleware = ("simple_history.middleware.HistoryRequestMiddleware",)

    def register(self, model: type[Model], left_out: Sequence[str] = ()) -> None:
        """Register the model with its many-to-many fields."""
        import simple_history

        simple_history.register(model, m2m_fields=model._meta.local_many_to_many, excluded_fields=list(left_out))

    def logs(self) -> Sequence[type[Model]]:
        """Return both historical models."""
        from .models import Account

        account: Any = Account
        return (self._history().model, account.history.model)

    def _history(self) -> Any:
        from .models import Product

        product: Any = Product
        return product.history

    def records(self, key: int) -> Iterator[Recorded]:
        """Yield the historical rows of a product."""
        kinds = {"+": "create", "~": "update", "-": "delete"}
        rows = Snapshots()
        for row in self._history().filter(id=key).order_by("history_id"):
            tags = tag_names(row.tags.values_list("tag_id", flat=True))
            yield rows.record(kinds[row.history_type], _values(row), tags)

    def actor(self, key: int) -> str:
        """Return the user."""
        row = self._history().filter(id=key).order_by("history_id").last()
        return f"{row.history_user_id} {row.history_user}"

    def admin_class(self) -> type[ModelAdmin[Any]]:
        """Return the admin with its history pages."""
        from simple_history.admin import SimpleHistoryAdmin

        return cast("type[ModelAdmin[Any]]", SimpleHistoryAdmin)

    def restore_in_admin(self, key: int, client: Client) -> object:
        """Save the form of the first historical row."""
        row = self._history().filter(id=key).order_by("history_id").first()
        return submit(client, f"/admin/claims/product/{key}/history/{row.pk}/")

    def own_calls(self) -> Calls:
        """Return its helpers for bulk calls."""
        from simple_history.utils import bulk_create_with_history, bulk_update_with_history

        from .models import Product

        return {
            "bulk_create": lambda rows: bulk_create_with_history(rows, Product),
            "bulk_update": lambda rows: bulk_update_with_history(rows, Product, ["price"]),
        }

    def restore(self, key: int) -> object:
        """Save the first historical row's instance."""
        return self._history().filter(id=key).order_by("history_id").first().instance.save()

    restore_deleted = restore

    def price_at(self, key: int, time: dt.datetime) -> str:
        """Return the price of the row as of a time."""
        return str(self._history().as_of(time).get(id=key).price)

    def table_at(self, time: dt.datetime) -> Iterator[Model]:
        """Return the rows as of a time."""
        return iter(self._history().as_of(time))

    def dearer_than(self, key: int, price: int) -> int:
        """Filter the historical model."""
        return int(self._history().filter(id=key, price__gt=price).count())

    def prune(self) -> object:
        """Delete historical rows by their age."""
        from django.core.management import call_command

        return call_command("clean_old_history", auto=True, days=1, verbosity=0)


class Reversion(Package):
    """Versions of what is saved inside a revision."""

    name = "django-reversion"
    apps = ("reversion",)
    middleware = ("reversion.middleware.RevisionMiddleware",)

    def register(self, model: type[Model], left_out: Sequence[str] = ()) -> None:
        """Register the model; a version like the one before it is left out."""
        import reversion

        reversion.register(model, ignore_duplicates=True, exclude=left_out)

    def logs(self) -> Sequence[type[Model]]:
        """Return its versions."""
        from reversion.models import Version

        return (Version,)

    def doing(self) -> AbstractContextManager[object]:
        """Return a revision."""
        import reversion

        revision: AbstractContextManager[object] = reversion.create_revision()
        return revision

    def _versions(self, key: int) -> Any:
        from reversion.models import Version

        from .models import Product

        return Version.objects.get_for_object_reference(Product, key).order_by("pk")

    def records(self, key: int) -> Iterator[Recorded]:
        """Yield the versions of a product."""
        rows = Snapshots()
        for number, version in enumerate(self._versions(key)):
            fields = json.loads(version.serialized_data)[0]["fields"]
            tags = tag_names(fields.pop("tags", ()))
            yield rows.record("update" if number else "create", fields, tags)

    def actor(self, key: int) -> str:
        """Return the revision's user."""
        revision = self._versions(key).last().revision
        return f"{revision.user_id} {revision.user}"

    def restore(self, key: int) -> object:
        """Revert to the first version."""
        return self._versions(key).first().revert()

    restore_deleted = restore

    def admin_class(self) -> type[ModelAdmin[Any]]:
        """Return the admin with its pages of versions."""
        from reversion.admin import VersionAdmin

        return cast("type[ModelAdmin[Any]]", VersionAdmin)

    def restore_in_admin(self, key: int, client: Client) -> object:
        """Save the form of the first version."""
        version = self._versions(key).first()
        return submit(client, f"/admin/claims/product/{key}/history/{version.pk}/")

    def price_at(self, key: int, time: dt.datetime) -> str:
        """Return the price in the last version before a time."""
        return str(self._versions(key).filter(revision__date_created__lte=time).last().field_dict["price"])

    def prune(self) -> object:
        """Delete revisions by their age."""
        from django.core.management import call_command

        return call_command("deleterevisions", days=1, verbosity=0)


class PgHistory(Package):
    """Triggers and an event model per model, registered in code."""

    name = "django-pghistory"
    apps = ("pgtrigger", "pghistory", "pghistory.admin")
    middleware = ("pghistory.middleware.HistoryMiddleware",)
    settings = {"PGTRIGGER_INSTALL_ON_MIGRATE": False, "PGTRIGGER_MIGRATIONS": False}
    databases = ("postgresql",)
    admin_list = "/admin/pghistory/events/"

    def register(self, model: type[Model], left_out: Sequence[str] = ()) -> None:
        """Track the model and the tables of its many-to-many fields."""
        import pghistory

        written = (pghistory.InsertEvent(), pghistory.UpdateEvent(), pghistory.DeleteEvent())
        pghistory.track(*written, exclude=list(left_out), model_name=f"{model.__name__}Event")(model)
        for field in model._meta.local_many_to_many:
            through = {"obj_field": None, "app_label": "claims", "model_name": "ProductTagsEvent"}
            pghistory.track(pghistory.InsertEvent(), pghistory.DeleteEvent(), **through)(field.remote_field.through)

    def tables_made(self) -> None:
        """Install the triggers."""
        import pgtrigger

        logging.getLogger("pgtrigger").setLevel(logging.WARNING)
        pgtrigger.install()

    def logs(self) -> Sequence[type[Model]]:
        """Return its event models."""
        return tuple(map(self._model, ("ProductEvent", "ProductTagsEvent", "AccountEvent")))

    def _model(self, name: str) -> Any:
        from django.apps import apps

        return apps.get_model("claims", name)

    def doing(self) -> AbstractContextManager[object]:
        """Return a context, which is not needed for the record."""
        import pghistory

        context: AbstractContextManager[object] = pghistory.context(reason="compared")
        return context

    def _events(self, key: int) -> Any:
        return self._model("ProductEvent").objects.filter(pgh_obj_id=key).order_by("pgh_id")

    def records(self, key: int) -> Iterator[Recorded]:
        """Yield the events of a product, then those of its tags."""
        kinds = {"insert": "create", "update": "update", "delete": "delete"}
        rows = Snapshots()
        for event in self._events(key):
            yield rows.record(kinds[event.pgh_label], _values(event))
        for event in self._model("ProductTagsEvent").objects.filter(product_id=key).order_by("pgh_id"):
            yield of_members(tag_names([event.tag_id]), event.pgh_label == "insert")

    def actor(self, key: int) -> str:
        """Return the context of the newest event."""
        context = self._events(key).last().pgh_context
        return str(context.metadata if context else "")

    def restore(self, key: int) -> object:
        """Revert to the first event."""
        return self._events(key).first().revert()

    restore_deleted = restore

    def price_at(self, key: int, time: dt.datetime) -> str:
        """Return the price in the last event before a time."""
        return str(self._events(key).filter(pgh_created_at__lte=time).last().price)

    def dearer_than(self, key: int, price: int) -> int:
        """Filter the event model."""
        return int(self._events(key).filter(price__gt=price).count())
