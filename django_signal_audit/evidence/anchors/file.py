"""Appends checkpoints to a file, best on a disk that the database's administrators cannot write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from django_signal_audit.reports.files import open_private

from .base import Anchor, Publication, is_text

_END = "\n\n\n"


class FileAnchor(Anchor):
    """Appends each note to the file that ``path`` names; two empty lines follow each."""

    option_schema = {"path": ("the path of a file", is_text)}
    required = ("path",)

    def publish(self, publication: Publication) -> str:
        """Append the note; it is on the disk when this returns."""
        path = Path(self.options["path"])
        with open(path, "a", encoding="utf-8", opener=open_private) as file:  # Path.open() has no opener
            file.write(publication.note.rstrip("\n") + "\n" + _END[1:])
            file.flush()
            os.fsync(file.fileno())
        return f"{path.name}: {publication.size}"

    def notes(self) -> Iterator[str]:
        """Yield the notes of the file; it isn't there until the first one is."""
        path = Path(self.options["path"])
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for note in text.split(_END):
            if note.strip():
                yield note.strip("\n") + "\n"
