from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from django_signal_audit.enums import MODEL_EVENTS

from .app.models import Product, Tag
from .conftest import HAS_ENGINE_FOR_SAVES, Audit, events
from .notices import EMAIL, calling

HOSTILE = "\x1b[31mred\u202e"
CHANNELS = {"mail": {"BACKEND": EMAIL, "OPTIONS": {"to": ["a@example.com", "superusers"]}}, "take": calling("take")}
SHOP = (
    {"name": "catalogue", "model": "app.*", "exclude": ["modified"], "mask": ["slug"]},
    {"name": "drop", "model": "app.Product", "events": ["update"], "when": {"price": "decreased"}, "notify": ["mail"]},
    {
        "name": "new",
        "model": "app.product",
        "events": ["create"],
        "fields": ["name"],
        "level": "critical",
        "notify": ["take", {"channel": "mail", "to": "actor"}],
    },
    {"name": "viewed", "signal": "tests.app.signals.viewed", "event": "product_viewed", "notify": ["take"]},
    {"name": "break-in", "events": ["login_failed", "request"], "level": "warning", "paths": ["/admin/*"]},
    {"name": "off", "model": "app.Tag", "enabled": False},
    {"name": "wrong", "model": "app.Product", "fields": ["prce"], "events": ["creat"]},
)


