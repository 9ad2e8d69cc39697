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

from django_signal_audit.reports.charts import Mark, bars, columns

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
        assert len(page.all("svg")) == 2
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
        assert len([item for item in page.all("rect") if "rect" in item.get("class", "")]) == 4
        assert len(page.all("a")) == 2
        assert "2026-03-11: 0" in page.text

    def test_the_numbers_are_there_as_text(self) -> None:
        make_event(actor_id="7", actor_repr="ada")
        make_event()
        make_event()
        page = Page(html("--by", "actor"))
        assert "ada" in page.text
        assert page.all("svg")[0]["aria-label"] == (
            "Audit events by actor: chart of 2 bars, the largest is none with 2."
        )
        assert page.all("svg")[0]["role"] == "group"
        assert [item["scope"] for item in page.all("th")] == ["col"] * 3

    def test_two_of_one_name_are_told_apart(self) -> None:
        for key in "78":
            make_event(actor_id=key, actor_repr="ada")
        texts = Page(html("--by", "actor")).text
        assert {"ada (7)", "ada (8)"} <= set(texts)

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


class TestCharts:
    @pytest.mark.parametrize("draw", [bars, columns])
    @pytest.mark.parametrize(
        "marks",
        [
            [],
            [Mark("a", 0)],
            [Mark("a", 5, "/?a=1&b=2")],
            [Mark(str(number), number, f"/{number}") for number in range(100)],
            [Mark(HOSTILE, 10**12, "/x")],
            [Mark("", 1, "/x")],
        ],
        ids=len,
    )
    def test_it_fits_a_strict_policy(self, draw: Any, marks: list[Mark]) -> None:
        source = draw("Events", marks)
        root = ET.fromstring(source)
        for element in root.iter():
            assert element.tag.rpartition("}")[2] not in ("style", "script", "defs")
            assert not {name for name in element.attrib if name == "style" or name.startswith("on") or name == "id"}
        hrefs = [element.get("href") for element in root.iter("{http://www.w3.org/2000/svg}a")]
        assert sorted(map(str, hrefs)) == sorted(mark.href for mark in marks if mark.href)
        assert root.get("aria-label", "").startswith("Events")
        assert "\x1b" not in source

    def test_each_mark_says_what_it_stands_for(self) -> None:
        source = columns("Events", [Mark("2026-01-01", 1234, "/x"), Mark("2026-01-02", 0)])
        assert "<title>2026-01-01: 1,234</title>" in source
        assert "<title>2026-01-02: 0</title>" in source


def test_without_pygal_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from django_signal_audit.reports.base import WrongArgument
    from django_signal_audit.reports.formats import get_format

    for name in ("charts", "formats.html"):
        monkeypatch.delitem(sys.modules, f"django_signal_audit.reports.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "pygal", None)
    with pytest.raises(WrongArgument, match=r"pip install 'django-signal-audit\[charts\]'"):
        get_format("html")
