from __future__ import annotations

import datetime as dt

import pytest

from django_signal_audit.models import AuditEvent
from django_signal_audit.reports.arguments import check_database, parse_key, parse_model, parse_moment
from django_signal_audit.reports.base import WrongArgument

from .samples import NOON, make_event


class TestMoments:
    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("7d", "2026-03-03T12:00:00+00:00"),
            ("12h", "2026-03-10T00:00:00+00:00"),
            ("2w", "2026-02-24T12:00:00+00:00"),
            ("2026-01-31", "2026-01-31T00:00:00+01:00"),
            ("2026-07-31", "2026-07-31T00:00:00+02:00"),
            ("2026-01-31T08:30", "2026-01-31T08:30:00+01:00"),
            ("2026-01-31 08:30:15", "2026-01-31T08:30:15+01:00"),
            ("2026-01-31T08:30Z", "2026-01-31T08:30:00+00:00"),
        ],
    )
    def test_what_people_write(self, text, moment):
        assert parse_moment(text, NOON) == dt.datetime.fromisoformat(moment)

    @pytest.mark.parametrize(
        "text", ["", "yesterday", "7x", "2026-13-01", "2026-02-30", "99999999w", "2026-01-31T25:00"]
    )
    def test_what_means_nothing(self, text):
        with pytest.raises(WrongArgument, match="isn't a valid date"):
            parse_moment(text, NOON)

    def test_a_project_with_naive_times(self, settings):
        settings.USE_TZ = False
        assert parse_moment("2026-01-31T08:30+01:00", NOON) == dt.datetime(2026, 1, 31, 7, 30)
        assert parse_moment("2026-01-31", NOON) == dt.datetime(2026, 1, 31)


@pytest.mark.django_db
class TestModels:
    @pytest.mark.parametrize("text", ["auth.user", "auth.User", "AUTH.USER"])
    def test_a_models_name_is_found_in_any_case(self, text):
        assert parse_model(text, "default") == "auth.user"

    @pytest.mark.parametrize(
        ("text", "nearest"), [("auth.usr", "auth.user"), ("User", "auth.user"), ("shop.Group", "auth.group")]
    )
    def test_an_unknown_one_names_the_nearest(self, text, nearest):
        with pytest.raises(WrongArgument, match=rf"There is no model '{text}'. Did you mean '{nearest}'\?"):
            parse_model(text, "default")

    def test_a_model_that_is_gone_is_known_by_its_events(self):
        make_event(model="old.thing")
        assert parse_model("old.Thing", "default") == "old.thing"


class TestKeys:
    @pytest.mark.parametrize(
        ("label", "text", "key"), [("auth.user", "007", 7), ("auth.user", "x", "x"), ("gone.thing", "007", "007")]
    )
    def test_the_type_is_the_models(self, label, text, key):
        assert parse_key(label, text) == key

    @pytest.mark.parametrize("text", ["[7, 2]", '["7", 2]', "[7,2]"])
    def test_a_composite_key_is_a_json_list(self, text):
        assert parse_key("app.line", text) == (7, 2)

    @pytest.mark.parametrize("text", ["7", "[7]", "[7, 2, 1]", "seven"])
    def test_what_is_no_such_list_is_left_as_it_is(self, text):
        assert parse_key("app.line", text) == text


@pytest.mark.django_db
def test_a_database_without_the_tables_is_told_how_to_get_them(monkeypatch):
    monkeypatch.setattr(AuditEvent._meta, "db_table", "a_table_that_is_not_there")
    with pytest.raises(WrongArgument, match=r"has no audit tables. Run: manage.py migrate --database default"):
        check_database("default")


@pytest.mark.django_db
def test_an_unknown_database_names_the_nearest():
    assert check_database("default") == "default"
    with pytest.raises(WrongArgument, match=r"no database 'defualt'. Did you mean 'default'\?"):
        check_database("defualt")
