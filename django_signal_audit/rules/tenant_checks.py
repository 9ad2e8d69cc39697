"""What is wrong with the setting TENANT."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django_signal_audit.models.tenants import PATH, tenant_function
from django_signal_audit.plugins import function_problems
from django_signal_audit.problems import Problem, did_you_mean

from .patterns import matching
from .registry import get_registry
from .tenants import Wrong, is_left_out, mapping, parse_path, tenant_path

# Of models that one warning names.
_MOST_NAMED = 5


def tenant_problems() -> Iterator[Problem]:
    """Report a TENANT whose function can't be asked, or whose mapping names what isn't there."""
    dotted = tenant_function()
    if dotted:
        hint = "Name a function without arguments that returns a str."
        yield from function_problems("E086", dotted, PATH, [], hint=hint)
    yield from _same_names(mapping())
    for pattern, text in mapping().items():
        yield from _entry_problems(pattern, text)
    if mapping():
        yield from _models_without_tenant()


def _same_names(patterns: Iterable[str]) -> Iterator[Problem]:
    """Report keys that differ in case alone: they mean the same models, and the last one would count."""
    known: dict[str, str] = {}
    for pattern in patterns:
        first = known.setdefault(pattern.lower(), pattern)
        if first != pattern:
            message = f"means the same as {first!r}, so one of the two is ignored."
            yield Problem("E091", f'{PATH}["{pattern}"]', message, "Remove one of the two.")


def _entry_problems(pattern: str, text: str) -> Iterator[Problem]:
    path, found = f'{PATH}["{pattern}"]', matching(pattern)
    if not found:
        known = [plan.model._meta.label for plan in get_registry().plans.values()]
        hint = did_you_mean(pattern, known, "Write app_label.Model, app_label.* or *.")
        yield Problem("E087", path, "means no model.", hint)
        return
    wrong = [one for model in found if text and isinstance(one := parse_path(model, text), Wrong)]
    # A pattern of many models may mean some without the column, but not all.
    secret = next((one for one in wrong if one.code == "E089"), None)
    mistake = secret or (wrong[0] if len(wrong) == len(found) else None)
    if mistake is not None:
        yield Problem(mistake.code, path, mistake.message, mistake.hint)


def _models_without_tenant() -> Iterator[Problem]:
    missing = [
        plan.model._meta.label
        for plan in get_registry().plans.values()
        if tenant_path(plan.model) is None and not is_left_out(plan.model)
    ]
    if missing:
        named = ", ".join(sorted(missing)[:_MOST_NAMED]) + (", …" if len(missing) > _MOST_NAMED else "")
        message = f"gives events of audited models no tenant: {named}."
        yield Problem(
            "W087", PATH, message, f'Add "{sorted(missing)[0]}" with its path, or with "" if it belongs to none.'
        )
