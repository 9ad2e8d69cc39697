"""Subjects and messages as Django templates: plain text, so nothing is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from django.template import Context, Engine, Template
from django.template.base import TextNode
from django.template.loader_tags import ExtendsNode, IncludeNode

from django_signal_audit.problems import Problem

from .parsing import ParsedRule
from .patterns import Field, Model
from .plans import condition_fields
from .template_names import uses
from .template_uses import use_problem


@cache
def _engine() -> Engine:
    # An engine of our own: a project may have no Django templates configured, and its loaders are not for rules.
    return Engine(
        autoescape=False,
        builtins=["django.templatetags.i18n", "django.templatetags.l10n", "django.templatetags.tz"],
    )


@cache
def compile_template(source: str) -> Template:
    """Return the compiled template; raises TemplateSyntaxError."""
    return Template(source, engine=_engine())


def render_template(source: str, context: Mapping[str, Any]) -> str:
    """Return the text a template makes of the context."""
    text = compile_template(source).render(Context(dict(context), autoescape=False))
    # What templates render calls itself safe for HTML, and this is plain text.
    return str.__str__(text)


def template_problems(parsed: ParsedRule, models: list[Model]) -> list[Problem]:
    """Return what is wrong with the subjects and messages of a rule on these models."""
    fields = {name: field for model in models for name, field in condition_fields(model).items()}
    return [problem for where, source in _sources(parsed) for problem in _problems(source, fields, where)]


def _sources(parsed: ParsedRule) -> Iterator[tuple[str, str]]:
    for key in ("subject", "message"):
        for owner, path in ((parsed.rule, parsed.path), *((item.entry, item.path) for item in parsed.notify)):
            yield f'{path}["{key}"]', getattr(owner, key)


def _problems(source: str, fields: Mapping[str, Field], path: str) -> list[Problem]:
    try:
        template = compile_template(source)
    except Exception as error:  # noqa: BLE001  # tags compile themselves, and each fails in its own way
        return [Problem("E017", path, f"does not compile: {error}.", "Fix the template.")]
    if any(template.nodelist.get_nodes_by_type(kind) for kind in (ExtendsNode, IncludeNode)):
        message = "includes another template, which a template in the settings can't."
        return [Problem("E017", path, message, "Write the text here instead.")]
    texts: list[str] = [node.s for node in template.nodelist.get_nodes_by_type(TextNode)]  # type: ignore[attr-defined]
    for opening, closing in (("{{", "}}"), ("{%", "%}")):
        if any(opening in text for text in texts):
            message = f"has a {opening} that is not closed on its line."
            return [Problem("E017", path, message, f"Close it with {closing}.")]
    return list(dict.fromkeys(filter(None, (use_problem(use, fields, path) for use in uses(template.nodelist)))))
