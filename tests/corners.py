"""Which files of tests a build runs on which database, and which of their tests.

``CORNERS`` look at what is the same on every database: settings, pages and texts. They run on SQLite with the oldest
and the newest pair of Python and Django. A file belongs there if a statement that the database takes in another way
can't make one of its tests fail. ``--files corners`` reads these files alone, ``--files others`` all but these.

``DATABASES`` are about statements that databases take in different ways: each server runs all of their tests but those
that are slow and not marked ``server``, with each other case.

Any other file is shared out. The options ``--tests 1/2`` and ``--tests 2/2`` give two runs each other test of a file;
of a test's cases, ``--cases 1/3`` leaves one in three. SQLite with the newest pair runs everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

import pytest

CORNERS = (
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
    "test_looking_at_the_user",
    "test_middleware",
    # Signals, names and packages.
    "test_imported_without_settings",
    "test_receivers_of_saves",
)

DATABASES = (
    # Writes, and the transactions around them.
    "test_atomicity",
    "test_children_that_are_gone",
    "test_concurrency",
    "test_deletes",
    "test_engines",
    "test_include",
    "test_kills",
    "test_lazy_rows",
    "test_m2m",
    "test_multi_*",
    "test_odd_*",
    "test_queries",
    "test_ranges",
    "test_receivers_that_write",
    "test_round_trips",
    "test_saves*",
    "test_state_machine",
    "test_statements_of_other_packages",
    "test_texts_that_query",
    "test_transactions_after_errors",
    "test_wrapped_cursors",
    # Columns, values and tables.
    "test_columns_*",
    "test_decimals_of_any_precision",
    "test_documents_of_plain_json",
    "test_event_values",
    "test_events",
    "test_fields_that_convert",
    "test_first_migrate",
    "test_moments_are_true_instants",
    "test_narrow_character_sets",
    "test_partitions_of_the_log",
    "test_tables_elsewhere",
    "test_values_nobody_can_read",
    "test_views_and_partitions",
    # Questions to the log, and statements of its own.
    "test_admin_filters",
    "test_admin_search",
    "test_baseline",
    "test_delivery_order",
    "test_delivery_outbox",
    "test_evidence_erasing",
    "test_evidence_kills",
    "test_evidence_pruning",
    "test_evidence_sealing",
    "test_history_of",
    "test_replay",
    "test_reports_activity",
    "test_reports_subject",
)


def is_same_on_every_database(file: Path) -> bool:
    """Return whether a file is one of the corners."""
    return _matches(file, CORNERS)


def is_read(file: Path, wanted: str) -> bool:
    """Return whether a run reads a file: of tests, "corners" or "others", or "all"; any other file is read."""
    if wanted == "all" or not fnmatchcase(file.name, "test_*.py"):
        return True
    return is_same_on_every_database(file) is (wanted == "corners")


def _matches(file: Path, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(file.stem, pattern) for pattern in patterns)


def left_out(items: Iterable[pytest.Item], tests: str, cases: str) -> set[pytest.Item]:
    """Return the tests that a run with these shares leaves out: "2/3" is each third from the second on.

    In files of ``DATABASES`` no test is left out, and at most half of a test's cases.
    """
    (first, step), (first_case, step_of_cases) = (map(int, share.split("/")) for share in (tests, cases))
    unwanted: set[pytest.Item] = set()
    for path, of_file in groupby(sorted(items, key=lambda item: item.nodeid), key=lambda item: item.path):
        is_shared = not _matches(path, DATABASES)
        names = groupby(of_file, key=lambda item: item.nodeid.partition("[")[0])
        for number, (_, found) in enumerate(names, 1):
            given = list(found)
            every = step_of_cases if is_shared else min(step_of_cases, 2)
            # Whatever the share of cases, one of them runs.
            kept = given[(first_case - 1) % min(every, len(given)) :: every]
            unwanted |= set(given) - set(kept if not is_shared or (number - first) % step == 0 else ())
    return unwanted
