"""What auditing costs: this package and its peers beside plain Django, in one run."""

from __future__ import annotations
