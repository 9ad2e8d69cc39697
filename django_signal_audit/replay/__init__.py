"""Replay: folds the events of every audited row and compares what comes out with the tables."""

from __future__ import annotations

from django_signal_audit.replay.comparison import Difference, Kind, LeftOut

from .replay import Replay

__all__ = ["Difference", "Kind", "LeftOut", "Replay"]
