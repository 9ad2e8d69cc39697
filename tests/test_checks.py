from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections, models
from django.dispatch import Signal

from django_signal_audit import Rule, checks
from django_signal_audit.capture import hooks
from django_signal_audit.channels.base import Channel
from django_signal_audit.dispatchers.base import Dispatcher

from .app.models import Picture
from .docs_blocks import ROOT
from .notices import CALLABLE, EMAIL, INBOX, calling

HERE = "tests.test_checks"
PRODUCT = {"name": "r", "model": "app.Product"}
PREFIX = "django_signal_audit."

# Some of the checks of Django itself ask the databases what they can.
pytestmark = pytest.mark.django_db(databases=["default", "other"])

not_ours = object()
reserved = Signal()


class Raising(Channel):
    def send(self, message: Any) -> None: ...

    def check(self) -> list[CheckMessage]:
        raise LookupError("in check")


class RaisingDispatcher(Dispatcher):
    def wake(self, using: str, ids: Any) -> None: ...

    def check(self) -> list[CheckMessage]:
        raise LookupError("in check")


def condition(change: Any) -> bool:
    return True


async def asynchronous(change: Any) -> bool:
    return True


def without_argument() -> bool:
    return True


def ours() -> list[CheckMessage]:
    return [message for message in run_checks(tags=["signals"]) if str(message.id).startswith(PREFIX)]


def found() -> list[tuple[str, str, str]]:
    """Return id, message and hint of what ``manage.py check`` says of this package."""
    return [(str(message.id).removeprefix(PREFIX), message.msg, message.hint or "") for message in ours()]


def rules(*entries: Any, **keys: Any) -> dict[str, Any]:
    return {"RULES": list(entries), **keys}


def rule(**keys: Any) -> dict[str, Any]:
    return rules({**PRODUCT, **keys})


def channel(backend: Any, **options: Any) -> dict[str, Any]:
    return {"CHANNELS": {"it": {"BACKEND": backend, "OPTIONS": options}}}


def event_rule(**keys: Any) -> dict[str, Any]:
    return rules({"name": "r", **keys})


