"""A page run in this process, against the demo shop's models."""

from __future__ import annotations

import configparser
import contextlib
import datetime as dt
import inspect
import io
import json
import re
import sys
import tomllib
import types
import unittest
import uuid
from typing import Any

import pytest
import sqlparse
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from django_signal_audit.capture.sources import base as capture_base
from django_signal_audit.channels.email import HAS_MAILERS
from django_signal_audit.models import AuditEvent
from django_signal_audit.testing import capture_events, drain, fake_notifications
from testproject import shop
from testproject.shop import models as shop_models
from testproject.shop import reactions as shop_reactions
from testproject.shop import signals as shop_signals

from .docs_blocks import ROOT, Block, matches, split_console
from .docs_commands import check_commands, check_other, check_shell, manage_words, run_command

OURS = {"django_signal_audit", "django_signal_audit.middleware.AuditMiddleware"}
# What rules may notify on a page that is not about channels.
CHANNELS = {
    "team-mail": {
        "BACKEND": "django_signal_audit.channels.email.EmailChannel",
        "OPTIONS": {"to": ["team@example.com"]},
    },
    "inbox": {"BACKEND": "django_signal_audit.channels.inbox.InboxChannel"},
    "log": {"BACKEND": "django_signal_audit.channels.log.LogChannel"},
}


