"""The files of tests that are marked ``corners``: what they look at is the same on every database.

These are about settings, pages and texts. They run on SQLite with the oldest and the newest pair of Python and Django.
A file whose name matches none of these patterns runs with the pair between and on servers as well.
A file belongs here if a statement that the database takes in another way can't make one of its tests fail.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

PATTERNS = (
    # What settings may say, and what `check` says about them.
    "test_checks*",
    "test_conditions",
    "test_durations_in_settings",
    "test_evidence_settings",
    "test_functions_in_settings",
    "test_masked_by_guess",
    "test_matching",
    "test_mistakes_in_rules",
    "test_names_in_templates",
    "test_recipients_that_nobody_is",
    "test_retention_periods",
    "test_rules*",
    "test_secrets_by_their_model",
    "test_secrets_in_objects",
    "test_secrets_in_settings",
    "test_secrets_named_by_values",
    "test_settings_*",
    "test_values_of_the_wrong_shape",
    "test_values_that_no_row_has",
    # What pages show, and to whom. Searches, filters, statistics and reverts are questions to the database.
    "test_admin_channels",
    "test_admin_hostile_addresses",
    "test_admin_compare",
    "test_admin_diff",
    "test_admin_event_page",
    "test_admin_evidence",
    "test_admin_export",
    "test_admin_formats",
    "test_admin_history",
    "test_admin_notifications",
    "test_admin_odd_projects",
    "test_admin_past_names",
    "test_admin_request_revert",
    "test_admin_revert_old_links",
    "test_admin_rights_*",
    "test_json_views",
    "test_panel",
    "test_preferences",
    "test_themes",
    "test_users_of_every_kind",
    "test_viewed",
    # Texts: the docs, commands, messages and reports, and those who carry them.
    "test_audit_rules_command",
    "test_channels_[aerw]*",  # not test_channels_preferences, whose questions the database answers
    "test_delivery_rendering",
    "test_delivery_secrets",
    "test_docs",
    "test_evidence_tree",
    "test_extension_points",
    "test_harmless_output",
    "test_reports_arguments",
    "test_reports_display",
    "test_reports_formats",
    "test_reports_html",
    "test_reports_mail",
    "test_start_up",
    "test_structure",
    "test_translations",
    "test_what_messages_cannot_show",
    # Requests and whoever is behind them.
    "test_actor_of_a_request",
    "test_context_setting",
    "test_middleware",
)


def is_same_on_every_database(file: Path) -> bool:
    """Return whether a file of tests is one of these."""
    return any(fnmatchcase(file.stem, pattern) for pattern in PATTERNS)