# id, SIGNAL_AUDIT, where (after SIGNAL_AUDIT), a part of the message, a part of the hint
CASES: list[tuple[str, Any, str, str, str]] = [
    ("E001", [], "", "must be a dict, not list.", 'Write SIGNAL_AUDIT = {"RULES"'),
    ("E001", None, "", "must be a dict, not NoneType.", "Write SIGNAL_AUDIT"),
    ("E001", "RULES", "", "must be a dict, not str.", "Write SIGNAL_AUDIT"),
    ("E002", {"RULE": []}, '["RULE"]', "isn't a setting", "Did you mean 'RULES'?"),
    ("E002", {"rules": []}, '["rules"]', "isn't a setting", "Did you mean 'RULES'?"),
    ("E002", {3: []}, "[3]", "isn't a setting", "Known are"),
    ("E003", {"RULES": {"name": "x"}}, '["RULES"]', "must be a list of rules.", "It is {'name': 'x'}."),
    ("E003", {"CHANNELS": [1]}, '["CHANNELS"]', "must be a dict of alias", "It is of type list."),
    ("E003", {"CHANNELS": {1: {}}}, '["CHANNELS"]', "must be a dict of alias", "It is of type dict."),
    ("E003", {"MASK_FIELDS": "phone"}, '["MASK_FIELDS"]', "must be a list of words.", "It is 'phone'."),
    ("E003", {"MASK_FIELDS": ["phone", "--"]}, '["MASK_FIELDS"]', "must be a list of words.", "It is ["),
    ("E003", {"MASK_KEY": 5}, '["MASK_KEY"]', "must be a string or bytes.", "It is of type int."),
    ("E003", {"MASK_KEY": "\ud800"}, '["MASK_KEY"]', "must be a string or bytes.", "It is of type str."),
    ("E003", {"EXCLUDE_MODELS": "app.Tag"}, '["EXCLUDE_MODELS"]', "must be a list of model labels.", "'app.Tag'"),
    ("E003", {"ON_ERROR": "ignore"}, '["ON_ERROR"]', "must be 'raise' or 'log'.", "It is 'ignore'."),
    ("E003", {"DISPATCHER": 3}, '["DISPATCHER"]', "must be the dotted path", "It is 3."),
    ("E003", {"CAPTURE_QUERIES": "no"}, '["CAPTURE_QUERIES"]', "must be True or False.", "It is 'no'."),
    ("E003", {"MAX_VALUE_BYTES": 0}, '["MAX_VALUE_BYTES"]', "must be a positive whole number", "It is 0."),
    ("E003", {"MAX_VALUE_BYTES": True}, '["MAX_VALUE_BYTES"]', "must be a positive whole number", "It is True."),
    ("E003", {"TRUSTED_PROXIES": "10.0.0.1"}, '["TRUSTED_PROXIES"]', "must be a list of IP", "'10.0.0.1'"),
    (
        "E003",
        {"TRUSTED_PROXIES": ["10.0.0"]},
        '["TRUSTED_PROXIES"][0]',
        "isn't an IP address",
        '"10.0.0.0/8"',
    ),
    ("E003", {"EXPORT_FORMATS": ["x"]}, '["EXPORT_FORMATS"]', "must be a dict of alias", "It is ['x']."),
    ("E003", {"REPORT_FORMATS": {"x": 3}}, '["REPORT_FORMATS"]', "must be a dict of alias", "It is {'x': 3}."),
    ("E004", rules("app.Product"), '["RULES"][0]', "must be a dict or a Rule, not str.", 'Write {"name": "product"'),
    ("E004", rules(PRODUCT, None), '["RULES"][1]', "must be a dict or a Rule, not NoneType.", 'Write {"name"'),
    ("E005", rule(field=["price"]), '["RULES"][0]["field"]', "isn't a key of a rule.", "Did you mean 'fields'?"),
    ("E005", rule(NOTIFY=[]), '["RULES"][0]["NOTIFY"]', "isn't a key of a rule.", "Did you mean 'notify'?"),
    (
        "E005",
        {**rule(notify=[{"channel": "it", "too": "a"}]), **channel(CALLABLE, target=f"{HERE}.condition")},
        '["RULES"][0]["notify"][0]["too"]',
        "isn't a key of a notify entry.",
        "Did you mean 'to'?",
    ),
    ("E006", rules({"model": "app.Tag"}), '["RULES"][0]', "has no name.", 'Add "name"'),
    ("E006", rules({"name": " ", "model": "app.Tag"}), '["RULES"][0]', "has no name.", 'Add "name"'),
    ("E006", rules({"name": None, "model": "app.Tag"}), '["RULES"][0]', "has no name.", 'Add "name"'),
    (
        "E007",
        rules(PRODUCT, PRODUCT),
        '["RULES"][1]["name"]',
        "another rule has",
        '["RULES"][0] has the same name.',
    ),
    ("E008", rule(name=3), '["RULES"][0]["name"]', "must be a string of at most 100", "It is 3."),
    ("E008", rule(name="x" * 101), '["RULES"][0]["name"]', "must be a string of at most 100", "…"),
    ("E008", rule(name="a\x00b"), '["RULES"][0]["name"]', "must be a string of at most 100", r"It is 'a\x00b'."),
    ("E008", rule(model={"app": "Product"}), '["RULES"][0]["model"]', "must be a model label or a list", "It is {"),
    ("E008", rule(model=["app.Tag", 3]), '["RULES"][0]["model"]', "must be a model label", "It is ['app.Tag', 3]."),
    ("E008", rule(fields="price"), '["RULES"][0]["fields"]', "must be a list of field names.", "Write ['price']."),
    ("E008", rule(events="create"), '["RULES"][0]["events"]', "must be a list", "Write ['create']."),
    ("E008", rule(notify="mail"), '["RULES"][0]["notify"]', "must be a list of channel", "Write ['mail']."),
    ("E008", rule(notify=[3]), '["RULES"][0]["notify"]', "must be a list of channel", "It is [3]."),
    ("E008", rule(exclude={"a": 1}), '["RULES"][0]["exclude"]', "must be a list of field names.", "It is {'a': 1}."),
    ("E008", rule(mask=[None]), '["RULES"][0]["mask"]', "must be a list of field names.", "It is [None]."),
    ("E008", rule(when=["price"]), '["RULES"][0]["when"]', "must be a dict of field", "It is ['price']."),
    ("E008", rule(subject=3), '["RULES"][0]["subject"]', "must be a template string.", "It is 3."),
    ("E008", rule(enabled="yes"), '["RULES"][0]["enabled"]', "must be True or False.", "It is 'yes'."),
    (
        "E008",
        {**rule(notify=[{"channel": "it", "to": []}]), **channel(CALLABLE, target=f"{HERE}.condition")},
        '["RULES"][0]["notify"][0]["to"]',
        "must be a recipient",
        "It is [].",
    ),
    (
        "E008",
        {**rule(notify=[{"channel": "it", "to": "x" * 256}]), **channel(CALLABLE, target=f"{HERE}.condition")},
        '["RULES"][0]["notify"][0]["to"]',
        "at most 255 characters",
        "…",
    ),
    ("E009", rule(model="app.Prodct"), '["RULES"][0]["model"]', "doesn't exist", "Did you mean 'app.Product'?"),
    (
        "E009",
        rule(model="Restaurant"),
        '["RULES"][0]["model"]',
        "doesn't exist",
        "Did you mean 'app.Restaurant'?",
    ),
    ("E009", rule(model="ap.*"), '["RULES"][0]["model"]', "matches no model", "Did you mean 'app.*'?"),
    ("E009", rule(model=["app.Tag", "a.b.c"]), '["RULES"][0]["model"]', "doesn't exist", ""),
    (
        "E009",
        rule(model="app.Product_tags"),
        '["RULES"][0]["model"]',
        "an automatic through",
        "of app.Product instead.",
    ),
    ("E009", rule(model="django_signal_audit.AuditEvent"), '["RULES"][0]["model"]', "cannot be audited", "Remove it."),
    (
        "E009",
        {"EXCLUDE_MODELS": ["sessions.Session", "app.Prodct"]},
        '["EXCLUDE_MODELS"][1]',
        "doesn't exist",
        "Did you mean 'app.Product'?",
    ),
    ("E010", rule(fields=["prce"]), '["RULES"][0]["fields"]', "names 'prce'", "Did you mean 'price'?"),
    ("E010", rule(fields=["category_id"]), '["RULES"][0]["fields"]', "'category_id'", "Did you mean 'category'?"),
    ("E010", rule(exclude=["zzzzzz"]), '["RULES"][0]["exclude"]', "names 'zzzzzz'", "Known are: api_token, "),
    ("E010", rule(mask=["api_tokn"]), '["RULES"][0]["mask"]', "names 'api_tokn'", "Did you mean 'api_token'?"),
    ("E010", rule(when={"prise": "changed"}), '["RULES"][0]["when"]', "names 'prise'", "Did you mean 'price'?"),
    ("E010", rule(when={3: "changed"}), '["RULES"][0]["when"]', "names 3", "Known are"),
    ("E010", rule(fields=["notes"]), '["RULES"][0]["fields"]', "names 'notes'", ""),
    ("E011", rule(events=["creat"]), '["RULES"][0]["events"]', "names 'creat'", "Did you mean 'create'?"),
    ("E011", rule(events=["login"]), '["RULES"][0]["events"]', "names 'login'", "Move 'login' to a rule of its own"),
    ("E011", event_rule(events=["delete"]), '["RULES"][0]["events"]', "needs a model", 'Add "model"'),
    (
        "E011",
        event_rule(signal=f"{HERE}.reserved", event="update"),
        '["RULES"][0]["event"]',
        "is 'update'",
        "such as product_viewed",
    ),
    (
        "E011",
        event_rule(signal=f"{HERE}.reserved", event="login"),
        '["RULES"][0]["event"]',
        "is 'login'",
        "such as product_viewed",
    ),
    ("E012", rule(when={"price": "decresed"}), '["RULES"][0]["when"]["price"]', "isn't an operator", "'decreased'?"),
    ("E012", rule(when={"price": {"to": "x"}}), '["RULES"][0]["when"]["price"]["to"]', "cannot be 'x'", "Give a value"),
    # One of the models can take it, another cannot.
    (
        "E012",
        rule(model=["app.Tracked", "app.Product", "app.Box"], when={"label": {"increased_by": 1}}),
        '["RULES"][0]["when"]["label"]["increased_by"]',
        "cannot be 1",
        "CharField 'label'",
    ),
    ("E013", rule(level="wrning"), '["RULES"][0]["level"]', "must be one of info", "Did you mean 'warning'?"),
    ("E013", rule(level=["info"]), '["RULES"][0]["level"]', "must be one of info", ""),
    ("E014", rule(notify=["mial"]), '["RULES"][0]["notify"][0]', "names the channel 'mial'", "Add it to CHANNELS."),
    (
        "E014",
        {**rule(notify=["log", "mial"]), "CHANNELS": {"mail": calling("take"), "log": calling("take")}},
        '["RULES"][0]["notify"][1]',
        "names the channel 'mial'",
        "Did you mean 'mail'?",
    ),
    ("E014", rule(notify=[{"to": "a"}]), '["RULES"][0]["notify"][0]', "has no channel", 'Add "channel"'),
    ("E014", rule(notify=[{"channel": 3}]), '["RULES"][0]["notify"][0]["channel"]', "must be the alias", "It is 3."),
    ("E015", {"CHANNELS": {"it": None}}, '["CHANNELS"]["it"]', "must be a dict, not NoneType", "Write {'BACKEND'"),
    ("E015", {"CHANNELS": {"it": {}}}, '["CHANNELS"]["it"]["BACKEND"]', "not None", "Such as"),
    (
        "E015",
        {"CHANNELS": {"it": {"BACKEND": EMAIL, "OPTION": {}}}},
        '["CHANNELS"]["it"]["OPTION"]',
        "isn't a key of a channel.",
        "Did you mean 'OPTIONS'?",
    ),
    (
        "E015",
        {"CHANNELS": {"it": {"BACKEND": INBOX, "OPTIONS": None}}},
        '["CHANNELS"]["it"]["OPTIONS"]',
        "must be a dict, not NoneType.",
        "Write a dict",
    ),
    ("E015", channel(EMAIL[:-3]), '["CHANNELS"]["it"]["BACKEND"]', "cannot import", f"Did you mean '{EMAIL}'?"),
    (
        "E015",
        channel(EMAIL.replace("channels", "chanels")),
        '["CHANNELS"]["it"]["BACKEND"]',
        "cannot import",
        f"Did you mean '{EMAIL}'?",
    ),
    (
        "E015",
        channel(f"{HERE}.not_ours"),
        '["CHANNELS"]["it"]["BACKEND"]',
        "isn't a subclass",
        "Correct the dotted path.",
    ),
    (
        "E015",
        channel(EMAIL, too="a@example.com"),
        '["CHANNELS"]["it"]["OPTIONS"]["too"]',
        "isn't an option of this channel.",
        "Did you mean 'to'?",
    ),
    ("E015", channel(EMAIL, to=[None]), '["CHANNELS"]["it"]["OPTIONS"]["to"]', "must be a recipient", "It is [None]"),
    ("E015", channel(EMAIL, to="x" * 256), '["CHANNELS"]["it"]["OPTIONS"]["to"]', "longer than 255", "Correct"),
    ("E015", channel(f"{HERE}.Raising"), '["CHANNELS"]["it"]', "LookupError('in check')", "Fix the method"),
    ("E015", {"CHANNELS": {"": calling("take")}}, '["CHANNELS"][""]', "alias that is empty", "short name"),
    ("E015", {"CHANNELS": {"x" * 101: calling("take")}}, '["CHANNELS"]["xx', "longer than 100", "short name"),
    ("E016", rule(when=f"{HERE}.conditon"), '["RULES"][0]["when"]', "cannot import", f"'{HERE}.condition'?"),
    (
        "E016",
        event_rule(signal="tests.app.signals.veiwed", event="seen"),
        '["RULES"][0]["signal"]',
        "cannot import",
        "Did you mean 'tests.app.signals.viewed'?",
    ),
    (
        "E016",
        event_rule(signal="tests.app.signls.viewed", event="seen"),
        '["RULES"][0]["signal"]',
        "cannot import",
        "Did you mean 'tests.app.signals.viewed'?",
    ),
    ("E016", rule(when=f"{HERE}.not_ours"), '["RULES"][0]["when"]', "which isn't a function", "that takes a change"),
    ("E016", rule(when=f"{HERE}.without_argument"), '["RULES"][0]["when"]', "can't be called with (change)", "Name"),
    ("E016", rule(when="tests.app.models.Product"), '["RULES"][0]["when"]', "which is a class: what it makes", "Name"),
    ("E016", rule(when=f"{HERE}.asynchronous"), '["RULES"][0]["when"]', "is an async function", "Name"),
    ("E016", rule(when="price"), '["RULES"][0]["when"]', "cannot import 'price'", 'such as {"price": "changed"}.'),
    ("E016", rule(when="prise"), '["RULES"][0]["when"]', "cannot import 'prise'", "Correct the dotted path."),
    ("E016", rule(when=""), '["RULES"][0]["when"]', "cannot import ''", "Correct the dotted path."),
    ("E016", rule(when="..."), '["RULES"][0]["when"]', "'...'", ""),
    ("E016", event_rule(signal=f"{HERE}.condition", event="seen"), '["RULES"][0]["signal"]', "isn't a custom", "Name"),
    # Recorded, these would come from every model, or be about the record itself.
    (
        "E016",
        event_rule(signal="django.db.models.signals.post_save", event="saved"),
        '["RULES"][0]["signal"]',
        "isn't a custom django.dispatch.Signal",
        "Name",
    ),
    (
        "E016",
        event_rule(signal="django_signal_audit.signals.event_recorded", event="recorded"),
        '["RULES"][0]["signal"]',
        "isn't a custom django.dispatch.Signal",
        "Name",
    ),
    (
        "E017",
        {**rule(notify=["it"], subject="{{ object }"), **channel(CALLABLE, target=f"{HERE}.condition")},
        '["RULES"][0]["subject"]',
        "{{ that is not closed",
        "Close it",
    ),
    (
        "E017",
        {**rule(notify=["it"], subject="{{ object|upcase }}"), **channel(CALLABLE, target=f"{HERE}.condition")},
        '["RULES"][0]["subject"]',
        "does not compile",
        "only Django's own filters",
    ),
    (
        "E017",
        {
            **rule(notify=[{"channel": "it", "message": "{% if %}"}]),
            **channel(CALLABLE, target=f"{HERE}.condition"),
        },
        '["RULES"][0]["notify"][0]["message"]',
        "does not compile",
        "Fix the template.",
    ),
    (
        "E017",
        {**rule(notify=["it"], message='{% include "x.txt" %}'), **channel(CALLABLE, target=f"{HERE}.condition")},
        '["RULES"][0]["message"]',
        "includes another template",
        "Write the text here instead.",
    ),
    (
        "E018",
        rule(model="app.Team", fields=["members"]),
        '["RULES"][0]["fields"]',
        "the through model app.Seat",
        '"model": "app.Seat"',
    ),
    ("E020", event_rule(), '["RULES"][0]', "audits nothing.", 'Add "model"'),
    ("E020", event_rule(model=[]), '["RULES"][0]', "audits nothing.", 'Add "model"'),
    ("E020", event_rule(signal=f"{HERE}.reserved"), '["RULES"][0]', "a signal and no event", 'Add "event"'),
    ("E020", rule(signal=f"{HERE}.reserved", event="seen"), '["RULES"][0]', "both a model and a signal", "two rules"),
    ("E020", event_rule(event="seen"), '["RULES"][0]', "an event and no signal", 'Did you mean "events"?'),
    ("E021", rule(retention="1 year"), '["RULES"][0]["retention"]', 'such as "365d"', "It is '1 year'."),
    ("E021", rule(retention=365), '["RULES"][0]["retention"]', 'such as "365d"', "It is 365."),
    (
        "E021",
        {**rule(notify=[{"channel": "it", "digest": 3}]), **channel(CALLABLE, target=f"{HERE}.condition")},
        '["RULES"][0]["notify"][0]["digest"]',
        'such as "1h"',
        "It is 3.",
    ),
    (
        "E022",
        {"DISPATCHER": "django_signal_audit.dispatchers.OnCommitDispacher"},
        '["DISPATCHER"]',
        "cannot import",
        "Did you mean 'django_signal_audit.dispatchers.OnCommitDispatcher'?",
    ),
    ("E022", {"DISPATCHER": f"{HERE}.RaisingDspatch"}, '["DISPATCHER"]', "cannot", f"'{HERE}.RaisingDispatcher'?"),
    ("E022", {"DISPATCHER": f"{HERE}.not_ours"}, '["DISPATCHER"]', "isn't a subclass", "Correct the dotted path."),
    ("E022", {"DISPATCHER": f"{HERE}.RaisingDispatcher"}, '["DISPATCHER"]', "LookupError('in check')", "Fix"),
    ("E022", {"DISPATCHER": ""}, '["DISPATCHER"]', "cannot import ''", "Correct"),
    (
        "E023",
        {"REPORT_FORMATS": {"x": "django_signal_audit.reports.formats.csv.CsvFormt"}},
        '["REPORT_FORMATS"]["x"]',
        "cannot import",
        "Did you mean 'django_signal_audit.reports.formats.csv.CsvFormat'?",
    ),
    ("E023", {"REPORT_FORMATS": {"x": f"{HERE}.not_ours"}}, '["REPORT_FORMATS"]["x"]', "isn't a subclass", ""),
    ("E023", {"REPORT_FORMATS": {"x": "..."}}, '["REPORT_FORMATS"]["x"]', "cannot import '...'", ""),
    (
        "E028",
        {"EXPORT_FORMATS": {"x": "django_signal_audit.reports.exports.ocsf.OcsfFrmat"}},
        '["EXPORT_FORMATS"]["x"]',
        "cannot import",
        "Did you mean 'django_signal_audit.reports.exports.ocsf.OcsfFormat'?",
    ),
    (
        "E028",
        {"EXPORT_FORMATS": {"x": "django_signal_audit.reports.formats.csv.CsvFormat"}},
        '["EXPORT_FORMATS"]["x"]',
        "isn't a subclass of django_signal_audit.reports.exports.base.ExportFormat",
        "",
    ),
    ("E025", rule(mask=["tags"]), '["RULES"][0]["mask"]', "the keys of its members", "exclude the field"),
    ("E025", rule(mask=["id"]), '["RULES"][0]["mask"]', "part of the object's key", "exclude the field"),
    ("E025", rule(model="app.Line", mask=["order"]), '["RULES"][0]["mask"]', "the object's key", "exclude"),
    ("E090", rule(personal=["tags"]), '["RULES"][0]["personal"]', "the keys of its members", "exclude the field"),
    ("E090", rule(personal=["id"]), '["RULES"][0]["personal"]', "part of the object's key", "exclude the field"),
    (
        "E026",
        {**rule(notify=["it"]), **channel(EMAIL)},
        '["RULES"][0]["notify"][0]',
        "has no recipient",
        'SIGNAL_AUDIT["CHANNELS"]["it"]["OPTIONS"]',
    ),
    (
        "E027",
        {**rule(model="app.Person", notify=[{"channel": "it", "to": "ownr.email"}]), **channel(EMAIL)},
        '["RULES"][0]["notify"][0]["to"]',
        "is neither a path from app.Person nor a function",
        "Did you mean 'owner'?",
    ),
    ("W001", rule(exclude=["price"], fields=["price"]), '["RULES"][0]', "can never match", "Correct"),
    ("W001", rule(fields=["id"]), '["RULES"][0]', "none of its fields that can change", "Correct"),
    ("W001", rule(events=["m2m"], fields=["price"]), '["RULES"][0]', "no many-to-many field of app.Product", "Correct"),
    ("W001", rule(model="app.Tag", events=["m2m"]), '["RULES"][0]', "no many-to-many field of app.Tag", "Correct"),
    ("W001", rule(events=["update"], fields=["tags"]), '["RULES"][0]', "audits no column", "Correct"),
    ("W001", rule(events=["create"], when={"price": "decreased"}), '["RULES"][0]', "cannot hold on create", "Correct"),
    ("W001", rule(events=["delete"], when={"price": {"to": 1}}), '["RULES"][0]', "cannot hold on delete", "Correct"),
    ("W001", rule(when={"id": "changed"}), '["RULES"][0]', 'condition on "id" cannot hold', "Correct"),
    (
        "W001",
        rule(events=["update", "m2m"], when={"tags": "changed", "price": "changed"}),
        '["RULES"][0]',
        'can never match: its condition asks for "tags" and "price" at once',
        "Make two rules of it",
    ),
    ("W001", rule(when={"price": {"from": 1, "to": 1}}), '["RULES"][0]', "can never match", "Correct"),
    (
        "W001",
        rule(when={"price": {"crosses_above": 3, "decreased_by": 1}}),
        '["RULES"][0]',
        "can never match",
        "Correct",
    ),
    (
        "W001",
        rule(events=["create", "update"], when={"price": "decreased"}),
        '["RULES"][0]["events"]',
        "names 'create', which can never match",
        "Remove the event",
    ),
    ("W001", rule(paths=["/a"]), '["RULES"][0]["paths"]', 'without the event "request"', "Remove it."),
    (
        "W001",
        event_rule(events=["request"], methods=["GTE"]),
        '["RULES"][0]["methods"]',
        "isn't an HTTP method",
        "Did you mean 'GET'?",
    ),
    ("W001", event_rule(events=["seen"], fields=["a"]), '["RULES"][0]["fields"]', "without a model", "Remove it"),
    ("W001", event_rule(events=["seen"], when={"a": "changed"}), '["RULES"][0]["when"]', "never hold", "dotted path"),
    ("W001", rule(subject="Hello"), '["RULES"][0]["subject"]', "notifies nobody", 'Add "notify".'),
    (
        "E021",
        {**rule(notify=[{"channel": "it", "throttle": "0/1h"}]), **channel(CALLABLE, target=f"{HERE}.condition")},
        '["RULES"][0]["notify"][0]["throttle"]',
        'a number of messages per duration such as "5/1h"',
        "It is '0/1h'.",
    ),
    (
        "E021",
        {**rule(notify=[{"channel": "it", "digest": "99999999d"}]), **channel(CALLABLE, target=f"{HERE}.condition")},
        '["RULES"][0]["notify"][0]["digest"]',
        "of at most 366 days",
        "It is '99999999d'.",
    ),
    (
        "W008",
        {**rule(notify=["it"], subject="{{ new.prise }}"), **channel(CALLABLE, target=f"{HERE}.condition")},
        '["RULES"][0]["subject"]',
        "shows {{ new.prise }}",
        "Did you mean 'price'?",
    ),
    (
        "W008",
        {
            **rule(notify=["it"], message="{% if 1 %}{{ old.category_id|default:3 }}{% endif %}"),
            **channel(CALLABLE, target=f"{HERE}.condition"),
        },
        '["RULES"][0]["message"]',
        "shows {{ old.category_id }}",
        "Did you mean 'category'?",
    ),
]


