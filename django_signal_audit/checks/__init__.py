"""System checks: mistakes in the settings, in the project around them, and secrets that are guessed."""

from __future__ import annotations
