from __future__ import annotations

import csv
import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_signal_audit.reports.formats.markdown import MarkdownFormat
from django_signal_audit.reports.formats.table import TableFormat

from .samples import HOSTILE, NOON, make_event

pytestmark = pytest.mark.django_db


def run(*arguments, **options):
    """Return what ``audit_report`` prints and what it says on the side."""
    out, err = io.StringIO(), io.StringIO()
    call_command("audit_report", *arguments, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def rows(*arguments):
    return json.loads(run(*arguments, "--format", "json")[0])


def test_without_options_it_counts_by_model_and_event():
    make_event()
    make_event(event_type="create")
    out, err = run()
    assert out.splitlines()[0] == "Audit events by model, event"
    assert out.splitlines()[2].split() == ["Model", "Event", "Events"]
    assert err == ""
    assert rows() == [
        {"model": "auth.user", "event": "create", "count": 1},
        {"model": "auth.user", "event": "update", "count": 1},
    ]


def test_by_is_repeatable_and_works_from_python():
    make_event(rules=["r"])
    assert rows("--by", "rule", "--by", "model") == [{"rule": "r", "model": "auth.user", "count": 1}]
    assert run(by="rule")[0].startswith("Audit events by rule")


@pytest.mark.parametrize("alias", ["table", "markdown", "csv", "json", "jsonl", "html"])
def test_formats_for_people_have_the_largest_groups_and_say_so_and_the_others_all(alias, monkeypatch):
    for number in range(7):
        make_event(object_id=str(number % 4), object_repr=f"thing{number % 4}")
    for people in (TableFormat, MarkdownFormat):
        monkeypatch.setattr(people, "most_groups", 3)
    out, err = run("--by", "object", "--format", alias)
    is_cut = alias in ("table", "markdown")
    assert ("thing3" in out) is not is_cut
    assert out.endswith("--top N has more of them, --format csv all.\n") is is_cut
    assert err == ""
    assert "has more" not in run("--by", "object", "--format", alias, "--top", "4")[0]
    assert "has more" not in run("--by", "model", "--format", alias)[0]


def test_filters_narrow_the_report():
    make_event(actor_id="7", actor_repr="root", rules=["r"], level="warning", recorded_at=NOON)
    make_event(model="auth.group", object_id="8", event_type="delete", recorded_at=timezone.now())
    narrow = [
        ("--model", "auth.User"),
        ("--object", "3"),
        ("--event", "update"),
        ("--actor", "root"),
        ("--actor", "7"),
        ("--rule", "r"),
        ("--level", "warning"),
        ("--until", "2026-03-11"),
    ]
    for arguments in narrow:
        assert rows("--by", "model", *arguments) == [{"model": "auth.user", "count": 1}], arguments
    assert rows("--by", "model", "--since", "1h") == [{"model": "auth.group", "count": 1}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "auth.usr"), r"There is no model 'auth.usr'. Did you mean 'auth.user'\?"),
        (("--format", "jsn"), r"There is no report format 'jsn'. Did you mean 'json'\?"),
        (("--by", "actr"), r"Events cannot be counted by 'actr'. Did you mean 'actor'\?"),
        (("--since", "soon"), r"'soon' isn't a valid date. Use 12h, 7d, 2w"),
        (("--top", "0"), r"--top must be at least 1, not 0."),
        (("--level", "warn"), r"There is no level 'warn'. Did you mean 'warning'\?"),
        (("--database", "dfault"), r"There is no database 'dfault'. Did you mean 'default'\?"),
        (("--output", "/nowhere/report.csv"), r"Cannot write '/nowhere/report.csv': No such file or directory."),
    ],
)
def test_a_wrong_argument_is_one_line_with_the_nearest_right_one(arguments, message):
    with pytest.raises(CommandError, match=message) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    assert caught.value.returncode == 1


def test_nothing_found_is_said_aside_where_the_format_has_no_words():
    assert run("--format", "csv") == ("model,event,count\n", "No events match.\n")
    assert run("--format", "json") == ("[]\n", "No events match.\n")
    out, err = run("--format", "table")
    assert "No events match." in out
    assert err == ""


def test_a_file_gets_the_report_and_the_terminal_a_line(tmp_path):
    make_event(object_repr="Zoë ✓")
    path = tmp_path / "report.csv"
    out, _ = run("--by", "object", "--format", "csv", "--output", str(path))
    assert out == f"1 row written to {path}\n"
    assert path.read_text(encoding="utf-8") == "model,object_id,object,count\nauth.user,3,Zoë ✓,1\n"


def test_hostile_names_stay_text():
    make_event(object_repr=HOSTILE, actor_id="1", actor_repr='=HYPERLINK("http://x","y")')
    out, _ = run("--by", "object")
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert r"\x1b[31m\u202e" in out
    [_, row] = csv.reader(io.StringIO(run("--by", "actor", "--format", "csv")[0]))
    assert row == ["1", '\'=HYPERLINK("http://x","y")', "1"]


@pytest.mark.django_db(databases=["default", "other"])
def test_another_database_is_asked():
    make_event()
    assert "No events match." in run("--database", "other")[0]


def test_a_reader_that_has_seen_enough_is_no_error(monkeypatch, tmp_path):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with (tmp_path / "stdout").open("w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        call_command("audit_report", stdout=Closed())
        stdout.write("what was left in the buffer")
    assert (tmp_path / "stdout").read_text() == ""


def test_the_exit_codes_are_in_the_help(capsys):
    with pytest.raises(SystemExit):
        call_command("audit_report", "--help")
    assert "Exit codes: 0 the report was written" in capsys.readouterr().out
