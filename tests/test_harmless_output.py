"""What people typed stays text: in terminals, logs, spreadsheets, Markdown, and files that only their owner reads."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import logging
import os
import random
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_signal_audit import audit_context
from django_signal_audit.delivery.worker import deliver
from django_signal_audit.reports.base import Column, Report
from django_signal_audit.reports.formats import csv as csv_format
from django_signal_audit.reports.formats import get_format

from .app.models import Product, Tag
from .conftest import Audit
from .notices import LOG, make_event, make_notification

pytestmark = pytest.mark.django_db

HOSTILE = "\x1b[2J\x1b]0;owned\x07a\r\nb\u202etxt\u200bz\ufeff\x9b31m"
FORMULAS = ("=", "+", "-", "@", "\uff1d")
DANGEROUS = set("\x1b\x07\r\u202e\u200b\ufeff\x9b")


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    output = capsys.readouterr()
    return output.out + output.err


@pytest.mark.parametrize(
    "command",
    [
        ("audit_history", "app.product", "1"),
        ("audit_history", "app.product", "1", "--at", "2020-01-01"),
        ("audit_history", "app.product", "1", "--at", "2020-01-01", "--format", "markdown"),
        ("audit_history", "app.product", "1", "--at", "2090-01-01"),
        ("audit_report", "--by", "object", "--by", "actor"),
        ("audit_report", "--by", "object", "--format", "csv"),
        ("audit_report", "--by", "object", "--format", "markdown"),
        ("audit_replay",),
        ("audit_rules",),
    ],
)
def test_a_terminal_gets_text_alone(audit: Audit, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    audit()
    with audit_context(actor=HOSTILE, reason=HOSTILE):
        Product.objects.create(pk=1, name=HOSTILE[:50], attributes={HOSTILE: HOSTILE})
    call_command(*command)
    assert not DANGEROUS & set(shown(capsys))


@pytest.mark.parametrize("command", [("audit_history", HOSTILE, "1"), ("audit_history", "app.product", HOSTILE)])
def test_an_error_of_a_command_is_text_alone(audit: Audit, command: tuple[str, ...]) -> None:
    audit()
    with pytest.raises(CommandError) as caught:
        call_command(*command)
    assert not DANGEROUS & set(str(caught.value))


def test_json_stays_exact(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    audit()
    tag = Tag.objects.create(name=HOSTILE)
    call_command("audit_history", "app.tag", str(tag.pk), "--format", "json")
    assert json.loads(capsys.readouterr().out)[0]["changes"] == {"name": [None, HOSTILE]}


def written(name: str, *cells: str) -> str:
    stream = io.StringIO()
    report = Report(title="t", columns=[Column("a", "A")], rows=[(cell,) for cell in cells], empty="<b>none</b>")
    get_format(name).write(report, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(1)",
        "a;=1+1",
        "a; =1+1",
        'a;"=1+1"',
        "a|@x",
        "a\t=1+1",
        " =1+1",
        "\r=1",
        "\uff1d1+1",
    ],
)
def test_no_cell_begins_with_a_formula_whichever_separator_a_spreadsheet_takes(cell: str) -> None:
    text = written("csv", cell)
    for delimiter in (",", ";", "\t", "|"):
        for row in csv.reader(io.StringIO(text), delimiter=delimiter):
            assert not any(part.strip(' "').startswith(("=", "+", "-", "@", "\uff1d")) for part in row), (
                delimiter,
                row,
            )


@pytest.mark.parametrize("cell", ["-5", "+3.5", "a; -5", "a;b"])
def test_numbers_stay_numbers(cell: str) -> None:
    assert cell in written("csv", cell)


def test_markdown_has_no_html_and_no_links_of_users() -> None:
    cell = "<img src=x onerror=1> | `code` [a](http://evil) https://evil www.evil.com <!-- &lt;"
    text = written("markdown", cell)
    for harmful in (" | `", "[a](", "https://", "www.evil"):
        assert harmful not in text
    assert not re.search(r"(?<!\\)[<&]", text + written("markdown"))


class TestLog:
    def test_a_message_is_one_line_without_escapes(self, audit: Audit, caplog: pytest.LogCaptureFixture) -> None:
        audit({"name": "r", "model": "app.Tag", "notify": ["log"]}, CHANNELS={"log": {"BACKEND": LOG}})
        with caplog.at_level(logging.INFO):
            Tag.objects.create(name=HOSTILE)
            deliver("default")
        lines = [record.getMessage() for record in caplog.records if record.name == "django_signal_audit.notifications"]
        assert len(lines) == 1
        assert not (DANGEROUS | {"\n"}) & set(lines[0])

    def test_a_workers_line_is_one_line_without_escapes(self, audit: Audit, caplog: pytest.LogCaptureFixture) -> None:
        audit(CHANNELS={"boom": {"BACKEND": "tests.notices.Nothing"}})
        make_notification(make_event(), channel=f"gone{HOSTILE}"[:50], recipient=f"x{HOSTILE}"[:100])
        with caplog.at_level(logging.INFO):
            deliver("default")
        lines = [record.getMessage() for record in caplog.records if "Left to other workers" in record.getMessage()]
        assert lines
        assert not (DANGEROUS | {"\n"}) & set("".join(lines))


@pytest.mark.skipif(os.name != "posix", reason="links and modes are those of POSIX")
class TestFiles:
    COMMANDS = (
        ("audit_report", "--output"),
        ("audit_history", "app.tag", "1", "--output"),
        ("audit_export", "--output"),
        ("audit_prune", "--older-than", "1d", "--archive"),
    )

    @pytest.fixture(autouse=True)
    def _event(self, audit: Audit) -> None:
        audit()
        Tag.objects.create(pk=1, name="x")
        make_event(recorded_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))

    def run(self, command: tuple[str, ...], path: Path) -> None:
        call_command(*command, str(path))

    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_only_their_owner_reads_them(self, tmp_path: Path, command: tuple[str, ...], suffix: str) -> None:
        path = tmp_path / f"out{suffix}"
        self.run(command, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if "prune" not in command[0]:
            path.chmod(0o644)
            self.run(command, path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_they_are_not_written_through_links(self, tmp_path: Path, command: tuple[str, ...], link: Any) -> None:
        victim, path = tmp_path / "victim", tmp_path / "out"
        victim.write_text("")
        link(victim, path)
        with pytest.raises(CommandError, match="link"):
            self.run(command, path)
        assert victim.read_text() == ""

    @pytest.mark.parametrize("command", COMMANDS[:3])
    @pytest.mark.parametrize("name", ["-", "/dev/stdout"])
    def test_the_standard_output_may_be_named(
        self, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], name: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        self.run(command, Path(name))
        output = capsys.readouterr().out
        assert "app.tag" in output or "create" in output
        assert "written to" not in output
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("command", COMMANDS[:3])
    def test_a_pipe_of_the_shell_may_be_named(self, command: tuple[str, ...]) -> None:
        reader, writer = os.pipe()
        try:
            self.run(command, Path(f"/dev/fd/{writer}"))
        finally:
            os.close(writer)
        with os.fdopen(reader) as stream:
            assert stream.read()

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a file to somebody else")
    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_file_of_somebody_else_is_not_written(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        path = tmp_path / "out"
        path.touch()
        os.chown(path, 12345, 12345)
        with pytest.raises(CommandError, match="another user's"):
            self.run(command, path)
        assert path.read_text() == ""


def test_plain_texts_take_the_short_way_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    characters = [chr(number) for number in range(32, 127)] + ["\n", "\t", "\u202e", "é", "\x00"]
    texts = ["".join(chance.choices(characters, k=chance.randrange(6))) for _ in range(5000)]
    texts += ["Tea 3", "1.5", "-1.5", "2026-01-31", "a;=1", "a\n", "user@example.com", "a-b", "a+b", "0x1|=2"]
    short = [csv_format.harmless(text) for text in texts]
    monkeypatch.setattr(csv_format, "_PLAIN", re.compile("(?!)"))
    assert short == [csv_format.harmless(text) for text in texts]
