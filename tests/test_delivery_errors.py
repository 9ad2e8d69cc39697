from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from django_signal_audit.delivery.redaction import MAX_LENGTH, describe
from django_signal_audit.delivery.worker import deliver, transmit
from django_signal_audit.exceptions import GiveUp

from .notices import HERE, audit_settings, make_notification


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


class TestWhatIsNoException:
    """A function that ends its thread, or is cancelled, would leave its message claimed and take the others along."""

    @pytest.mark.django_db
    @pytest.mark.parametrize("channel", ["take", "take_async"])
    def test_what_is_cancelled_has_failed(self, settings, monkeypatch, channel):
        def cancel(message):
            raise asyncio.CancelledError("too late")

        async def cancel_async(message):
            cancel(message)

        settings.SIGNAL_AUDIT = audit_settings()
        monkeypatch.setattr(f"{HERE}.take", cancel)
        monkeypatch.setattr(f"{HERE}.take_async", cancel_async)
        rows = [make_notification(channel=channel) for _ in range(2)]
        assert deliver().failed == 2
        for row in rows:
            row.refresh_from_db()
            assert row.status == "failed"
            assert "CancelledError too late" in row.last_error

    def test_an_exit_is_a_failure_in_a_thread_and_meant_where_signals_are_handled(self):
        def leave(message):
            raise SystemExit(3)

        channel = SimpleNamespace(send=leave)
        with ThreadPoolExecutor(1) as threads, pytest.raises(RuntimeError, match="SystemExit 3"):
            threads.submit(transmit, channel, None, "default").result()
        with pytest.raises(SystemExit):
            transmit(channel, None, "default")
