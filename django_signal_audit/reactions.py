"""Reactions: functions for the callable channel."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from django.apps import apps
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import Storage
from django.db import router
from django.db.models import FileField, Q

from .enums import EventType
from .events.values import Digest, Masked
from .exceptions import GiveUp

if TYPE_CHECKING:
    from .channels.base import Message
    from .models import AuditEvent

_ASCII = re.compile(r"[ -~]+")


def delete_files(message: Message) -> None:
    """Delete the files of deleted objects through their fields' storage, except those another row still names.

    Events that are no deletion are left alone. A file that is gone already is fine, so this may run again.

    Raises:
        GiveUp: A file's name is masked or digested in the audit log, or no name of this storage.

    """
    doomed = [item for event in message.events for item in _files(event)]
    for field, name, using in doomed:
        _refuse_odd(field.storage, name)
        if not _is_named(field.storage, name, using):
            _delete(field.storage, name)


def _refuse_odd(storage: Storage, name: str) -> None:
    """Raise GiveUp unless the name is in normal form, and leads to a file in the storage and not through a link."""
    plain = posixpath.normpath(name.replace("\\", "/"))
    if name != plain or name.startswith(("/", "..")) or name == ".":
        msg = f"{name!r} is not the normal form of a file's name, so it may be another file's."
        raise GiveUp(msg)
    path = _path(storage, name)
    if path is None:
        return
    root = os.path.realpath(getattr(storage, "location", None) or Path(path).parent)
    if Path(path).is_dir():
        msg = f"{name!r} is a folder."
        raise GiveUp(msg)
    if os.path.commonpath([root, os.path.realpath(path)]) != root:
        msg = f"{name!r} leads out of the storage by a link."
        raise GiveUp(msg)


def _files(event: AuditEvent) -> Iterator[tuple[FileField, str, str | None]]:
    if event.event_type != EventType.DELETE:
        return
    for key, change in event.field_changes.items():
        field = event.field(key)
        if not isinstance(field, FileField) or not change.old:
            continue
        if isinstance(change.old, (Masked, Digest)):
            msg = f'The name of the file in "{key}" is masked or cut in the audit log, so its file cannot be deleted.'
            raise GiveUp(msg)
        yield field, str(change.old), event._state.db


def _is_named(storage: Storage, name: str, using: str | None) -> bool:
    """Return whether any row of any model still has the file."""
    for model in apps.get_models():
        if model._meta.proxy:
            continue
        # An inherited field is asked for at the model that declares it.
        for field in model._meta.local_fields:
            if isinstance(field, FileField):
                aliases = dict.fromkeys([using, router.db_for_read(model)])
                if any(_is_same(storage, name, field.storage, other) for other in _candidates(field, name, aliases)):
                    return True
    return False


def _candidates(field: FileField, name: str, aliases: Iterable[str | None]) -> Iterator[str]:
    """Yield the names that rows have in a field and that may be other spellings of the name."""
    # Databases do not agree on which letters are equal but for their case, so only ASCII is looked for.
    last = unicodedata.normalize("NFC", posixpath.basename(name).rstrip(". "))
    part = max(_ASCII.findall(last), key=len, default="")
    condition = Q(**{f"{field.name}__icontains": part}) if part else ~Q(**{field.name: ""})
    for alias in aliases:
        rows = field.model._base_manager.using(alias).filter(condition)
        yield from map(str, rows.values_list(field.name, flat=True).distinct().iterator(chunk_size=1000))


def _is_same(storage: Storage, name: str, other: Storage, other_name: str) -> bool:
    """Return whether two names mean the same file, by where they lead."""
    mine, its = _path(storage, name), _path(other, other_name)
    if mine is None or its is None:
        # Two storages may well be the same bucket, and a file too many does less harm than one too few.
        return mine is None and its is None and not _spellings(storage, name).isdisjoint(_spellings(other, other_name))
    if os.path.realpath(mine) == os.path.realpath(its):
        return True
    try:
        return Path(mine).samefile(its)
    except OSError:
        return False


def _spellings(storage: Storage, name: str) -> set[str]:
    """Return what a file of a storage without paths may be called, in it and in a storage that it is part of."""
    return {_folded(name), _folded(f"{getattr(storage, 'location', '') or ''}/{name}")}


def _folded(name: str) -> str:
    plain = posixpath.normpath(name.replace("\\", "/")).strip("/")
    # Some storages drop what a part ends with.
    plain = "/".join(part.rstrip(". ") for part in plain.split("/"))
    return unicodedata.normalize("NFKC", plain.casefold())


def _path(storage: Storage, name: str) -> str | None:
    try:
        return str(storage.path(name))
    except (NotImplementedError, SuspiciousFileOperation, ValueError):
        return None


def _delete(storage: Storage, name: str) -> None:
    try:
        storage.delete(name)
    except FileNotFoundError:
        return  # what was to be reached
    except (SuspiciousFileOperation, ValueError) as error:
        msg = f"{name!r} is no name of this storage: {error}"
        raise GiveUp(msg) from error
