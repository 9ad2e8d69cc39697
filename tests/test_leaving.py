"""Leaving takes what the guide says, and leaves nothing behind that anything would miss."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .small_project import SmallProject

MODELS = """
class Product(models.Model):
    name = models.CharField(max_length=20)
"""
CREATE = """migrations.CreateModel("Product", [
    ("id", models.BigAutoField(primary_key=True)),
    ("name", models.CharField(max_length=20)),
])"""


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.django_db
def test_the_package_can_be_removed(small_project: Callable[..., SmallProject], tmp_path: Path) -> None:
    project = small_project(MODELS, CREATE)
    project.run("migrate", "--verbosity", "0")
    project.python("Product.objects.create(name='a')")
    project.run("audit_export", "--output", str(tmp_path / "audit.jsonl.gz"))
    project.run("migrate", "django_signal_audit", "zero", "--verbosity", "0")
    settings = tmp_path / "project.py"
    settings.write_text(settings.read_text().replace(', "django_signal_audit"', ""))
    project.start(
        "-c", "import django; django.setup(); from shop.models import Product; Product.objects.create(name='b')"
    )
    code = "import django; django.setup(); from shop.models import Product; Product.objects.all().delete(); print('ok')"
    assert project.start("-c", code).stdout == "ok\n"
    project.run("remove_stale_contenttypes", "--no-input", "--include-stale-apps", "--verbosity", "0")
    with gzip.open(tmp_path / "audit.jsonl.gz", "rt", encoding="utf-8") as lines:
        (event,) = [json.loads(line) for line in lines if json.loads(line)["event_type"] == "create"]
    assert event["changes"] == {"name": [None, "a"]}
