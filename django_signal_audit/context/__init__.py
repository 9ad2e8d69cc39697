"""Who acts and why: in this request, task or command."""

from __future__ import annotations
