"""The project's own answer to who may see which events: the function that VISIBILITY in the settings names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from django.utils.module_loading import import_string

from django_signal_audit.conf import get_settings, is_unread, on_settings_changed

logger = logging.getLogger(__name__)

Visibility: TypeAlias = "Callable[[Any, Any], Any]"


@cache
def get_visibility() -> Visibility | None:
    """Return the function, None if the settings name none. One that cannot be imported lets nobody see anything."""
    if is_unread("VISIBILITY"):
        return _nothing
    dotted = get_settings().visibility
    if not dotted:
        return None
    try:
        found = import_string(dotted)
    except Exception:
        logger.exception('SIGNAL_AUDIT["VISIBILITY"] cannot be imported.')
        return _nothing
    return found if callable(found) else _nothing


on_settings_changed(get_visibility.cache_clear)


def _nothing(_user: Any, events: Any) -> Any:
    return events.none()
