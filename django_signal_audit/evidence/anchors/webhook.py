"""Posts checkpoints to an HTTP endpoint."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

from .base import Anchor, Publication

_TIMEOUT = 10
_LONGEST_RECEIPT = 2000


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_options: object) -> None:
        """Follow none: the note is for the address in the settings."""


def _is_url(value: object) -> bool:
    return isinstance(value, str) and urlsplit(value).scheme in ("http", "https") and bool(urlsplit(value).netloc)


class WebhookAnchor(Anchor):
    """Posts each note as text to ``url``; an answer of 2xx is the receipt."""

    option_schema = {
        "url": ("an http or https address", _is_url),
        "headers": ("a dict of header to value", lambda value: isinstance(value, dict)),
        "timeout": ("a number of seconds", lambda value: isinstance(value, (int, float)) and 0 < value <= 60),
    }
    required = ("url",)

    def publish(self, publication: Publication) -> str:
        """Post the note and return the beginning of the answer."""
        request = urllib.request.Request(  # noqa: S310  # http and https alone, see _is_url
            self.options["url"],
            data=publication.note.encode(),
            headers={"Content-Type": "text/plain; charset=utf-8", **self.options.get("headers", {})},
            method="POST",
        )
        opener = urllib.request.build_opener(_NoRedirects)
        with opener.open(request, timeout=self.options.get("timeout", _TIMEOUT)) as response:
            answer = response.read(_LONGEST_RECEIPT).decode("utf-8", "replace")
            return answer.strip() or str(response.status)
