"""Searching the audit log: what was typed and chosen, what that means, and which indexes answer it."""
