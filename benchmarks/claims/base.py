"""How a package is set up and asked what it has recorded, in terms that fit all of them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.db.models import Manager, Model
    from django.test import Client

# A call of the package's own that a program can use in place of Django's, by the name of Django's.
Calls = Mapping[str, Callable[..., object]]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One record about a product: the values by field as text, and the names of tags that were added or removed."""

    kind: str
    new: Mapping[str, str] = field(default_factory=dict)
    old: Mapping[str, str] = field(default_factory=dict)
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


def other_than_django(requirements: Iterable[str]) -> list[str]:
    """Return the names of required packages, without Django's."""
    names = [re.split(r"[^\w.-]", item)[0] for item in requirements]
    return sorted(name for name in names if name.lower() != "django")


class Package:
    """One package, set up as its documentation says, with the options that help it."""

    name: ClassVar[str]
    apps: ClassVar[Sequence[str]] = ()
    middleware: ClassVar[Sequence[str]] = ()
    settings: ClassVar[Mapping[str, Any]] = {}
    databases: ClassVar[Sequence[str]] = ("postgresql", "sqlite")
    # Whether models can be registered in code too, where settings are enough.
    has_registry: ClassVar[bool] = False
    # The page of its admin that lists the records of all models.
    admin_list: ClassVar[str] = ""

    @property
    def version(self) -> str:
        """Return the installed version."""
        return metadata.version(self.name)

    def requirements(self) -> list[str]:
        """Return the packages that it needs beside Django."""
        return other_than_django(item for item in metadata.requires(self.name) or () if "extra ==" not in item)

    def admin_class(self) -> type[ModelAdmin[Any]]:
        """Return the admin class of the audited model."""
        from django.contrib.admin import ModelAdmin

        return ModelAdmin

    def manager(self) -> Manager[Any]:
        """Return the manager of the audited model."""
        from django.db.models import Manager

        return Manager()

    def register(self, model: type[Model], left_out: Sequence[str] = ()) -> None:
        """Register a model in code, without some of its fields; not overridden where settings are enough."""

    def tables_made(self) -> None:
        """Do what has to follow the migrations."""

    def logs(self) -> Sequence[type[Model]]:
        """Return the models whose rows are its records."""
        raise NotImplementedError

    def doing(self) -> AbstractContextManager[object]:
        """Return what has to surround the code that writes."""
        return nullcontext()

    def records(self, key: int) -> Iterator[Recorded]:
        """Yield the records about a product, oldest first."""
        raise NotImplementedError

    def actor(self, key: int) -> str:
        """Return all that the newest record about a product says about who acted."""
        raise NotImplementedError

    def own_calls(self) -> Calls:
        """Return what replaces Django's calls."""
        return {}

    def restore(self, key: int) -> object:
        """Restore the first version of a product that exists."""
        raise NotImplementedError

    def restore_deleted(self, key: int) -> object:
        """Restore a product that was deleted."""
        raise NotImplementedError

    def restore_in_admin(self, key: int, client: Client) -> object:
        """Undo the newest change of a product on the pages of the admin, for the client's user."""
        raise NotImplementedError

    def price_at(self, key: int, time: dt.datetime) -> str:
        """Return the price of a product at a time."""
        raise NotImplementedError

    def table_at(self, time: dt.datetime) -> Iterator[Model]:
        """Return the products as they were at a time."""
        raise NotImplementedError

    def dearer_than(self, key: int, price: int) -> int:
        """Return how many versions of a product were dearer, as the database counts them."""
        raise NotImplementedError

    def logins(self) -> int:
        """Return the number of recorded logins."""
        raise NotImplementedError

    def notified(self) -> int:
        """Return how many messages were sent about changes."""
        raise NotImplementedError

    def prune(self) -> object:
        """Delete old records by the package's command."""
        raise NotImplementedError
