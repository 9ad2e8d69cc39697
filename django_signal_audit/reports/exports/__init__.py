from __future__ import annotations

from django_signal_audit.conf import get_settings
from django_signal_audit.reports.base import load_format
from django_signal_audit.reports.exports.base import ExportFormat

BUILT_IN = {
    "jsonl": "django_signal_audit.reports.exports.jsonl.JsonLinesFormat",
    "ocsf": "django_signal_audit.reports.exports.ocsf.OcsfFormat",
    "cloudevents": "django_signal_audit.reports.exports.cloudevents.CloudEventsFormat",
}


def export_paths() -> dict[str, str]:
    """Return the dotted path of each export format by alias; a project's own wins over a built-in one."""
    return {**BUILT_IN, **get_settings().export_formats}


def get_export_format(alias: str) -> ExportFormat:
    """Return the export format of that alias.

    Raises:
        WrongArgument: There is none, or its dotted path leads to no ExportFormat.

    """
    return load_format(
        alias,
        export_paths(),
        ExportFormat,  # type: ignore[type-abstract]
        setting="EXPORT_FORMATS",
        noun="export format",
    )
