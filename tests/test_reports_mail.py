"""The command that docs/how-to/mail-a-report.md shows, sending through a mail server."""

from __future__ import annotations

import re
from email import message_from_bytes, policy

import pytest
from django.core.management import call_command

from .docs_blocks import ROOT
from .samples import HOSTILE, make_event
from .test_channels_email import smtp, smtp_settings  # noqa: F401  # a fixture


@pytest.mark.django_db
def test_what_the_docs_show_arrives_whole(smtp) -> None:  # noqa: F811
    page = (ROOT / "docs" / "how-to" / "mail-a-report.md").read_text(encoding="utf-8")
    source = re.search(r"<!-- run: module shop.mail_audit -->\n```python\n(.*?)```", page, re.DOTALL)
    assert source
    names = {"__name__": "mail_audit"}
    exec(source[1], names)
    from django.utils import timezone

    make_event(recorded_at=timezone.now(), actor_id="7", actor_repr=f"Zoë {HOSTILE}")
    with smtp_settings(smtp.port):
        call_command(names["Command"]())
    (envelope,) = smtp.envelopes
    mail = message_from_bytes(envelope.content, policy=policy.default)
    assert envelope.rcpt_tos == ["team@example.com"]
    assert "Zoë" in mail.get_body().get_content()
    page, table = mail.iter_attachments()
    assert (page.get_content_type(), page.get_filename()) == ("text/html", "week.html")
    assert page.get_content().rstrip().endswith("</html>")
    assert "<svg" in page.get_content()
    assert "<script" not in page.get_content()
    assert "Zoë" in table.get_content()
