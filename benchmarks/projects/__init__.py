"""The test suites of published projects, run without the package and with every model of theirs audited."""

from __future__ import annotations
