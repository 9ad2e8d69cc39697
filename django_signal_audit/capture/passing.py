"""Statements that pass the hook at the query compilers unseen."""

from __future__ import annotations

from contextvars import ContextVar

# Set while statements run that somebody else records.
passing: ContextVar[bool] = ContextVar("django_signal_audit_passing", default=False)


class bypass_capture:  # noqa: N801  # reads as the statement it is: with bypass_capture()
    """Lets the statements of a block pass unseen."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        """Begin the block."""
        self._token = passing.set(True)

    def __exit__(self, *_: object) -> None:
        """End the block."""
        passing.reset(self._token)
