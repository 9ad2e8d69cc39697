from __future__ import annotations

import csv
import datetime as dt
import io
import json

import pytest

from django_signal_audit.reports.base import Column, Detail, Report, WrongArgument
from django_signal_audit.reports.display import printable, shorten
from django_signal_audit.reports.formats import BUILT_IN, get_format
from django_signal_audit.reports.formats.base import ReportFormat

from .samples import HOSTILE

COLUMNS = (Column("name", "Name"), Column("count", "Events", is_number=True))


def report(*rows, columns=COLUMNS):
    return Report(title="Audit events", columns=columns, rows=rows, empty="No events match.")


def write(alias, made):
    stream = io.StringIO()
    get_format(alias).write(made, stream)
    return stream.getvalue()


class ShoutFormat(ReportFormat):
    """A project's own format."""

    def write(self, made, stream):
        stream.write(made.title.upper())


class TestTable:
    def test_aligned_under_its_headings(self):
        assert write("table", report(("shop.product", 12), ("x", 3))) == (
            "Audit events\n\n"
            "Name            Events\n------------  --------\nshop.product        12\nx                    3\n"
        )

    def test_a_key_that_looks_like_a_number_stays_as_it_is(self):
        assert "1e5" in write("table", report(("1e5", 1)))
        assert "007" in write("table", report(("007", 1)))

    def test_an_empty_one_says_so(self):
        assert write("table", report()) == "Audit events\n\nNo events match.\n"

    def test_lines_of_a_detail_stand_below_each_other(self):
        text = write("table", report((Detail(lines=("first", "second"), data={}), 1)))
        assert text.splitlines()[-2:] == ["first          1", "second"]


class TestMarkdown:
    def test_a_github_table(self):
        assert write("markdown", report(("shop.product", 12))) == (
            "# Audit events\n\n| Name         |   Events |\n|:-------------|---------:|\n| shop.product |       12 |\n"
        )

    def test_markup_is_escaped_and_words_are_not(self):
        text = write("markdown", report(("a|b <script> [x](y) *z* _w_ login_failed", 1)))
        assert r"a\|b \<script\> \[x\](y) \*z\* \_w\_ login_failed" in text

    def test_an_empty_one_says_so(self):
        assert write("markdown", report()) == "# Audit events\n\nNo events match.\n"

    def test_lines_of_a_detail_stay_in_their_cell(self):
        assert "| one<br>two" in write("markdown", report((Detail(lines=("one", "two"), data=None), 1)))


class TestCsv:
    @pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
    def test_what_a_spreadsheet_would_run_gets_an_apostrophe(self, start):
        text = write("csv", report((f"{start}HYPERLINK(1)", 1)))
        [_, [cell, _]] = csv.reader(io.StringIO(text))
        assert cell == f"'{printable(start)}HYPERLINK(1)"

    @pytest.mark.parametrize("number", ["-5", "+5", "-5.25", "12"])
    def test_a_plain_number_stays_one(self, number):
        assert write("csv", report((number, 1))) == f"name,count\n{number},1\n"

    @pytest.mark.parametrize("text", ["-5+cmd", "-", "+1-1", "-5,5", "-1\n=2"])
    def test_what_only_begins_like_a_number_does_not(self, text):
        [_, [cell, _]] = csv.reader(io.StringIO(write("csv", report((text, 1)))))
        assert cell.startswith("'")

    def test_a_negative_count_stays_a_number(self):
        assert write("csv", report(("x", -5))) == "name,count\nx,-5\n"

    def test_the_header_is_there_without_rows(self):
        assert write("csv", report()) == "name,count\n"

    def test_quotes_and_commas_survive(self):
        [_, [cell, _]] = csv.reader(io.StringIO(write("csv", report(('a "b", c', 1)))))
        assert cell == 'a "b", c'


class TestJson:
    def test_an_array_of_objects(self):
        day = dt.date(2026, 3, 10)
        assert json.loads(write("json", report((day, 2), ("x", 1)))) == [
            {"name": "2026-03-10", "count": 2},
            {"name": "x", "count": 1},
        ]

    def test_without_rows_it_is_an_empty_array(self):
        assert write("json", report()) == "[]\n"

    def test_a_detail_gives_its_data(self):
        made = report((Detail(lines=("price: 1 → 2",), data={"price": ["1", "2"]}), 1))
        assert json.loads(write("json", made))[0]["name"] == {"price": ["1", "2"]}

    def test_json_lines_are_one_object_a_row(self):
        lines = write("jsonl", report(("x", 1), ("y", 2))).splitlines()
        assert [json.loads(line) for line in lines] == [{"name": "x", "count": 1}, {"name": "y", "count": 2}]


@pytest.mark.parametrize("alias", BUILT_IN)
def test_no_format_lets_a_control_character_through(alias):
    text = write(alias, report((HOSTILE + "\x9b2J\x7f\u2028\x00", 1)))
    assert not {ord(char) for char in text} & {0, 0x1B, 0x9B, 0x7F, 0x202E, 0x2028}


class TestRegistry:
    def test_a_project_adds_a_format_without_touching_the_package(self, settings):
        settings.SIGNAL_AUDIT = {"REPORT_FORMATS": {"shout": f"{__name__}.ShoutFormat"}}
        assert write("shout", report()) == "AUDIT EVENTS"

    def test_an_unknown_one_names_the_nearest(self):
        with pytest.raises(WrongArgument, match=r"'tabel'. Did you mean 'table'\?"):
            get_format("tabel")

    @pytest.mark.parametrize(
        ("path", "what"),
        [
            ("nowhere.Format", "cannot import 'nowhere.Format'"),
            ("json.JSONDecoder", "names 'json.JSONDecoder', which isn't a subclass"),
        ],
    )
    def test_a_wrong_path_names_the_setting(self, settings, path, what):
        settings.SIGNAL_AUDIT = {"REPORT_FORMATS": {"mine": path}}
        with pytest.raises(WrongArgument, match=rf'SIGNAL_AUDIT\["REPORT_FORMATS"\]\["mine"\] {what}'):
            get_format("mine")


class TestTexts:
    def test_printable_names_what_it_replaces(self):
        assert printable("a\x1b[0m\n\t\u202eb\x9b é ✓ 日本") == r"a\x1b[0m\n\t\u202eb\x9b é ✓ 日本"

    def test_long_texts_are_cut_with_an_ellipsis(self):
        assert shorten("abcdef", 6) == "abcdef"
        assert shorten("abcdefg", 6) == "abcde…"
