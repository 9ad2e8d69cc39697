"""A secret in a document may be named by another value: pairs, headers, arguments, and JSON within a text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core import serializers

from django_signal_audit import audit_context, record
from django_signal_audit.models import AuditEvent, Notification
from django_signal_audit.replay import Replay
from django_signal_audit.rules.registry import get_registry

from .app.models import Product
from .conftest import Audit, events, last

pytestmark = pytest.mark.django_db

SECRET = "hunter2-hunter2"
DOCUMENTS: dict[str, Any] = {
    "pair": {"name": "password", "value": SECRET},
    "pair in other letters": {"Name": "DB_PASSWORD", "Value": SECRET},
    "key and value": {"key": "X-Api-Key", "value": [SECRET]},
    "change": {"field": "password", "old": SECRET, "new": f"{SECRET}!"},
    "short names": {"k": "password", "v": SECRET},
    "field of a form": {"type": "password", "value": SECRET},
    "variable": {"env": "DB_PASSWORD", "value": SECRET},
    "change in other words": {"field": "password", "from": SECRET, "to": f"{SECRET}!"},
    "XML that was converted": {"field": [{"@name": "password", "#text": SECRET}, {"@name": "user", "#text": "ann"}]},
    "a question": {"id": "password", "answer": SECRET},
    "now and before": {"name": "password", "current": SECRET, "previous": f"{SECRET}!"},
    "patch": [{"op": "replace", "path": "/user/password", "value": SECRET}],
    "pairs": [["theme", "dark"], ["password", SECRET]],
    "headers": {"headers": [{"name": "Accept", "value": "*/*"}, {"name": "Authorization", "value": f"Basic {SECRET}"}]},
    "lines": ["Accept: */*", f"Authorization: Bearer {SECRET}"],
    "environment": ["PATH=/bin", f"PGPASSWORD={SECRET}"],
    "arguments": ["creatething", "--password", SECRET, "--verbose"],
    "arguments in one": ["creatething", f"--api-key={SECRET}"],
    "text": {"body": json.dumps({"user": "ann", "password": SECRET})},
    "text of a text": {"body": json.dumps({"inner": json.dumps([{"name": "token", "value": SECRET}])})},
    "text that calls itself masked": {"body": json.dumps({"$masked": "x", "password": SECRET})},
    "text that calls itself a digest": {"body": json.dumps({"a": {"$digest": "x", "length": 1, "password": SECRET}})},
    "text that calls its secret masked": {"body": json.dumps({"password": {"$masked": "x", "raw": SECRET}})},
    "text with a key that comes twice": {"body": f'{{"password": "{SECRET}", "password": null}}'},
    "text with a huge integer": {"body": f'{{"password": "{SECRET}", "x": {"9" * 5000}}}'},
    "text that is too deep": {"body": f'{{"password": "{SECRET}", "x": {"[" * 900}{"]" * 900}}}'},
    "text with a byte order mark": {"body": "\ufeff" + json.dumps({"password": SECRET})},
    "text of nothing but a text": {"body": json.dumps(json.dumps({"password": SECRET}))},
    "texts one after another": {"body": json.dumps({"password": SECRET}) + json.dumps({"a": 1})},
    "text that ends too early": {"body": json.dumps({"password": SECRET, "a": [1, 2]})[:-2]},
    "names and values": {"names": ["user", "password"], "values": ["ann", SECRET]},
    "keys and data": {"keys": ["password"], "data": [SECRET]},
    "parameters and their values": {"paramNames": ["api_key", "q"], "param_values": [SECRET, "tea"]},
    "columns and rows": {"columns": ["user", "password"], "rows": [["ann", SECRET], ["bob", f"{SECRET}!"]]},
    "columns that are objects": {"columns": [{"name": "user"}, {"name": "token"}], "rows": [["ann", SECRET]]},
    "a table with a header": [["user", "password", "age"], ["ann", SECRET, 3]],
    "a narrow table with a header": [["user", "password"], ["ann", SECRET], ["bob", f"{SECRET}!"]],
    "a narrow table that begins with it": [["password", "user"], [SECRET, "ann"]],
    "a lone pair": ["password", SECRET],
    "a lone pair among others": [["password", SECRET], ["a", "b", "c"]],
    "a line": {"text": f"Authorization: Bearer {SECRET}"},
    "a line of another header": {"text": f"x-api-key: {SECRET}"},
    "a line of a cookie": {"text": f"Cookie: theme=dark; sessionid={SECRET}"},
    "a line without a blank": {"text": f"Authorization:Bearer {SECRET}"},
    "lines in one text": {"text": f"GET / HTTP/1.1\r\nAccept: */*\r\nAuthorization: Basic {SECRET}\r\n"},
    "headers in one text": {"text": f"Accept: */*\nProxy-Authorization: Basic {SECRET}"},
    "YAML": {"text": f"database:\n  user: ann\n  password: {SECRET}\n"},
    "a line of YAML": {"text": f"api_token: {SECRET}"},
    "an INI file": {"text": f"[database]\nuser = ann\npassword = {SECRET}\n"},
    "settings": {"text": f"# ours\nDEBUG = True\nSECRET_KEY = '{SECRET}'\n"},
    "an INI file without blanks": {"text": f"[database]\nuser=ann\npassword={SECRET}\n"},
    "an INI file with a comment": {"text": f"# of the shop\n[database]\npassword={SECRET}\n"},
    "names of their own for a name and a value": {"field_name": "password", "field_value": SECRET},
    "names of their own, in camel case": [{"paramName": "password", "paramValue": SECRET}],
    "a kind and a value": {"kind": "password", "value": SECRET},
    "a line of an INI file in a list": [f"password = {SECRET}"],
    "YAML with its mark": {"text": f"---\nuser: ann\npassword: {SECRET}\n"},
    "a form": {"text": f"password={SECRET}&user=ann"},
    "a form that ends with it": {"text": f"user=ann&password={SECRET}"},
    "a form with an escaped name": {"text": f"user=ann&%70assword={SECRET}"},
    "an assignment": {"text": f"DB_PASSWORD={SECRET}"},
    "an environment": {"text": f"DEBUG=1\n# secret\nexport SECRET_KEY='{SECRET}'\n"},
    "a connection string": {"text": f"Data Source=db;User Id=ann;Password={SECRET}"},
    "a connection string of libpq": {"text": f"host=db user=ann password={SECRET}"},
    "cookies": {"text": f"theme=dark; sessionid={SECRET}"},
    "a command": {"text": f"creatething --password {SECRET} --verbose"},
    "a header within a command": {"text": f"run: curl -H 'Authorization: Bearer {SECRET}' example.com"},
    "a header of its own within a command": {"text": f'curl --header "X-Api-Key: {SECRET}" example.com'},
    "a login within a command": {"text": f"run: curl -s -u ann:{SECRET} example.com"},
    "a login of its own within a command": {"text": f"run: curl --user 'ann:{SECRET}' example.com"},
    "a form with files": {
        "body": f'--b\r\nContent-Disposition: form-data; name="user"\r\n\r\nann\r\n--b\r\n'
        f'Content-Disposition: form-data; name="password"\r\nContent-Type: text/plain\r\n\r\n{SECRET}\r\n--b--'
    },
    "what stands after Authorization": {"text": f"Bearer {SECRET}"},
    "a login in an address": {"link": f"https://ann:{SECRET}@example.com/"},
    "an argument of an address": {"link": f"https://example.com/?user=ann&token={SECRET}#top"},
    "an escaped argument of an address": {"link": f"https://example.com/?%74oken={SECRET}"},
    "an argument in a fragment": {"link": f"https://example.com/#access_token={SECRET}"},
    "an argument of an address without a host": {"link": f"/reset/?token={SECRET}"},
    "a signed address": {"link": f"https://s3.example.com/file?X-Amz-Signature={SECRET}"},
    "an address in a text": {"text": f"see https://example.com/?token={SECRET} for more"},
    "JSONP": {"body": f"callback({json.dumps({'name': 'password', 'value': SECRET})});"},
    "JSONP of a package": {"body": f"/**/jQuery.cb_17({json.dumps({'password': SECRET})})"},
    "guarded JSON": {"body": ")]}',\n" + json.dumps([["password", SECRET]])},
    "otherwise guarded JSON": {"body": "for(;;);" + json.dumps({"password": SECRET})},
    "JSON that is assigned": {"body": f"window.state = {json.dumps({'password': SECRET})};"},
    "text of a dict": {"body": str({"user": "ann", "password": SECRET})},
    "XML": {"body": f"<login><user>ann</user><password>{SECRET}</password></login>"},
    "XML with an attribute": {"body": f'<login user="ann" password="{SECRET}"/>'},
    "SOAP": {"body": f'<?xml version="1.0"?>\n<a:Body><w:Password Type="t"><![CDATA[{SECRET}]]></w:Password></a:Body>'},
    "text with blanks": {"body": f'\n  {{"login": {{"secret": "{SECRET}"}}}}'},
}
HARMLESS: dict[str, Any] = {
    "pair": {"name": "color", "value": "red"},
    "a list of two": ["session", "python"],
    "about": {"name": "password_changed_at", "value": "2026-01-01"},
    "lines": ["Accept: */*", "a: b", "-v", "x"],
    "text": {"body": '{"user": "ann"}'},
    "no JSON": {"body": "{password: it}"},
    "null": {"name": "password", "value": None},
    "names of fields": {"fields": ["password", "email"]},
    "two names of fields": ["password", "email"],
    "a name and nothing": ["password", None],
    "names and their labels": {"fields": ["password", "email"], "labels": ["Password", "E-mail"]},
    "names and more values": {"names": ["user", "password"], "values": ["ann"]},
    "columns and rows": {"columns": ["user", "age"], "rows": [["ann", 3]]},
    "a table": [["user", "age"], ["ann", 3]],
    "titles": {"title": "Session: Keynote", "subtitle": "Cookies: how to bake them", "more": "Token: BTC"},
    "messages": {"errors": ["password: this field is required", "Password: must have 8 characters"]},
    "prose": {"text": "The password: nobody knows it. Set PASSWORD to = anything."},
    "times": {"text": "at 10:30: tea", "iso": "2026-01-01T10:30:00+00:00"},
    "keys of a cache": {"key": "session:42", "tag": "token:ab12", "digest": "hmac-sha256:12ab"},
    "requirements": {"text": "jwt==1.3.1"},
    "a form": {"text": "user=ann&page=2&token="},
    "an address": {"link": "https://example.com/?page=2&sort=name#top", "mail": "mailto:ann@example.com"},
    "an address with a port": {"link": "https://example.com:8000/a@b"},
    "HTML": {"text": '<p>A <b>token</b>: <a href="https://example.com/?page=1">here</a></p>'},
    "a placeholder": {"text": "<user> gives <password> first"},
    "basic": {"text": "Basic training", "more": "bearer of news"},
    "sums": {"text": "a = b", "more": "token = 3 * pin"},
    "a call": {"text": "print({1: 2})"},
    "a command": {"text": "creatething --verbose --pager less"},
}


def everything_written() -> str:
    return serializers.serialize("json", [*AuditEvent.objects.all(), *Notification.objects.all()])


def differences() -> list[Any]:
    return list(Replay(get_registry().plans.values(), "default").differences())


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_they_are_masked_wherever_documents_are_kept(audit: Audit, document: Any) -> None:
    audit({"name": "products", "model": "app.Product"}, {"name": "said", "events": ["said"]})
    product = Product.objects.create(name="x", attributes=document)
    product.attributes = {"deep": [document]}
    product.save()
    with audit_context(note=document):
        record("said", data={"document": document})
    assert SECRET not in everything_written()
    assert "$masked" in json.dumps(last().data) or "********" in json.dumps(last().data)
    assert differences() == []


@pytest.mark.parametrize("document", HARMLESS.values(), ids=HARMLESS)
def test_what_only_looks_so_stays(audit: Audit, document: Any) -> None:
    audit({"name": "products", "model": "app.Product"}, {"name": "said", "events": ["said"]})
    Product.objects.create(name="x", attributes=document)
    assert last().changes["attributes"][1] == document
    record("said", data={"document": document})
    assert last().data == {"document": document}


def test_a_field_of_text_may_hold_json(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product"})
    text = json.dumps({"password": SECRET})
    product = Product.objects.create(name=text)
    Product.objects.update(name="[1, 2]")
    assert SECRET not in everything_written()
    assert last().changes["name"][1] == "[1, 2]"
    assert differences() == []
    product.delete()
    assert SECRET not in everything_written()


COLUMNS = {
    "a form": f"password={SECRET}&user=ann",
    "a header": f"Authorization: Bearer {SECRET}",
    "headers": f"Accept: */*\nX-Auth-Token: {SECRET}",
    "an assignment": f"API_KEY={SECRET}",
    "a header within a text": f"tried curl -H 'Authorization: Bearer {SECRET}' in vain",
    "an address": f"https://ann:{SECRET}@example.com/",
    "an address with a token": f"https://example.com/?token={SECRET}",
    "JSONP": f'cb({{"password": "{SECRET}"}})',
    "guarded JSON": f')]}}\'\n{{"password": "{SECRET}"}}',
    "text of a dict": str({"password": SECRET}),
    "XML": f"<password>{SECRET}</password>",
}


@pytest.mark.parametrize("text", COLUMNS.values(), ids=COLUMNS)
def test_a_column_of_text_in_a_form_that_has_a_secret(audit: Audit, text: str) -> None:
    audit({"name": "products", "model": "app.Product"})
    product = Product.objects.create(name=text)
    Product.objects.update(name=f"{text}!")
    Product.objects.bulk_create([Product(name=text)])
    product.delete()
    assert SECRET not in everything_written()
    assert differences() == []


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_reason_in_a_form_that_has_a_secret(audit: Audit, document: Any) -> None:
    audit({"name": "products", "model": "app.Product"})
    texts = [json.dumps(document)]
    if isinstance(document, dict) and isinstance(document.get("text"), str):
        texts.append(document["text"])
    for text in texts:
        with audit_context(reason=text):
            Product.objects.create(name="x")
        assert SECRET not in everything_written()


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (
            f"restored from https://ann:{SECRET}@x.example/ by Ann",
            "restored from https://ann:********@x.example/ by Ann",
        ),
        (f"Authorization: Bearer {SECRET}", "Authorization: ********"),
        (f"user=ann&password={SECRET}", "user=ann&password=********"),
        (f"tried curl -H 'Authorization: Bearer {SECRET}' x", "tried curl -H 'Authorization: ********' x"),
        (f'curl --header="X-Api-Key: {SECRET}" x', 'curl --header="X-Api-Key: ********" x'),
        (f"tried curl -u ann:{SECRET} x", "tried curl -u ann:******** x"),
        ("docker run -u 1000:1000 app", "docker run -u 1000:1000 app"),
        ("the password was forgotten: reset", "the password was forgotten: reset"),
        ("ticket 7, a = b", "ticket 7, a = b"),
        ("use --password to log in", "use --password to log in"),
    ],
)
def test_a_reason_keeps_what_is_no_secret(audit: Audit, reason: str, shown: str) -> None:
    audit({"name": "products", "model": "app.Product"})
    with audit_context(reason=reason):
        Product.objects.create(name="x")
    assert last().context["reason"] == shown


ORDINARY = [
    "Session: Keynote", "at 10:30: tea", "a = b", "1 + 1 = 2", "see https://example.com/?token=1 for more", "x=1&y=2",
    "https://example.com/?page=2", "https://docs.example.com/#session", "Note: the password is secret", "<p>Token</p>",
    "if password == other: pass", "the authorization: token needed", "curl -H 'Accept: text/html' x",
]  # fmt: skip


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_texts_of_columns_stay(audit: Audit, text: str) -> None:
    audit({"name": "products", "model": "app.Product"})
    Product.objects.create(name=text)
    assert last().changes["name"][1] == text


@pytest.mark.parametrize(
    "text",
    [
        "x" * 300_000 + "=",
        "a=" + "x" * 300_000,
        "a:" * 150_000,
        "a=" * 150_000,
        "a: \n" * 75_000,
        "a = \n" * 60_000,
        "[" * 300_000,
        "#\n" * 150_000,
        "a=1" + " " * 300_000,
        "<" * 300_000,
        "<a>" * 100_000,
        "<a " * 100_000,
        "://:" * 75_000,
        "?%" * 150_000,
        "--a " * 75_000,
        ")]}'" + "(" * 300_000,
        "a(" * 150_000,
        "{'a': " * 50_000,
    ],
    ids=lambda text: text[:8],
)
def test_long_texts_of_any_form_take_no_longer_for_each_character(audit: Audit, text: str) -> None:
    audit({"name": "products", "model": "app.Product"}, {"name": "said", "events": ["said"]})
    Product.objects.create(name="x", attributes={"text": text})
    record("said", data={"text": text, "error": ValueError(text)})
    assert "$digest" in str(last().data)


@pytest.mark.parametrize("word", ["aB", "a_", "x1", "password", "é_"])
def test_a_long_key_takes_no_longer_for_each_character(audit: Audit, word: str) -> None:
    audit({"name": "products", "model": "app.Product"}, {"name": "said", "events": ["said"]})
    document = {word * 10_000: 1}
    Product.objects.create(name="x", attributes=document)
    with audit_context(body=json.dumps(document)):
        record("said", data={"text": json.dumps(document), **document})
    assert len(events()) == 2


def test_very_many_parallel_lists_take_no_longer_for_each(audit: Audit) -> None:
    # Each list of names might be that of each list of values.
    audit({"name": "said", "events": ["said"]})
    lists = {f"l{number:x}_names": ["pin", "x"] for number in range(10_000)}
    record("said", data={**lists, **{f"l{number:x}_values": [SECRET, 1] for number in range(10_000)}})
    assert SECRET not in everything_written()


def test_a_flat_object_that_was_written_in_bulk(audit: Audit) -> None:
    audit({"name": "products", "model": "app.Product"})
    Product.objects.bulk_create([Product(name="x", attributes={"name": "token", "value": SECRET}) for _ in range(3)])
    Product.objects.update(attributes={"body": json.dumps({"token": SECRET})})
    assert SECRET not in everything_written()
    assert differences() == []


def test_the_text_of_an_object_hides_the_secrets_of_its_documents(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit({"name": "products", "model": "app.Product"})
    monkeypatch.setattr(Product, "__str__", lambda self: f"{self.name}: {self.attributes}")
    Product.objects.create(name="tea", attributes={"deep": [{"api_key": SECRET, "size": 4}]})
    Product.objects.update(stock=2)
    Product.objects.bulk_create([Product(name="tea", attributes={"token": [SECRET]})])
    Product.objects.all().delete()
    assert SECRET not in everything_written()
    assert "'size': 4" in AuditEvent.objects.earliest("pk").object_repr
