"""Replay: folds the events of every audited row and compares what comes out with the tables."""

from __future__ import annotations

from .differences import Difference, Kind, LeftOut
from .replay import Replay

__all__ = ["Difference", "Kind", "LeftOut", "Replay"]
