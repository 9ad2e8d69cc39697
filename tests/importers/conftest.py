from __future__ import annotations

from django.conf import settings

# These tests run with settings of their own: pytest tests/importers --ds tests.importers.settings
collect_ignore_glob = [] if "simple_history" in settings.INSTALLED_APPS else ["*.py"]