def run(*arguments: str) -> str:
    """Return what ``audit_rules`` prints."""
    out = io.StringIO()
    call_command("audit_rules", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def data(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run("--format", "json", *arguments))
    return document


def by(name: str, records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {record[name]: record for record in records}


@pytest.fixture
def shop(audit: Audit) -> None:
    audit(*SHOP, CHANNELS=CHANNELS)


@pytest.mark.usefixtures("shop")
class TestCoverage:
    def test_each_model_has_its_events_and_fields(self) -> None:
        models = by("model", data()["models"])
        product = models["app.Product"]
        assert product["events"] == ["create", "update", "delete", "m2m"]
        assert set(product["fields"]) >= {"name", "price", "category", "tags", "slug"}
        # The price drop asks for all fields, this one among them.
        assert "modified" in product["fields"]
        assert product["masked"] == ["slug", "api_token"]
        assert product["rules"] == ["catalogue", "drop", "new"]
        assert product["notifies"] == ["mail: a@example.com, superusers", "take", "mail: actor"]
        assert models["app.Tag"] == {
            "model": "app.Tag",
            "events": ["create", "update", "delete"],
            "fields": ["name"],
            "masked": [],
            "rules": ["catalogue"],
            "notifies": [],
        }
        assert list(models) == sorted(models)
        assert not {"auth.User", "app.CheapProduct"} & set(models)

    def test_each_rule_has_what_it_watches(self) -> None:
        rules = by("rule", data()["rules"])
        assert list(rules) == ["catalogue", "drop", "new", "viewed", "break-in"]
        assert rules["catalogue"]["fields"] == ["all", "without modified"]
        assert rules["drop"] == {
            "rule": "drop",
            "watches": ["app.Product"],
            "events": ["update"],
            "fields": ["all"],
            "when": "price decreased",
            "level": "info",
            "notifies": ["mail: a@example.com, superusers"],
        }
        assert rules["new"]["level"] == "critical"
        assert (rules["viewed"]["watches"], rules["viewed"]["events"]) == (
            ["tests.app.signals.viewed"],
            ["product_viewed"],
        )
        assert (rules["break-in"]["watches"], rules["break-in"]["events"]) == (
            ["paths /admin/*"],
            ["login_failed", "request"],
        )

    def test_rules_that_are_not_in_force(self) -> None:
        off, wrong = data()["not_in_force"]
        assert off == {"rule": "off", "where": 'SIGNAL_AUDIT["RULES"][5]', "why": ["disabled"]}
        assert (wrong["rule"], wrong["where"]) == ("wrong", 'SIGNAL_AUDIT["RULES"][6]')
        assert wrong["why"] == [
            "[\"events\"] names 'creat', which isn't an event of a model.",
            "[\"fields\"] names 'prce', which isn't a field of the model.",
        ]

    def test_the_table_says_the_same(self) -> None:
        out = run()
        assert out.index("Audited models") < out.index("Active rules") < out.index("Inactive rules")
        for text in ("app.Product", "catalogue", "price decreased", "mail: a@example.com, superusers", "disabled"):
            assert text in out
        (tag,) = [line for line in out.splitlines() if line.startswith("app.Tag ")]
        assert tag.split() == ["app.Tag", "create,", "update,", "delete", "name", "catalogue"]

    def test_a_database_has_the_models_its_routers_allow(self, settings: Any) -> None:
        settings.DATABASE_ROUTERS = ["tests.test_audit_rules_command.TagsOnOther"]
        assert "app.Tag" not in by("model", data("--database", "default")["models"])
        assert list(by("model", data("--database", "other")["models"])) == ["app.Tag"]
        assert {"app.Tag", "app.Product"} <= set(by("model", data()["models"]))


class TagsOnOther:
    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
        return (db == "other") is (model_name == "tag")


class TestNothing:
    def test_without_rules_it_says_that_nothing_is_audited(self, settings: Any) -> None:
        settings.SIGNAL_AUDIT = {}
        out = run()
        assert "No model is audited." in out
        assert "No rule is active." in out
        assert "All rules are active." in out
        assert data() == {"models": [], "rules": [], "not_in_force": []}
        assert data("--explain", "app.Product", "update") == {"rules": [], "fields": [], "outcome": []}

    @pytest.mark.parametrize("garbage", [3, {"RULES": 3}, {"RULES": [3, None, {"name": 5}], "CHANNELS": {"x": 1}}])
    def test_it_prints_what_is_wrong_with_anything(self, settings: Any, garbage: Any) -> None:
        settings.SIGNAL_AUDIT = garbage
        assert "Inactive rules" in run()
        assert len(data()["not_in_force"]) == (3 if isinstance(garbage, dict) and garbage["RULES"] != 3 else 0)

    @pytest.mark.django_db
    def test_a_terminal_obeys_none_of_it(self, audit: Audit) -> None:
        audit({"name": HOSTILE, "model": "app.Tag"}, {"name": f"{HOSTILE}2", "model": "app.Tagg", "subject": HOSTILE})
        for arguments in ((), ("--format", "json"), ("--explain", "app.Tag", "create")):
            assert not set(run(*arguments)) & {"\x1b", "\u202e"}

    def test_a_channel_that_cannot_be_made_has_its_name(self, audit: Audit) -> None:
        audit({"name": "r", "model": "app.Tag", "notify": ["broken"]}, CHANNELS={"broken": {"BACKEND": "no.such"}})
        assert by("rule", data()["rules"])["r"]["notifies"] == ["broken"]


@pytest.mark.django_db
@pytest.mark.usefixtures("shop")
class TestExplain:
    def test_which_rules_match_and_why_the_others_do_not(self) -> None:
        rules = by("rule", data("--explain", "app.Product", "update")["rules"])
        assert {name: (rule["matches"], rule["why"]) for name, rule in rules.items()} == {
            "catalogue": (True, "any change of its fields"),
            "drop": ("maybe", "price decreased"),
            "new": (False, "it asks for create only"),
            "viewed": (False, "it audits no model"),
            "break-in": (False, "it audits no model"),
            "off": (False, "disabled"),
            "wrong": (False, "it has mistakes, see manage.py check"),
        }
        assert rules["drop"]["notifies"] == ["mail: a@example.com, superusers"]
        assert rules["new"]["notifies"] == []

    def test_a_rule_that_cannot_be_read_as_a_whole(self, audit: Audit) -> None:
        audit({"name": "typo", "model": "app.Product", "feilds": []}, {"model": "app.Product"})
        rules = by("rule", data("--explain", "app.Product", "update")["rules"])
        assert {name: (rule["matches"], rule["why"]) for name, rule in rules.items()} == {
            "typo": (False, "it has mistakes, see manage.py check"),
            'SIGNAL_AUDIT["RULES"][1]': (False, "it has mistakes, see manage.py check"),
        }

    def test_what_is_read_recorded_and_masked(self) -> None:
        fields = by("field", data("--explain", "app.Product", "update")["fields"])
        assert "tags" not in fields
        assert fields["price"] == {"field": "price", "recorded": True, "masked": False, "rules": ["catalogue", "drop"]}
        assert fields["modified"]["rules"] == ["drop"]
        assert [name for name, field in fields.items() if field["masked"]] == ["slug", "api_token"]

    def test_what_comes_of_it(self) -> None:
        (outcome,) = data("--explain", "app.Product", "create")["outcome"]
        assert outcome == {
            "recorded": True,
            "rules": ["catalogue", "new"],
            "level": "critical",
            "level_at_most": "critical",
            "notifies": ["take", "mail: actor"],
        }

    def test_explain_tells_saves_from_updates_of_many_rows(self, audit: Audit) -> None:
        audit({"name": "tags", "model": "app.Tag"})
        rows = [(row["write"], row["statements"]) for row in data("--explain", "app.Tag", "update")["writes"]]
        together = "in one or two packets" if connection.vendor == "mysql" else "one for both"
        saves = together if HAS_ENGINE_FOR_SAVES else "separate"
        updates = "one for both" if connection.vendor == "sqlite" else saves
        assert rows == [("a save", saves), ("a bulk update", updates)]

    def test_explain_says_which_events_a_rule_that_names_none_asks_for(self, audit: Audit) -> None:
        audit({"name": "tags", "model": "app.Tag"})
        [rule] = data("--explain", "app.Tag", "view")["rules"]
        assert rule["why"] == "it asks for create, update, delete, m2m only"

    def test_explain_blames_a_uuid_key_only_where_it_is_the_reason(self, audit: Audit) -> None:
        audit({"name": "documents", "model": "app.Document"})
        [_save, update] = data("--explain", "app.Document", "update")["writes"]
        assert "or UUID" not in update["why"]
        assert (update["why"] == "a primary key other than one number") is (connection.vendor != "postgresql")

    def test_explain_names_the_m2m_fields_that_are_recorded(self) -> None:
        document = data("--explain", "app.Product", "m2m")
        assert [field["field"] for field in document["fields"]] == ["tags"]
        assert by("rule", document["rules"])["catalogue"]["matches"] is True
        document = data("--explain", "app.Product", "delete")
        assert {"tags", "price"} <= set(by("field", document["fields"]))

    @pytest.mark.parametrize("label", ["APP.product", "app.CheapProduct", "app.PRODUCT"])
    def test_labels_in_any_case_and_proxies(self, label: str) -> None:
        assert run("--explain", label, "update") == run("--explain", "app.Product", "update")

    def test_explain_prints_a_table_of_rules_and_fields(self) -> None:
        out = run("--explain", "app.Product", "update")
        assert out.startswith("What a change would do: update of app.Product\n")
        assert "if its condition holds" in out
        assert "Fields that are read" in out
        assert "Outcome" in out


@pytest.mark.django_db
def test_a_rule_for_views_names_no_fields(audit: Audit) -> None:
    audit(
        {"name": "tags", "model": "app.Product", "exclude": ["stock"]},
        {"name": "viewed", "model": "app.Product", "events": ["view"]},
    )
    document = data()
    [model] = document["models"]
    assert {"view", "update"} <= set(model["events"])
    assert "price" in model["fields"]
    assert "stock" not in model["fields"]
    rules = by("rule", document["rules"])
    assert (rules["tags"]["fields"], rules["viewed"]["fields"]) == (["all", "without stock"], [])


@pytest.mark.django_db
class TestExplainReasons:
    def why(self, event_type: str, model: str = "app.Product") -> dict[str, tuple[Any, str]]:
        rules = by("rule", data("--explain", model, event_type)["rules"])
        return {name: (rule["matches"], rule["why"]) for name, rule in rules.items()}

    def test_conditions_and_fields(self, audit: Audit) -> None:
        audit(
            {"name": "drop", "model": "app.Product", "when": {"price": "decreased"}},
            {"name": "tags", "model": "app.Product", "fields": ["tags"]},
            {"name": "price", "model": "app.*", "fields": ["price"]},
            {"name": "asks", "model": "app.*", "when": {"price": {"to": [1, 2]}, "stock": "changed"}},
            {"name": "code", "model": "app.Product", "when": "tests.test_matching.is_big"},
        )
        assert self.why("create") == {
            "drop": (False, 'its condition on "price" cannot hold on create'),
            "tags": (True, "every create"),
            "price": (True, "every create"),
            "asks": ("maybe", "price to [1, 2]; stock changed"),
            "code": ("maybe", "tests.test_matching.is_big"),
        }
        assert self.why("update")["tags"] == (False, "it audits no column of app.Product")
        assert self.why("m2m")["price"] == (False, "it audits no many-to-many field of app.Product")
        why = self.why("create", "app.Tag")
        assert why["price"] == (False, "app.Tag has none of its fields that can change")
        assert why["asks"] == (False, 'its condition asks for "price", which app.Tag has not')
        assert why["drop"] == (False, "it audits other models")

    def test_explain_names_exclude_models_as_the_reason(self, audit: Audit) -> None:
        audit({"name": "all", "model": "*"}, {"name": "tags", "model": "app.Tag"}, EXCLUDE_MODELS=["app.Product"])
        assert self.why("create") == {
            "all": (False, "EXCLUDE_MODELS names the model"),
            "tags": (False, "it audits other models"),
        }

    def test_a_parents_rule_counts_for_the_ruled_child(self, audit: Audit) -> None:
        audit({"name": "places", "model": "app.Place"}, {"name": "pizza", "model": "app.Pizzeria", "fields": ["oven"]})
        assert self.why("create", "app.Pizzeria") == {"places": (True, "every create"), "pizza": (True, "every create")}
        assert self.why("create", "app.Place") == {
            "places": (True, "every create"),
            "pizza": (False, "it audits other models"),
        }

    def test_when_no_rule_matches(self, audit: Audit) -> None:
        audit({"name": "tags", "model": "app.Tag"})
        out = run("--explain", "app.Product", "update")
        assert "No field would be read." in out
        assert "Nothing would be recorded." in out

    def test_where_only_conditions_decide(self, audit: Audit) -> None:
        audit(
            {"name": "a", "model": "app.Tag", "when": {"name": "changed"}, "level": "warning"},
            {"name": "b", "model": "app.Category"},
            {"name": "c", "model": "app.Category", "when": {"name": "changed"}, "level": "critical"},
        )
        (outcome,) = data("--explain", "app.Tag", "update")["outcome"]
        assert (outcome["recorded"], outcome["level"], outcome["level_at_most"]) == ("maybe", "warning", "warning")
        (outcome,) = data("--explain", "app.Category", "update")["outcome"]
        assert (outcome["recorded"], outcome["level"], outcome["level_at_most"]) == (True, "info", "critical")

    @pytest.mark.django_db
    def test_it_tells_what_really_happens(self, audit: Audit) -> None:
        audit(*SHOP, CHANNELS=CHANNELS)
        expected = {event: data("--explain", "app.Product", event)["outcome"][0]["rules"] for event in MODEL_EVENTS}
        product = Product.objects.create(name="Oil", price=5)
        product.price = 4
        product.save()
        product.tags.add(Tag.objects.create(name="t"))
        product.delete()
        assert {event.event_type: event.rules for event in events(model="app.product")} == expected


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--explain", "app.Prodct", "update"), "There is no model 'app.Prodct'. Did you mean 'app.Product'?"),
            (("--explain", "Pizzeria", "update"), "There is no model 'Pizzeria'. Did you mean 'app.Pizzeria'?"),
            (("--explain", "app.*", "update"), "There is no model 'app.*'. "),
            (("--explain", "app.Tag", "updat"), "'updat' isn't an event of a model. Did you mean 'update'?"),
            (
                ("--explain", "app.Tag", "login"),
                "'login' isn't an event of a model. Known are: create, delete, m2m, upd",
            ),
            (("--database", "othr"), "There is no database 'othr'. Did you mean 'other'?"),
            (("--database", ""), "There is no database ''. "),
            (("--format", "yaml"), "Error: argument --format: invalid choice: 'yaml'"),
            (("--explain", "app.Tag"), "Error: argument --explain: expected 2 arguments"),
        ],
    )
    def test_each_is_one_line(self, arguments: tuple[str, ...], message: str) -> None:
        with pytest.raises(CommandError) as error:
            run(*arguments)
        assert str(error.value).startswith(message)
        assert "\n" not in str(error.value)
