"""The report as one HTML file, and the charts in it."""

from __future__ import annotations

import datetime as dt
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import translation

from django_signal_audit.reports.charts import Mark, bar, columns

from .samples import HOSTILE, NOON, make_event


def html(*arguments: str) -> str:
    out = io.StringIO()
    call_command("audit_report", "--format", "html", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


class Page(HTMLParser):
    """What is on a page: its elements with their attributes, and its text."""

    VOID = ("meta", "!doctype")

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.elements if name == tag]


def assert_safe(page: Page) -> None:
    """Fail if anything comes from elsewhere, runs, or has a style of its own."""
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "img", "iframe", "object", "image", "use"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            assert name not in ("style", "src", "srcset"), name
            if name.endswith("href"):
                assert re.fullmatch(r"#[\w-]+", value or ""), value


@pytest.mark.django_db
class TestPage:
    def test_it_needs_nothing_else(self) -> None:
        for model in ("auth.user", "auth.group"):
            make_event(model=model)
        source = html("--by", "model", "--by", "day")
        page = Page(source)
        assert_safe(page)
        assert source.startswith("<!doctype html>")
        # The chart of the days, and a bar in each row of the models.
        assert len(page.all("svg")) == 1 + 2
        assert len(page.all("style")) == 1
        assert not re.search(r"url\(|@import", source)
        assert "prefers-color-scheme: dark" in source
        assert "@media print" in source

    def test_each_mark_leads_to_its_row(self) -> None:
        for day in (0, 3):
            make_event(recorded_at=NOON + dt.timedelta(days=day))
        for arguments in (["--by", "day"], ["--by", "day", "--by", "event", "--by", "actor"], ["--by", "hour"]):
            page = Page(html(*arguments))
            ids = [attributes["id"] for attributes in page.all("tr") if "id" in attributes]
            links = [attributes["href"].removeprefix("#") for attributes in page.all("a")]
            assert len(ids) == len(set(ids))
            assert links
            assert set(links) <= set(ids)

    def test_days_without_events_are_drawn(self) -> None:
        for day in (0, 3):
            make_event(recorded_at=NOON + dt.timedelta(days=day))
        page = Page(html("--by", "day"))
        assert len([item for item in page.all("rect") if item.get("class") == "audit-chart-all"]) == 4
        assert len([item for item in page.all("rect") if item.get("class") == "audit-chart-changed"]) == 2
        assert len(page.all("a")) == 2
        assert "2026-03-11: 0" in page.text

    def test_the_table_is_the_chart_with_the_numbers_as_text(self) -> None:
        make_event(actor_id="7", actor_repr="ada")
        make_event()
        make_event()
        page = Page(html("--by", "actor"))
        assert {"ada", "1", "2"} <= set(page.text)
        assert [item["width"] for item in page.all("rect") if item["class"] == "audit-bar-part"] == ["100", "50"]
        assert [item["aria-hidden"] for item in page.all("svg")] == ["true"] * 2
        assert [item["scope"] for item in page.all("th")] == ["col"] * 4

    def test_the_days_say_in_words_what_they_show(self) -> None:
        for _ in range(2):
            make_event()
        page = Page(html("--by", "day"))
        assert page.all("svg")[0]["aria-label"] == "Audit events by day: chart of 1 bar, 2026-03-10 with 2."
        assert page.all("svg")[0]["role"] == "group"

    def test_a_table_counted_by_several_things_has_no_bars(self) -> None:
        make_event(actor_id="7", actor_repr="ada")
        page = Page(html("--by", "actor", "--by", "model"))
        assert len([item for item in page.all("rect") if item["class"] == "audit-bar-part"]) == 2

    def test_two_of_one_name_are_told_apart(self) -> None:
        for key in "78":
            make_event(actor_id=key, actor_repr="ada")
        assert {"ada (7)", "ada (8)"} <= set(Page(html("--by", "actor", "--by", "model")).text)
        assert {"7", "8"} <= set(Page(html("--by", "actor")).text)

    def test_hostile_names_stay_text(self) -> None:
        make_event(object_repr=HOSTILE, model="x.y", actor_repr="</style><script>", actor_id="]]>")
        source = html("--by", "object", "--by", "actor")
        page = Page(source)
        assert_safe(page)
        assert "<script" not in source
        assert "\x1b" not in source
        assert any("<script>alert('x')</script>" in text for text in page.text)

    def test_it_says_what_it_is_about(self) -> None:
        make_event(rules=["r<"])
        page = Page(html("--since", "2026-03-10", "--model", "auth.User", "--rule", "r<"))
        assert any(
            text.startswith("model auth.user, rule r<, since 2026-03-10 00:00+01:00. As of ") for text in page.text
        )

    def test_a_report_without_events_says_so(self) -> None:
        page = Page(html())
        assert "No events match." in page.text
        assert page.all("svg") == []

    def test_the_life_of_an_object(self) -> None:
        make_event(changes={"email": ["<a>", "b"]})
        out = io.StringIO()
        call_command("audit_history", "auth.User", "3", "--format", "html", stdout=out)
        page = Page(out.getvalue())
        assert_safe(page)
        assert any("<a>" in text for text in page.text)

    def test_numbers_and_words_are_those_of_the_language(self) -> None:
        with translation.override("de"):
            page = Page(html())
        assert page.all("html")[0]["lang"] == "de"