def case_id(case: Any) -> str:
    return f"{case[0]}-{case[2]}"[:60]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_each_mistake_is_one_message_with_id_path_and_hint(settings: Any, case: Any) -> None:
    code, value, path, message, hint = case
    settings.SIGNAL_AUDIT = value
    ((found_code, found_message, found_hint),) = found()
    assert found_code == code
    assert found_message.startswith(f"SIGNAL_AUDIT{path}")
    assert message in found_message
    assert hint in found_hint
    assert found_hint
    assert found_hint.endswith((".", "?", "…"))


RULE_CASES = [case for case in CASES if isinstance(case[1], Mapping) and isinstance(case[1].get("RULES"), list)]


@pytest.mark.parametrize("case", [case for case in RULE_CASES if "'enabled'" not in str(case[1])], ids=case_id)
def test_rules_that_are_off_are_checked_too(settings: Any, case: Any) -> None:
    code, value, *_ = case
    off = [{**entry, "enabled": False} if isinstance(entry, Mapping) else entry for entry in value["RULES"]]
    settings.SIGNAL_AUDIT = {**value, "RULES": off}
    assert [item[0] for item in found()] == [code]


@pytest.mark.parametrize("case", [case for case in RULE_CASES if case[0] not in ("E004", "E005", "E006")], ids=case_id)
def test_a_rule_object_is_checked_like_a_dict(settings: Any, case: Any) -> None:
    code, value, *_ = case
    settings.SIGNAL_AUDIT = {**value, "RULES": [Rule(**entry) for entry in value["RULES"]]}
    assert [item[0] for item in found()] == [code]


