"""Writes checkpoints to a logger, which goes to syslog or a SIEM by itself."""

from __future__ import annotations

import json
import logging

from .base import Anchor, Publication, is_text


class LogAnchor(Anchor):
    """Logs each note as one line of JSON at level INFO, to the logger ``django_signal_audit.checkpoints``."""

    option_schema = {"logger": ("the name of a logger", is_text)}

    def publish(self, publication: Publication) -> str:
        """Log the note."""
        name = self.options.get("logger", "django_signal_audit.checkpoints")
        logging.getLogger(name).info("checkpoint %s", json.dumps(publication.note, ensure_ascii=False))
        return str(name)
