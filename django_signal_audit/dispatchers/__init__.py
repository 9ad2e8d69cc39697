"""Dispatchers: what wakes the delivery once notifications are committed."""

from __future__ import annotations

from .base import Dispatcher
from .on_commit import OnCommitDispatcher
from .worker import WorkerDispatcher

__all__ = ["Dispatcher", "OnCommitDispatcher", "WorkerDispatcher"]
