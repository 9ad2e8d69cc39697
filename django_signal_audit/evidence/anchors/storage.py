"""Saves checkpoints in a Django storage, such as a bucket with object lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import storages

from django_signal_audit.problems import Problem, did_you_mean, shown

from .base import Anchor, Publication, is_text


class StorageAnchor(Anchor):
    """Saves each note as a file of its own in the storage that ``storage`` names in STORAGES."""

    option_schema = {"storage": ("an alias of STORAGES", is_text), "folder": ("the name of a folder", is_text)}

    def problems(self) -> Iterator[Problem]:
        """Report what is wrong with OPTIONS, and a storage that isn't in STORAGES."""
        yield from super().problems()
        alias = self._alias()
        if is_text(alias) and alias not in storages.backends:
            path = f'SIGNAL_AUDIT["EVIDENCE"]["ANCHORS"]["{self.alias}"]["OPTIONS"]["storage"]'
            yield Problem(
                "E068", path, f"is {shown(alias)}, which isn't in STORAGES.", did_you_mean(alias, storages.backends)
            )

    def _alias(self) -> Any:
        return self.options.get("storage", "default")

    def _folder(self) -> str:
        return str(self.options.get("folder", "checkpoints"))

    def publish(self, publication: Publication) -> str:
        """Save the note and return its name."""
        storage = storages[self._alias()]
        return str(storage.save(f"{self._folder()}/{publication.name}", ContentFile(publication.note.encode())))

    def notes(self) -> Iterator[str]:
        """Yield the notes that the storage has."""
        storage, folder = storages[self._alias()], self._folder()
        if not storage.exists(folder):
            return
        for name in sorted(storage.listdir(folder)[1]):
            with storage.open(f"{folder}/{name}") as file:
                yield file.read().decode()
