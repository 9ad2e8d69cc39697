"""Text that isn't UTF-8, which SQL can write on SQLite: its driver then raises for the whole statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Self, TypeVar

from django.db import OperationalError, connections, models

_T = TypeVar("_T")
_Row = TypeVar("_Row", bound=models.Model, covariant=True)


def is_undecodable(error: Exception) -> bool:
    """Return whether the driver could not read a text."""
    return isinstance(error, OperationalError) and "Could not decode to UTF-8" in str(error)


@contextmanager
def decoding(using: str, decode: Callable[[bytes], object]) -> Iterator[None]:
    """Have texts read by a function within the block."""
    raw = connections[using].connection
    former, raw.text_factory = raw.text_factory, decode
    try:
        yield
    finally:
        raw.text_factory = former


def read(using: str, function: Callable[[], _T], decode: Callable[[bytes], object]) -> _T:
    """Return what a function reads; once more, with texts read by another one, if the driver can't read one of them."""
    try:
        return function()
    except OperationalError as error:
        if not is_undecodable(error):
            raise
    with decoding(using, decode):
        return function()


def readable(data: bytes) -> str:
    """Return a text for people: what isn't UTF-8 is replaced."""
    return data.decode("utf-8", "replace")


class ReadableQuerySet(models.QuerySet[_Row]):
    """A queryset whose rows can be read whatever SQL wrote: it must not take a page of the log away."""

    def read_by(self, decode: Callable[[bytes], object]) -> Self:
        """Return the rows, read, with texts that aren't UTF-8 as a function gives them."""
        rows = self.all()
        read(self.db, super(ReadableQuerySet, rows)._fetch_all, decode)
        return rows

    def _fetch_all(self) -> None:
        read(self.db, super()._fetch_all, readable)

    def iterator(self, chunk_size: int | None = None) -> Iterator[_Row]:
        """Return the rows one by one, like Django's."""
        done = 0
        try:
            for row in super().iterator(chunk_size):
                yield row
                done += 1
        except OperationalError as error:
            if not is_undecodable(error):
                raise
            with decoding(self.db, readable):
                yield from islice(super().iterator(chunk_size), done, None)
