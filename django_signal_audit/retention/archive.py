"""The archive: JSON lines that are on the disk before the rows they describe are deleted."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from django.core.files import locks

from django_signal_audit.exceptions import SignalAuditError
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.exports.base import json_line, record_of
from django_signal_audit.reports.files import open_private, why_not

# What every line begins with, so that no other file is taken for an archive.
_BEGINNING = b'{"id": '
_BLOCK = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS


class ArchiveError(SignalAuditError):
    """The archive cannot be used; the message says why."""


class Archive:
    """Appends events to a file, each batch durable when ``add`` returns.

    What a killed process left half-written at the end is cut off when the file is opened: those events have not been
    deleted, so they come again. A name that ends in ``.gz`` makes a gzip file, each batch a member of its own.

    Args:
        path: The file; made if it is not there, readable by its owner alone.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut = 0
        self._is_gzip = path.suffix == ".gz"
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        is_new = not self.path.exists()
        try:
            file = self._file = FileIO(self.path, "a+", opener=open_private)
        except OSError as error:
            msg = f"Cannot write {str(self.path)!r}: {why_not(error)}."
            raise ArchiveError(msg) from error
        try:
            if not locks.lock(file, locks.LOCK_EX | locks.LOCK_NB):
                msg = f"{str(self.path)!r} is being written by another process."
                raise ArchiveError(msg)
            self._cut_torn_end(file)
            if is_new:
                _sync_folder(self.path.parent)
        except BaseException:
            file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, events: Iterable[AuditEvent]) -> None:
        """Write the events, and return when they are on the disk."""
        if self._file is None:
            msg = "Open the archive first: with Archive(path) as archive."
            raise ArchiveError(msg)
        data = memoryview(self._packed("".join(json_line(record_of(event)) for event in events).encode()))
        while data:
            data = data[self._file.write(data) :]
        os.fsync(self._file.fileno())

    def _packed(self, data: bytes) -> bytes:
        return gzip.compress(data) if self._is_gzip else data

    def _cut_torn_end(self, file: FileIO) -> None:
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        whole, beginning = (_whole_members if self._is_gzip else _whole_lines)(file)
        if not (beginning.startswith(_BEGINNING) or _BEGINNING.startswith(beginning)):
            msg = f"{str(self.path)!r} is no archive of audit events. Name another file."
            raise ArchiveError(msg)
        self.cut = size - whole
        if self.cut:
            file.truncate(whole)
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file as durable as what is in it, where the system lets folders be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _whole_lines(file: FileIO) -> tuple[int, bytes]:
    """Return where the last whole line ends, and what the file begins with."""
    beginning = file.read(len(_BEGINNING))
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1, beginning
        end = start
    return 0, beginning


def _whole_members(file: FileIO) -> tuple[int, bytes]:
    """Return where the last whole member of a gzip file ends, and what the file begins with, unpacked."""
    unpacker, whole, position, beginning = zlib.decompressobj(_GZIP), 0, 0, b""
    while block := file.read(_BLOCK):
        while block:
            try:
                unpacked = unpacker.decompress(block)
            except zlib.error:
                return (whole, beginning) if whole else (0, b"?")
            beginning = beginning or unpacked[: len(_BEGINNING)]
            position += len(block) - len(unpacker.unused_data)
            block = unpacker.unused_data
            if unpacker.eof:
                whole, unpacker = position, zlib.decompressobj(_GZIP)
    return whole, beginning