class TestMessages:
    def test_the_command_fails_and_names_them(self, settings: Any) -> None:
        settings.SIGNAL_AUDIT = rules({**PRODUCT, "fields": ["prce"], "events": ["creat"]})
        with pytest.raises(SystemCheckError) as error:
            call_command("check")
        assert "(django_signal_audit.E010)" in str(error.value)
        assert "(django_signal_audit.E011)" in str(error.value)

    def test_no_secret_is_shown(self, settings: Any) -> None:
        for wrong in (
            {"MASK_KEY": ["s3cret"]},
            {"CHANNELS": [{"OPTIONS": {"secret": "s3cret"}}]},
            {"CHANNELS": {"it": {"BACKEND": CALLABLE, "OPTIONS": {"secret": "s3cret"}}}},
        ):
            settings.SIGNAL_AUDIT = wrong
            assert found()
            assert "s3cret" not in str(found())


class TestRightSettings:
    @pytest.mark.parametrize(
        "value",
        [
            {},
            {"RULES": [], "CHANNELS": {}, "MASK_FIELDS": [], "EXCLUDE_MODELS": [], "REPORT_FORMATS": {}},
            rule(),
            rules(Rule(name="a", model="*"), {"name": "b", "model": ["app.*", "auth.user"]}),
            rule(model="app.*", fields=["price", "members", "name"][:1], mask=["name", "api_token"]),
            rule(model="app.*", exclude=["modified"], when={"price": {"to": 3}}),
            rule(when={"price": "decreased", "stock": {"to": 0}}, events=["update"]),
            rule(when={"tags": "changed"}),
            rule(when=f"{HERE}.condition"),
            rule(when={}),
            rule(retention="12w", level="critical", enabled=False),
            rule(model="app.Line", fields=["order"]),
            event_rule(events=["login", "logout", "login_failed", "request", "my_own"]),
            event_rule(events=["request"], paths=["/a/*"], methods=["get", "POST"]),
            event_rule(signal=f"{HERE}.reserved", event="seen", when=f"{HERE}.condition"),
            event_rule(signal=f"{HERE}.reserved", event="seen", events=["seen_too"]),
            {**rule(notify=["it"]), **channel(EMAIL, to="a@example.com")},
            {**rule(notify=[{"channel": "it", "to": ["superusers", "actor"]}]), **channel(INBOX)},
            {
                **rule(
                    notify=["it"], subject="{{ object }}: {{ old.price }} {{ new.items }}", message="{{ event.id }}"
                ),
                **channel(CALLABLE, target=f"{HERE}.condition"),
            },
            {"TRUSTED_PROXIES": ["10.0.0.7", "10.0.0.0/8", "::1"], "MASK_KEY": b"x", "ON_ERROR": "log"},
            {"EXCLUDE_MODELS": ["sessions.session", "migrations.migration", "App.*", "app.product_tags", "*"]},
            {"DISPATCHER": "django_signal_audit.dispatchers.WorkerDispatcher", "MAX_VALUE_BYTES": 1},
            {"REPORT_FORMATS": {"mine": "django_signal_audit.reports.formats.csv.CsvFormat"}},
            {"EXPORT_FORMATS": {"mine": "django_signal_audit.reports.exports.ocsf.OcsfFormat"}},
        ],
    )
    def test_they_are_no_mistake(self, settings: Any, value: Any) -> None:
        settings.SIGNAL_AUDIT = value
        # What is said of the models that hold secrets is no mistake in the settings.
        assert [problem for problem in found() if not problem[1].startswith("vault.")] == []

    def test_the_default_is_none(self) -> None:
        assert found() == []


