"""Which report formats there are: the built-in ones, and those REPORT_FORMATS adds."""

from __future__ import annotations

from django.utils.module_loading import import_string

from django_signal_audit.conf import get_settings
from django_signal_audit.problems import did_you_mean
from django_signal_audit.reports.base import WrongArgument

from .base import ReportFormat

BUILT_IN = {
    "table": "django_signal_audit.reports.formats.table.TableFormat",
    "csv": "django_signal_audit.reports.formats.csv.CsvFormat",
    "json": "django_signal_audit.reports.formats.json.JsonFormat",
    "jsonl": "django_signal_audit.reports.formats.jsonl.JsonLinesFormat",
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
    paths = format_paths()
    if alias not in paths:
        msg = f"There is no report format {alias!r}. {did_you_mean(alias, paths)}"
        raise WrongArgument(msg)
    where = f'SIGNAL_AUDIT["REPORT_FORMATS"]["{alias}"] = {paths[alias]!r}'
    try:
        found = import_string(paths[alias])
    except ImportError as error:
        msg = f"{where} does not import: {error}"
        raise WrongArgument(msg) from error
    if not (isinstance(found, type) and issubclass(found, ReportFormat)):
        msg = f"{where} is no subclass of django_signal_audit.reports.formats.base.ReportFormat."
        raise WrongArgument(msg)
    return found()
