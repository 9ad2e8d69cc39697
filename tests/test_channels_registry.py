from __future__ import annotations

import sys

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_signal_audit.channels import get_channel
from django_signal_audit.channels.callable import CallableChannel
from django_signal_audit.exceptions import InvalidSettings

from .notices import CALLABLE, EMAIL, calling


def channels(**entries):
    return override_settings(SIGNAL_AUDIT={"CHANNELS": entries})


class TestGetChannel:
    def test_it_makes_each_channel_once_with_its_alias_and_options(self):
        with channels(hook=calling("take", to="a")):
            channel = get_channel("hook")
            assert isinstance(channel, CallableChannel)
            assert (channel.alias, channel.recipients()) == ("hook", ("a",))
            assert get_channel("hook") is channel

    def test_changed_settings_make_it_anew(self):
        with channels(hook=calling("take", to="a")):
            get_channel("hook")
            with channels(hook=calling("take", to="b")):
                assert get_channel("hook").recipients() == ("b",)
            assert get_channel("hook").recipients() == ("a",)

    def test_an_unknown_alias_is_named_with_the_nearest(self):
        with channels(teammail=calling("take")), pytest.raises(InvalidSettings) as error:
            get_channel("teammial")
        assert 'SIGNAL_AUDIT["CHANNELS"] has no "teammial". Did you mean \'teammail\'?' in str(error.value)
        assert isinstance(error.value, ImproperlyConfigured)

    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            ("a.b", '["bad"] must be a dict'),
            ({}, '["bad"]["BACKEND"] must be the dotted path of a channel class, not None'),
            ({"BACKEND": EMAIL, "OPTION": {}}, "[\"OPTION\"] isn't a key of a channel. Did you mean 'OPTIONS'?"),
            ({"BACKEND": EMAIL, "OPTIONS": []}, '["bad"]["OPTIONS"] must be a dict, not list'),
            ({"BACKEND": EMAIL[:-1]}, f"Did you mean '{EMAIL}'?"),
            ({"BACKEND": "no.such.Thing"}, "cannot import 'no.such.Thing'"),
            ({"BACKEND": "tests.notices.take"}, "isn't a subclass of"),
            ({"BACKEND": "tests.test_channels_registry.Unmakable"}, "can't create Unmakable: RuntimeError: no"),
            ({"BACKEND": "django_signal_audit.channels.base.Channel"}, "can't create Channel: TypeError"),
        ],
    )
    def test_a_broken_entry_says_where_and_what(self, config, expected):
        with channels(bad=config), pytest.raises(InvalidSettings) as error:
            get_channel("bad")
        assert 'SIGNAL_AUDIT["CHANNELS"]["bad"]' in str(error.value)
        assert expected in str(error.value)

    @pytest.mark.parametrize(("module", "package"), [("webhook", "standardwebhooks"), ("apprise", "apprise")])
    def test_a_package_that_is_not_installed_is_named_with_its_extra(self, monkeypatch, module, package):
        monkeypatch.delitem(sys.modules, f"django_signal_audit.channels.{module}", raising=False)
        monkeypatch.setitem(sys.modules, package, None)
        missing = {"BACKEND": f"django_signal_audit.channels.{module}.AnyChannel"}
        with channels(it=missing), pytest.raises(InvalidSettings) as error:
            get_channel("it")
        assert error.value.hint == f"Install it: pip install 'django-signal-audit[{module}]'."


class Unmakable(CallableChannel):
    def __init__(self, alias, options):
        raise RuntimeError("no")


class TestCheck:
    def check(self, backend, **options):
        with channels(it={"BACKEND": backend, "OPTIONS": options}):
            return [(problem.msg, problem.hint) for problem in get_channel("it").check()]

    def test_right_options_are_no_problem(self):
        assert self.check(EMAIL, to=["a@example.com", "superusers"], from_email="x@example.com", reply_to="y@b.c") == []
        assert self.check(CALLABLE, target="tests.notices.take") == []
        assert self.check("django_signal_audit.channels.inbox.InboxChannel", to="actor") == []
        assert self.check("django_signal_audit.channels.log.LogChannel", logger="a", level="warning") == []

    def test_an_unknown_option_is_named_with_the_nearest(self):
        ((message, hint),) = self.check(EMAIL, from_mail="x@example.com")
        assert message == 'SIGNAL_AUDIT["CHANNELS"]["it"]["OPTIONS"]["from_mail"] isn\'t an option of this channel.'
        assert hint == "Did you mean 'from_email'?"

    def test_a_wrong_type_a_missing_option_and_a_wrong_level(self):
        ((message, _),) = self.check(EMAIL, to=[1])
        assert "must be a recipient or a list of recipients" in message
        ((message, _),) = self.check(CALLABLE)
        assert '["target"] is missing' in message
        ((message, _),) = self.check("django_signal_audit.channels.log.LogChannel", level="LOUD")
        assert "must be the name of a logging level" in message

    def test_a_target_must_import_and_be_callable(self):
        ((message, _),) = self.check(CALLABLE, target="tests.notices.tkae")
        assert "cannot import 'tests.notices.tkae'" in message
        ((message, _),) = self.check(CALLABLE, target="tests.notices.HERE")
        assert "isn't a function" in message
