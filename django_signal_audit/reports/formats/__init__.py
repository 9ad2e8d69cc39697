from __future__ import annotations

from django_signal_audit.conf import get_settings
from django_signal_audit.reports.base import load_format
from django_signal_audit.reports.formats.base import ReportFormat

BUILT_IN = {
    "table": "django_signal_audit.reports.formats.table.TableFormat",
    "csv": "django_signal_audit.reports.formats.csv.CsvFormat",
    "json": "django_signal_audit.reports.formats.json.JsonFormat",
    "jsonl": "django_signal_audit.reports.formats.jsonl.JsonLinesFormat",
    "html": "django_signal_audit.reports.formats.html.HtmlFormat",
    "markdown": "django_signal_audit.reports.formats.markdown.MarkdownFormat",
}


def format_paths() -> dict[str, str]:
    """Return the dotted path of each format by alias; a project's own wins over a built-in one."""
    return {**BUILT_IN, **get_settings().report_formats}


def get_format(alias: str) -> ReportFormat:
    """Return the format of that alias.

    Raises:
        WrongArgument: There is none, or its dotted path leads to no ReportFormat.

    """
    return load_format(
        alias,
        format_paths(),
        ReportFormat,  # type: ignore[type-abstract]
        setting="REPORT_FORMATS",
        noun="report format",
    )
