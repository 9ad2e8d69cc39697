"""What audit packages promise, tried with the real packages: the claims, and how each package is asked."""

from __future__ import annotations
