from __future__ import annotations

from django.dispatch import Signal

viewed = Signal()
