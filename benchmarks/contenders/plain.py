from __future__ import annotations

from .base import Contender


class Plain(Contender):
    """Django alone: every ratio is to this one."""

    name = "plain Django"
    distribution = "django"
