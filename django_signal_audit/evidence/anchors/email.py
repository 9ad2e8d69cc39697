"""Mails checkpoints to an auditor."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.utils.translation import gettext as _

from .base import Anchor, Publication, is_text


def _is_addresses(value: object) -> bool:
    return is_text(value) or (isinstance(value, (list, tuple)) and bool(value) and all(map(is_text, value)))


class EmailAnchor(Anchor):
    """Mails each note to the addresses in ``to``."""

    option_schema = {"to": ("an address or a list of addresses", _is_addresses), "from": ("an address", is_text)}
    required = ("to",)

    def publish(self, publication: Publication) -> str:
        """Send the mail."""
        to: str | Sequence[str] = self.options["to"]
        addresses = [to] if isinstance(to, str) else list(to)
        subject = _("Checkpoint %(size)d of %(origin)s") % {"size": publication.size, "origin": publication.origin}
        message = EmailMessage(subject, publication.note, self.options.get("from"), addresses)
        message.attach(publication.name, publication.note, "text/plain")
        message.send()
        return ", ".join(addresses)
