"""Exporting what the list of events shows."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from django_signal_audit.events.values import mask
from django_signal_audit.models import AuditEvent
from django_signal_audit.reports import spreadsheets

from .samples import HOSTILE, make_event

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_signal_audit_auditevent_changelist")
EXPORT = reverse("admin:django_signal_audit_auditevent_export")


def export(client, form, query=""):
    """Return what the export holds, as bytes."""
    response = client.post(f"{EXPORT}{query}", {"format": form})
    assert response.status_code == 200
    assert response.streaming
    assert f'.{form}"' in response["Content-Disposition"]
    return b"".join(response.streaming_content)


def rows(client, query=""):
    return list(csv.DictReader(io.StringIO(export(client, "csv", query).decode("utf-8-sig"))))


def lines(client, query=""):
    return [json.loads(line) for line in export(client, "jsonl", query).splitlines()]


def cells(client, query=""):
    with zipfile.ZipFile(io.BytesIO(export(client, "xlsx", query))) as book:
        text = "".join(book.read(name).decode() for name in book.namelist() if name.endswith(".xml"))
    assert "<f>" not in text
    return re.findall(r"<t[^>]*>([^<]*)</t>", text)


def user_with(*codenames):
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


class TestWhatIsInIt:
    def test_a_row_per_changed_field_and_one_per_other_event(self, admin_client):
        event = make_event(
            changes={"email": ["a@x", "b@x"], "first_name": [None, "Ada"], "groups": {"added": [3], "removed": []}},
            actor_id="7", actor_repr="root", context={"reason": "by phone"}, correlation_id="r",
        )  # fmt: skip
        make_event(event_type="login", object_repr="bob")
        found = rows(admin_client)
        assert [(row["event"], row["field"], row["before"], row["after"]) for row in found] == [
            ("login", "", "", ""),
            ("update", "First name", "", "Ada"),
            ("update", "Email address", "a@x", "b@x"),
            ("update", "Groups", "", "3 (deleted)"),
        ]
        assert found[2] == {
            "time": "2026-03-10T12:00:00+00:00", "actor": "root", "actor_id": "7", "event": "update",
            "model": "auth.user", "object_id": "3", "object": "ada", "field": "Email address", "before": "a@x",
            "after": "b@x", "reason": "by phone", "request": "r", "level": "info", "rules": "", "uid": str(event.uid),
        }  # fmt: skip

    def test_json_lines_have_the_columns_of_the_events(self, admin_client):
        event = make_event(changes={"email": ["a", "b"]})
        [line] = lines(admin_client)
        assert line["uid"] == str(event.uid)
        assert line["changes"] == {"email": ["a", "b"]}

    def test_a_spreadsheet_has_the_same_cells(self, admin_client):
        make_event(changes={"email": ["a@x", "=1+1"]})
        found = cells(admin_client)
        assert {"time", "before", "a@x", "=1+1"} <= set(found)

    @pytest.mark.parametrize(
        ("text", "held"),
        [("x" * 32_767, "x" * 32_767), ("x" * 32_768, "x" * 32_766 + "…"),
         ("\U0001f600" * 16_383, "\U0001f600" * 16_383), ("\U0001f600" * 20_000, "\U0001f600" * 16_383 + "…")],
        ids=["all", "one too many", "all emoji", "too many emoji"],
    )  # fmt: skip
    def test_a_cell_that_is_cut_says_so(self, admin_client, text, held):
        make_event(changes={"email": ["a", text]})
        found = cells(admin_client)
        assert held in found
        assert (text in found) is (text == held)

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
    def test_rows_that_no_sheet_holds_go_on_in_the_next(self, count, monkeypatch):
        monkeypatch.setattr(spreadsheets, "MAX_ROWS", 3)
        with io.BytesIO() as file:
            spreadsheets.write_xlsx([["head"], *([str(number)] for number in range(count))], file)
            with zipfile.ZipFile(file) as book:
                sheets = [book.read(name).decode() for name in sorted(book.namelist()) if "/sheet" in name]
        assert len(sheets) == (count + 1) // 2
        assert [re.findall(r"<t>(.*?)</t>", sheet)[0] for sheet in sheets] == ["head"] * len(sheets)
        assert [text for sheet in sheets for text in re.findall(r"<t>(\d)</t>", sheet)] == list(map(str, range(count)))

    def test_no_spreadsheet_runs_anything(self, admin_client):
        make_event(changes={"email": ["=1+1", "@SUM(1)"]}, object_repr=HOSTILE)
        [row] = rows(admin_client)
        assert (row["before"], row["after"]) == ("'=1+1", "'@SUM(1)")
        assert "\x1b" not in row["object"]

    @pytest.mark.parametrize("query", ["?q=ADA", "?level=critical", "?field=email", "?actor=7&since=2026-03-10"])
    def test_it_has_what_the_filters_find(self, admin_client, query):
        event = make_event(level="critical", changes={"email": [1, 2]}, actor_id="7", object_repr="Ada")
        make_event(object_repr="bob")
        assert [line["uid"] for line in lines(admin_client, query)] == [str(event.uid)]

    def test_it_begins_with_the_newest_wherever_the_page_was(self, admin_client):
        events = [str(make_event().uid) for _ in range(120)]
        assert [line["uid"] for line in lines(admin_client, "?p=oldest")] == events[::-1]

    def test_it_searches_further_by_itself(self, admin_client, monkeypatch):
        monkeypatch.setattr("django_signal_audit.admin.keyset.MOST_READ", 20)
        rare = make_event(changes={"email": [1, 2]})
        for _ in range(90):
            make_event()
        assert [line["uid"] for line in lines(admin_client, "?field=email")] == [str(rare.uid)]

    def test_it_ends_at_the_limit(self, admin_client, monkeypatch):
        monkeypatch.setattr("django_signal_audit.admin.export.MAX_EVENTS", 7)
        monkeypatch.setattr("django_signal_audit.admin.export.PER_STEP", 3)
        for _ in range(9):
            make_event()
        assert len(lines(admin_client)) == 7

    def test_a_mistake_in_the_search_exports_nothing(self, admin_client):
        make_event()
        assert lines(admin_client, "?q=colour:red") == []

    def test_masked_values_stay_masked(self, admin_client):
        make_event(changes={"password": [mask("auth.user.password", "old"), mask("auth.user.password", "new")]})
        [row] = rows(admin_client)
        assert (row["before"], row["after"]) == ("masked", "masked")


class TestWhoMay:
    def test_it_takes_its_own_permission(self, client):
        client.force_login(user_with("view_auditevent", "view_user"))
        assert client.post(EXPORT, {"format": "csv"}).status_code == 403
        assert 'value="csv"' not in client.get(LIST).content.decode()
        assert not AuditEvent.objects.exists()

    def test_it_takes_the_permission_to_view_as_well(self, client):
        client.force_login(user_with("export_auditevent", "view_user"))
        assert client.post(EXPORT, {"format": "csv"}).status_code == 403

    def test_it_has_no_more_than_the_user_may_see(self, client):
        client.force_login(user_with("view_auditevent", "export_auditevent", "view_user"))
        own = make_event()
        make_event(model="auth.group", object_repr="secret")
        assert 'value="csv"' in client.get(LIST).content.decode()
        assert [line["uid"] for line in lines(client)] == [str(own.uid)]

    def test_a_link_exports_nothing(self, admin_client):
        assert admin_client.get(f"{EXPORT}?format=csv").status_code == 405

    @pytest.mark.parametrize("form", ["", "html", "../csv", "\0"])
    def test_an_unknown_format_is_refused(self, admin_client, form):
        assert admin_client.post(EXPORT, {"format": form}).status_code == 400
        assert not AuditEvent.objects.exists()


class TestTheEvent:
    def test_an_export_is_recorded_with_its_filters_before_it_is_sent(self, admin_client, admin_user):
        make_event()
        admin_client.post(f"{EXPORT}?level=info&q=ada", {"format": "csv"})
        event = AuditEvent.objects.get(event_type="events_exported")
        assert event.actor_id == str(admin_user.pk)
        assert event.data == {"format": "csv", "most": 10000, "filters": [["level", "info"]], "search": "ada"}
        page = admin_client.get(LIST).content.decode()
        assert "Events were exported as csv: level:info ada" in page


@pytest.mark.parametrize("form", ["csv", "jsonl", "xlsx"])
def test_an_export_that_is_cut_off_reads_no_further_and_was_recorded(
    admin_client, monkeypatch, django_assert_num_queries, form
):
    monkeypatch.setattr("django_signal_audit.admin.export.PER_STEP", 2)
    monkeypatch.setattr("django_signal_audit.admin.export.CHUNK", 10)
    for _ in range(10):
        make_event()
    response = admin_client.post(EXPORT, {"format": form})
    assert next(iter(response.streaming_content))
    with django_assert_num_queries(0):
        # What the server does when the reader has gone.
        response.close()
        assert list(response.streaming_content) == []
    assert AuditEvent.objects.get(event_type="events_exported").data["format"] == form
