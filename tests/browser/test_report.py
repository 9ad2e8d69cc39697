"""The report as a file: it is read without a network, and as it is printed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.core.management import call_command

from .chromium import Chromium, take_picture
from .keyboard import walk
from .life import Life


@pytest.mark.parametrize("by", [["day", "actor"], ["model"]], ids=["day-actor", "model"])
def test_it_needs_nothing_else(chromium: Chromium, life: Life, tmp_path: Path, by: list[str]) -> None:
    out = io.StringIO()
    arguments = [argument for name in by for argument in ("--by", name)]
    call_command("audit_report", "--format", "html", *arguments, stdout=out, stderr=io.StringIO())
    report = tmp_path / "report.html"
    report.write_text(out.getvalue(), encoding="utf-8")
    tab = chromium.open()
    tab.do(lambda page: page.goto(report.as_uri()))
    faults = tab.look(f"report-{'-'.join(by)}") + tab.do(walk)
    assert not faults, "\n".join(faults)
    assert tab.requests == [report.as_uri()]
    tab.do(lambda page: page.emulate_media(media="print"))
    tab.do(lambda page: take_picture(page, f"report-{'-'.join(by)}-print"))
