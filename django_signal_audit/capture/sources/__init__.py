"""Capture sources: what rules can audit besides the tables of models."""

from __future__ import annotations
