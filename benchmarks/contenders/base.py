"""What a contender says about itself. Its modules are imported in its own process only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from django.db.models import Manager, Model

Run = Callable[[Any], object]


class Contender:
    """One package, set up as its documentation says, with everything that is not needed switched off."""

    name: ClassVar[str]
    distribution: ClassVar[str]
    apps: ClassVar[Sequence[str]] = ()
    settings: ClassVar[Mapping[str, Any]] = {}
    databases: ClassVar[Sequence[str]] = ("sqlite", "postgresql")

    @property
    def version(self) -> str | None:
        """Return the installed version, None if it is not installed."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def manager(self) -> Manager[Any]:
        """Return the manager of the audited model."""
        from django.db.models import Manager

        return Manager()

    def adapt(self, product: type[Model]) -> None:
        """Tell the package to watch all fields of the model; called while models are loaded."""

    def tables_made(self) -> None:
        """Do what has to follow the migrations."""

    def logs(self) -> Sequence[type[Model]]:
        """Return the models whose rows are the package's log."""
        return ()

    def logged(self) -> int:
        """Return the number of rows in the log."""
        return sum(model._base_manager.count() for model in self.logs())

    def runs(self) -> Mapping[str, Run]:
        """Return what replaces the plain call of an operation where the package has a call of its own for it."""
        return {}

    def around(self, run: Run) -> Run:
        """Return one operation as a program that uses the package would call it."""
        return run

    def session(self) -> AbstractContextManager[object]:
        """Return what the package wants entered once around a request's work."""
        return nullcontext()
