"""The settings of ``benchmarks.evidence`` and of the processes that it starts; the database is told by its parent."""

from __future__ import annotations

import json
import os

BENCHMARK_CONTENDER = "django-signal-audit"
DATABASES = {"default": json.loads(os.environ["BENCHMARK_DATABASE"])}
INSTALLED_APPS = ["django_signal_audit", "django.contrib.contenttypes", "django.contrib.auth", "benchmarks.shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
SIGNAL_AUDIT = {"RULES": [{"name": "shop", "model": "shop.*"}]}