KINDS = {"changed": "changed", "deleted": "deleted"}


def mark(label: str, value: int, href: str = "") -> Mark:
    return Mark(label, {"changed": value}, href)


class TestCharts:
    @pytest.mark.parametrize(
        "marks",
        [
            [],
            [mark("a", 0)],
            [mark("a", 5, "/?a=1&b=2")],
            [mark(str(number), number, f"/{number}") for number in range(100)],
            [mark(HOSTILE, 10**12, "/x")],
            [mark("", 1, "/x")],
            [Mark("a", {}), Mark("b", {"changed": 1, "deleted": 10**9})],
        ],
        ids=len,
    )
    def test_it_fits_a_strict_policy(self, marks: list[Mark]) -> None:
        source = columns("Events", marks, KINDS)
        root = ET.fromstring(source)
        for element in root.iter():
            assert element.tag not in ("style", "script", "defs")
            assert not {name for name in element.attrib if name == "style" or name.startswith("on") or name == "id"}
        hrefs = [element.get("href") for element in root.iter("a")]
        assert sorted(map(str, hrefs)) == sorted(mark.href for mark in marks if mark.href)
        assert root.get("aria-label", "").startswith("Events")
        assert "\x1b" not in source

    def test_each_bar_says_what_it_stands_for(self) -> None:
        marks = [Mark("2026-01-01", {"changed": 1234, "deleted": 1}, "/x"), mark("2026-01-02", 0)]
        source = columns("Events", marks, KINDS)
        assert "<title>2026-01-01: 1,235 (1,234 changed, 1 deleted)</title>" in source
        assert '<a href="/x" aria-label="2026-01-01: 1,235 (1,234 changed, 1 deleted)">' in source
        assert "<title>2026-01-02: 0</title>" in source

    def test_everything_is_drawn_inside(self) -> None:
        for count in (1, 7, 92):
            root = ET.fromstring(columns("Events", [mark(str(number), number) for number in range(count)], KINDS))
            _, _, width, height = map(float, root.get("viewBox", "").split())
            for rect in root.iter("rect"):
                x, y, wide, high = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
                assert 0 <= x <= x + wide <= width + 0.1
                assert 0 <= y <= y + high <= height
            assert len([text for text in root.iter("text") if text.get("class") != "audit-chart-y"]) <= 8

    def test_parts_stand_on_each_other(self) -> None:
        root = ET.fromstring(columns("Events", [Mark("a", {"changed": 5, "deleted": 5})], KINDS))
        lower, upper = (
            next(rect for rect in root.iter("rect") if rect.get("class") == f"audit-chart-{kind}") for kind in KINDS
        )
        assert float(upper.get("y", "")) + float(upper.get("height", "")) < float(lower.get("y", ""))

    @pytest.mark.parametrize(
        ("value", "largest", "width"), [(0, 0, "0"), (0, 5, "0"), (1, 3, "33.33"), (5, 5, "100"), (1, 10**6, "1")]
    )
    def test_a_bar_is_as_long_as_the_value_is_large(self, value: int, largest: int, width: str) -> None:
        assert f'audit-bar-part" width="{width}"' in bar(value, largest)

    def test_coordinates_are_the_same_in_every_language(self) -> None:
        with translation.override("de"):
            assert 'width="33.33"' in bar(1, 3)
