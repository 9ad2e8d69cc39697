from __future__ import annotations

import pytest

from django_signal_audit.delivery.redaction import MAX_LENGTH, describe
from django_signal_audit.exceptions import GiveUp

from .notices import make_notification


class TestDescribe:
    class Channel:
        option_schema = {}
        options = {"secret": ["whsec_abcdef"], "headers": {"Authorization": "Bearer xyz1234"}, "url": "https://e.org"}

    def test_secret_options_and_passwords_are_hidden(self):
        error = ValueError(
            "POST https://bob:hunter2@e.org/?api_key=k123&x=1 signed whsec_abcdef as Bearer xyz1234, password: s3cret"
        )
        text = describe(error, self.Channel())
        for secret in ("hunter2", "k123", "whsec_abcdef", "xyz1234", "s3cret"):
            assert secret not in text
        assert "https://bob:********@e.org" in text
        assert "x=1" in text

    @pytest.mark.django_db
    def test_it_is_bounded_and_storable(self):
        text = describe(ValueError("\x00\ud800" + "x" * 9999))
        assert len(text) == MAX_LENGTH
        assert text.endswith("…")
        row = make_notification(last_error=text)
        row.refresh_from_db()
        assert row.last_error == text

    def test_an_error_that_cannot_be_printed_is_named(self):
        class Odd(Exception):
            def __str__(self):
                raise RuntimeError

        assert "Odd" in describe(Odd())
        assert describe(GiveUp()) == "GiveUp"
