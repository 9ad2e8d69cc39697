"""Capture sources: what rules can watch besides the tables of models."""

from __future__ import annotations
