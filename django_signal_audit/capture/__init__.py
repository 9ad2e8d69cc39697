"""Capture: everything that notices a change and hands it to the recorder."""

from __future__ import annotations
