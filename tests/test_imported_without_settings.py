"""What the package offers by name is importable in settings.py and in models.py: before Django is configured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import django_signal_audit

SCRIPT = """
import django_signal_audit
for name in django_signal_audit.__all__:
    getattr(django_signal_audit, name)
from django.conf import settings
assert not settings.configured
"""


def test_each_public_name_is_imported_before_django_is_configured(tmp_path: Path) -> None:
    without = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    root = Path(django_signal_audit.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        cwd=tmp_path,
        env={**without, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