class TestProject:
    """What is wrong with the project around the rules."""

    def test_a_database_without_the_tables(self, settings: Any) -> None:
        settings.SIGNAL_AUDIT = rules({"name": "r", "model": ["app.Tag", "app.Category"]})
        settings.DATABASE_ROUTERS = [f"{HERE}.TagsOnly"]
        ((code, message, hint),) = found()
        assert code == "E019"
        assert message == 'DATABASES["other"] has the audited models app.Tag but not the audit tables.'
        assert "allow django_signal_audit" in hint
        assert not checks.check_databases(databases=["default"])

    def test_a_django_that_behaves_otherwise_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(hooks._EXPECTATIONS, "the order of Signal.receivers", lambda: False)
        ((code, message, hint),) = found()
        assert code == "E024"
        assert "the order of Signal.receivers" in message
        assert hint

    @pytest.mark.parametrize("owner", ["Options", "Query", "Collector", "SQLDeleteCompiler"])
    def test_a_django_without_what_capture_uses_is_an_error(self, monkeypatch: pytest.MonkeyPatch, owner: str) -> None:
        used = "_USED" if owner in hooks._USED else "_USED_BY_QUERIES"
        monkeypatch.setattr(hooks, used, {**getattr(hooks, used), owner: "chain no_such_thing"})
        missing = [message for code, message, _ in found() if code == "E024"]
        assert f"Django: {owner}.no_such_thing is not as capture relies on." in missing

    def test_where_queries_are_not_captured_nothing_of_theirs_has_to_be_there(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hooks, "_USED_BY_QUERIES", {"Query": "no_such_thing"})
        settings.SIGNAL_AUDIT = {"CAPTURE_QUERIES": False}
        assert not [code for code, _, _ in found() if code == "E024"]

    def test_a_missing_middleware_is_a_warning(self, settings: Any) -> None:
        settings.SIGNAL_AUDIT = rule()
        settings.MIDDLEWARE = [path for path in settings.MIDDLEWARE if "audit" not in path]
        ((code, message, hint),) = found()
        assert (code, message.split()[0]) == ("W002", "MIDDLEWARE")
        assert "django_signal_audit.middleware.AuditMiddleware" in hint
        settings.SIGNAL_AUDIT = {}
        assert found() == []

    def test_the_middleware_twice_is_a_warning(self, settings: Any) -> None:
        settings.SIGNAL_AUDIT = rule()
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django_signal_audit.middleware.AuditMiddleware"]
        ((code, message, hint),) = found()
        assert (code, hint) == ("W086", "Keep the first.")
        assert message == "MIDDLEWARE has AuditMiddleware 2 times: each request is recorded as often."

    def test_an_entry_for_the_recipients_of_another_is_a_warning(self, settings: Any) -> None:
        entry = {"channel": "mail", "to": ["a@example.com"]}
        channels = {"mail": {"BACKEND": EMAIL}}
        settings.SIGNAL_AUDIT = {**rule(notify=[entry, {**entry, "subject": "b"}]), "CHANNELS": channels}
        ((code, message, _),) = found()
        assert code == "W085"
        assert message.startswith('SIGNAL_AUDIT["RULES"][0]["notify"][1] names the channel "mail"')
        settings.SIGNAL_AUDIT = {**rule(notify=[entry, {**entry, "to": ["b@example.com"]}]), "CHANNELS": channels}
        assert found() == []

    def test_a_subclass_of_the_middleware_will_do(self, settings: Any) -> None:
        settings.SIGNAL_AUDIT = rule()
        settings.MIDDLEWARE = [f"{HERE}.OwnMiddleware", f"{HERE}.condition", "no.such.Thing"]
        assert found() == []

    def test_the_admin_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        configs = list(apps.get_app_configs())
        monkeypatch.setattr(apps, "get_app_configs", lambda: configs[::-1])
        messages = [message for message in checks.check_installation() if message.id == f"{PREFIX}W003"]
        assert [message.msg.split()[0] for message in messages] == ["INSTALLED_APPS"]
        assert 'before "django.contrib.admin"' in str(messages[0].hint)

    @pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite only")
    def test_sqlite_without_immediate(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.SIGNAL_AUDIT = rule()
        for mode, count in (("EXCLUSIVE", 0), ("immediate", 0), ("DEFERRED", 1), (None, 1)):
            monkeypatch.setitem(connections["other"].settings_dict["OPTIONS"], "transaction_mode", mode)
            messages = found()
            assert [code for code, _, _ in messages] == ["W005"] * count
            for _, message, hint in messages:
                assert message.startswith('DATABASES["other"]["OPTIONS"]["transaction_mode"] isn\'t')
                assert hint == 'Set "transaction_mode": "IMMEDIATE".'
        settings.SIGNAL_AUDIT = {}
        assert found() == []

    def test_what_the_database_does_by_itself(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        by_database = object()
        monkeypatch.setattr(models, "DB_CASCADE", by_database, raising=False)
        monkeypatch.setattr(Picture._meta.get_field("product").remote_field, "on_delete", by_database)
        settings.SIGNAL_AUDIT = rules({"name": "r", "model": "app.Picture"})
        messages = [message for message in checks.check_installation() if message.id == f"{PREFIX}W006"]
        assert [message.msg.split()[0] for message in messages] == ["app.Picture.product"]
        assert "models.CASCADE" in str(messages[0].hint)

    def test_a_secret_key(self, settings: Any) -> None:
        settings.SIGNAL_AUDIT = rules({"name": "r", "model": ["app.Country", "app.Line"]}, MASK_FIELDS=["code"])
        ((code, message, hint),) = found()
        assert (code, message.split()[0]) == ("W007", "app.Country.code")
        assert "Leave the model out" in hint


class TagsOnly:
    """Keeps the audit tables from a database that has tags."""

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool | None:
        return None if db == "default" else (app_label, model_name) == ("app", "tag")


def __getattr__(name: str) -> Any:
    if name == "OwnMiddleware":
        from django_signal_audit.middleware import AuditMiddleware

        return type(name, (AuditMiddleware,), {})
    raise AttributeError(name)


class TestCodes:
    """Code, tests and documentation name the same ids."""

    def in_source(self) -> set[str]:
        pattern = re.compile(r'"([EW]0\d\d)"|django_signal_audit\.([EW]0\d\d)')
        texts = [path.read_text(encoding="utf-8") for path in (ROOT / "django_signal_audit").rglob("*.py")]
        return {one or other for text in texts for one, other in pattern.findall(text)}

    def in_docs(self) -> list[str]:
        text = (ROOT / "docs" / "reference" / "checks.md").read_text(encoding="utf-8")
        return re.findall(r"^### `([EW]0\d\d)`$", text, re.MULTILINE)

    def test_every_id_is_documented_once(self) -> None:
        assert sorted(self.in_docs()) == sorted(self.in_source())

    def test_every_id_has_an_example_and_a_fix(self) -> None:
        text = (ROOT / "docs" / "reference" / "checks.md").read_text(encoding="utf-8")
        section = r"^### `[EW]0\d\d`\n\n.+\n\n- Example: .+\n- Fix: .+$"
        assert len(re.findall(section, text, re.MULTILINE)) == len(self.in_docs())

    def test_every_id_is_tested(self) -> None:
        texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py")]
        assert {code for text in texts for code in re.findall(r"\b[EW]0\d\d\b", text)} >= self.in_source() - {"W004"}

    def test_errors_are_errors(self, settings: Any) -> None:
        settings.SIGNAL_AUDIT = {**rule(level="x"), "RULE": 1}
        assert all(message.is_serious() for message in ours())
        settings.SIGNAL_AUDIT = rule(paths=["/"])
        assert not any(message.is_serious() for message in ours())


def test_a_wrong_channel_is_an_exception_of_djangos_kind(settings: Any) -> None:
    from django_signal_audit.channels import get_channel

    settings.SIGNAL_AUDIT = channel("nowhere.Channel")
    with pytest.raises(ImproperlyConfigured, match=r'\["BACKEND"\] cannot import'):
        get_channel("it")
