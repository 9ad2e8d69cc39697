"""Reactions: functions for the callable channel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import Storage
from django.db import router
from django.db.models import FileField

from .enums import EventType
from .exceptions import GiveUp
from .values import Digest, Masked

if TYPE_CHECKING:
    from .channels.base import Message
    from .models import AuditEvent


def delete_files(message: Message) -> None:
    """Delete the files of deleted objects through their fields' storage, except those another row still names.

    Events that are no deletion are left alone. A file that is gone already is fine, so this may run again.

    Raises:
        GiveUp: A file's name is masked or digested in the trail, or no name of this storage.

    """
    doomed = [item for event in message.events for item in _files(event)]
    for field, name, using in doomed:
        if not _is_named(field.storage, name, using):
            _delete(field.storage, name)


def _files(event: AuditEvent) -> Iterator[tuple[FileField, str, str | None]]:
    if event.event_type != EventType.DELETE:
        return
    for key, change in event.field_changes.items():
        field = event.field(key)
        if not isinstance(field, FileField) or not change.old:
            continue
        if isinstance(change.old, (Masked, Digest)):
            msg = f'The name of the file in "{key}" is not in the trail in clear, so the file cannot be deleted.'
            raise GiveUp(msg)
        yield field, str(change.old), event._state.db


def _is_named(storage: Storage, name: str, using: str | None) -> bool:
    """Tell whether any row of any model still has the file."""
    for model in apps.get_models():
        if model._meta.proxy:
            continue
        # An inherited field is asked for at the model that declares it.
        for field in model._meta.local_fields:
            if not isinstance(field, FileField) or not _is_same_place(field.storage, storage, name):
                continue
            for alias in dict.fromkeys([using, router.db_for_read(model)]):
                if model._base_manager.using(alias).filter(**{field.name: name}).exists():
                    return True
    return False


def _is_same_place(one: Storage, other: Storage, name: str) -> bool:
    """Tell whether a name means the same file in both storages."""
    if one == other:
        return True
    mine, its = _path(one, name), _path(other, name)
    return mine is not None and mine == its


def _path(storage: Storage, name: str) -> Any:
    try:
        return storage.path(name)
    except (NotImplementedError, SuspiciousFileOperation):
        return None


def _delete(storage: Storage, name: str) -> None:
    try:
        storage.delete(name)
    except FileNotFoundError:
        return  # what was to be reached
    except SuspiciousFileOperation as error:
        msg = f"{name!r} is no name of this storage: {error}"
        raise GiveUp(msg) from error
