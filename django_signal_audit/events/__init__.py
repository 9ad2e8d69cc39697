"""What happened, as data: changes, values, masking and the rows of events."""

from __future__ import annotations