class Session:
    """The state of a page while its blocks run: names, settings, modules, and what was printed last."""

    def __init__(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.monkeypatch = settings, monkeypatch
        self.names: dict[str, Any] = {"__name__": "docs"}
        self.printed = ""
        settings.SIGNAL_AUDIT = {"CHANNELS": dict(CHANNELS)}
        # A new project answers no other hosts, and Django's test client asks for "testserver" by default.
        settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
        settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware", *settings.MIDDLEWARE]
        if HAS_MAILERS:
            settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
        # The demo's app is part of a package; in the docs it is a project's own.
        for module in (shop, shop_models, shop_reactions, shop_signals):
            monkeypatch.setitem(sys.modules, module.__name__.removeprefix("testproject."), module)
        # A source that a page registers is to leave with the page.
        monkeypatch.setattr(capture_base, "_sources", list(capture_base.registered_sources()))

    def close(self) -> None:
        """Disconnect what the page's rules connected."""
        self.settings.SIGNAL_AUDIT = {}

    def run(self, block: Block) -> None:
        runner = getattr(self, f"_run_{block.kind}", None)
        assert runner, f"{block.where}: nobody runs blocks of the kind {block.kind!r}"
        try:
            runner(block)
        except BaseException as error:
            error.add_note(f"in the block at {block.where}")
            raise

    def _run_python(self, block: Block) -> None:
        verb = block.verb or "code"
        getattr(self, f"_python_{verb}")(block)

    def _python_code(self, block: Block) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(block.compiled(), self.names)
        self.printed = output.getvalue()

    _python_hidden = _python_code

    def _python_settings(self, block: Block) -> None:
        lists = {
            name: [item for item in getattr(self.settings, name) if item not in OURS]
            for name in ("INSTALLED_APPS", "MIDDLEWARE")
        }
        names: dict[str, Any] = {**lists}
        exec(block.compiled(), names)
        found = {name: value for name, value in names.items() if name.isupper()}
        apps = found.pop("INSTALLED_APPS")
        assert apps in (lists["INSTALLED_APPS"], ["django_signal_audit", *lists["INSTALLED_APPS"]])
        if found["MIDDLEWARE"] == lists["MIDDLEWARE"]:
            del found["MIDDLEWARE"]
        for name, value in found.items():
            setattr(self.settings, name, value)
        check_settings()

    def _python_rules(self, block: Block) -> None:
        rules = eval(f"[{block.source}\n]", self.names)
        self.settings.SIGNAL_AUDIT = {**self.settings.SIGNAL_AUDIT, "RULES": rules}
        check_settings()

    def _python_channels(self, block: Block) -> None:
        channels = {**self.settings.SIGNAL_AUDIT.get("CHANNELS", {}), **eval(f"{{{block.source}}}", self.names)}
        self.settings.SIGNAL_AUDIT = {**self.settings.SIGNAL_AUDIT, "CHANNELS": channels}
        check_settings()

    def _python_module(self, block: Block) -> None:
        module = types.ModuleType(block.argument)
        self.monkeypatch.setitem(sys.modules, block.argument, module)
        exec(block.compiled(), module.__dict__)
        parent, _, name = block.argument.rpartition(".")
        if parent:
            self.monkeypatch.setattr(sys.modules[parent], name, module, raising=False)

    def _python_importers(self, block: Block) -> None:
        block.compiled()

    def _python_tests(self, block: Block) -> None:
        names: dict[str, Any] = {"__name__": "docs_tests"}
        exec(block.compiled(), names)
        tests = [
            item for name, item in names.items() if name.lower().startswith("test") and item.__module__ == "docs_tests"
        ]
        assert tests, "There is no test in it."
        for test in tests:
            run_test(test)

    def _run_html(self, block: Block) -> None:
        page = self.names["render"](block.source)
        assert (block.argument or "9.0000") in page, page

    def _run_json(self, block: Block) -> None:
        shown = json.loads(block.source)
        if block.verb == "event":
            event = AuditEvent.objects.values().order_by("-id")[0]
            compare_event(shown, event)

    def _run_console(self, block: Block) -> None:
        for command, expected in split_console(block.source):
            words = manage_words(command)
            if words is None:
                check_other(command)
                continue
            actual = run_command(words)
            if expected.strip():
                assert matches(expected, actual), f"{command}\n{actual}"

    def _run_sql(self, block: Block) -> None:
        """Look at the statements; ``test_partitions_of_the_log.py`` runs those of PostgreSQL."""
        assert block.verb == "postgresql", "A block of SQL needs a word about whose it is."
        assert all(statement.get_type() for statement in sqlparse.parse(block.source))

    def _run_sh(self, block: Block) -> None:
        check_shell(block.source)

    def _run_toml(self, block: Block) -> None:
        tomllib.loads(block.source)

    def _run_ini(self, block: Block) -> None:
        configparser.RawConfigParser(strict=False).read_string(block.source)
        check_commands(block.source)

    def _run_crontab(self, block: Block) -> None:
        for line in block.source.splitlines():
            if line and not line.startswith("#"):
                *times, command = line.split(maxsplit=5)
                assert len(times) == 5
                assert all(re.fullmatch(r"[\d*/,-]+", time) for time in times), line
                check_shell(command)

    def _run_text(self, block: Block) -> None:
        if block.verb == "output":
            assert matches(block.source, self.printed), self.printed
            return
        assert block.verb == "figure", "A text block needs a word about what it is."
        for path in re.findall(r"[\w/]+/[\w.]*|\w+\.py\b", block.source):
            assert (ROOT / "django_signal_audit" / path).exists(), f"There is no {path}."
        for path, function in re.findall(r"([\w/]+\.py) +(\w+)\(\)", block.source):
            text = (ROOT / "django_signal_audit" / path).read_text(encoding="utf-8")
            assert re.search(rf"\bdef {function}\(", text), f"{path} has no {function}()."


def check_settings() -> None:
    """Fail if the system checks find a mistake, or ours anything at all."""
    found = [message for message in run_checks() if message.is_serious() or "signal_audit" in str(message.id)]
    # A project of the docs has no models that hold secrets.
    found = [message for message in found if not message.msg.startswith("vault.")]
    if found:
        raise ImproperlyConfigured("\n".join(map(str, found)))


FIXTURES: dict[str, Any] = {
    "audit_events": capture_events,
    "audit_notifications": fake_notifications,
    "audit_drain": lambda: contextlib.nullcontext(drain),
}


def run_test(test: Any) -> None:
    """Run a test case, or a test function with our fixtures, whose changes are undone at its end."""
    if isinstance(test, type):
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(test).run(result)
        assert result.testsRun
        assert result.wasSuccessful(), [*result.errors, *result.failures]
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(transaction.atomic())
        test(**{name: stack.enter_context(FIXTURES[name]()) for name in inspect.signature(test).parameters})
        transaction.set_rollback(True)


def compare_event(shown: dict[str, Any], event: dict[str, Any]) -> None:
    """Fail unless the event shown is this one; what differs each time has to be of the right kind."""
    assert uuid.UUID(shown.pop("uid")).version == uuid.UUID(str(event.pop("uid"))).version == 7
    assert uuid.UUID(shown.pop("correlation_id"))
    assert dt.datetime.fromisoformat(shown.pop("recorded_at")).tzinfo
    # The kind is for the log's own index.
    unlike = ("recorded_at", "correlation_id", "signature")
    assert shown == {name: value for name, value in event.items() if name not in unlike}
