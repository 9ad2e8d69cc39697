"""The styles of the pages need nothing that a theme may lack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import django_signal_audit

STYLES = Path(django_signal_audit.__file__).parent / "static" / "django_signal_audit"


@pytest.mark.parametrize("name", ["audit.css", "charts.css", "audit-panel.css"])
def test_each_variable_has_a_value_without_the_admins_own_styles(name: str) -> None:
    text = (STYLES / name).read_text(encoding="utf-8")
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    defined = set(re.findall(r"^\s*(--[\w-]+):", text, re.MULTILINE))
    assert used
    assert used <= defined, sorted(used - defined)


def test_what_stands_in_for_a_theme_gives_way_to_it() -> None:
    # Outside a layer these would win over the admin's own, in the dark too.
    text = (STYLES / "audit.css").read_text(encoding="utf-8")
    layer = text[text.index("@layer audit-fallback") : text.index("\n}\n", text.index("@layer audit-fallback"))]
    rest = text.replace(layer, "")
    for name in ("--body-fg", "--body-bg", "--border-color", "--link-fg", "--button-bg"):
        assert f"{name}:" in layer
        assert f"{name}:" not in rest
