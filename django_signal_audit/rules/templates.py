"""Subjects and messages as Django templates: plain text, so nothing is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from typing import NamedTuple, TypeAlias

from django.apps import apps
from django.template import Context, Engine, Template
from django.template.base import FilterExpression, Node, NodeList, TextNode, Token, Variable
from django.template.defaulttags import FilterNode, ForNode
from django.template.loader_tags import ExtendsNode, IncludeNode
from django.templatetags.i18n import BlockTranslateNode

from django_signal_audit.problems import Problem, did_you_mean, nearest
from django_signal_audit.rules.parsing import ParsedRule
from django_signal_audit.rules.patterns import Field, Model
from django_signal_audit.rules.plans import condition_fields
from django_signal_audit.rules.schema import RULE_KEYS

# Tags that are there without {% load %}.
_LOADED = ("i18n", "l10n", "tz")
# {object}, {object.name!r}, {0}, ${object}, $object, %(object)s and %s, as other kinds of templates have them.
_PLACEHOLDER = re.compile(
    r"\$?(?<!\{)\{\s*([a-z_][\w.\[\]]*)\s*(?:[!:][^{}\n]*)?\}(?!\})|\$([a-z_]\w*)|%\((\w+)\)[sdr]"
    r"|(?<![\d%])%s(?!\w)|(?<!\{)\{\d\}(?!\})"
)
_FILE = re.compile(r"[\w/.-]+\.(?:txt|html?|md|mjml|jinja2?|j2|djt|tpl)")

# What a name stands for.
ANYTHING, TEXT, FIELDS, EVENT, EVENTS, RULE = "anything", "text", "fields", "event", "events", "rule"
Scope: TypeAlias = Mapping[str, str]

CONTEXT: Scope = {
    "object": TEXT,
    "actor": TEXT,
    "old": FIELDS,
    "new": FIELDS,
    "event": EVENT,
    "events": EVENTS,
    "rule": RULE,
}
_CONSTANTS = dict.fromkeys(("True", "False", "None"), ANYTHING)
# The attributes of tags that hold the name of a variable they set.
_SET = ("asvar", "variable_name", "target_var", "variable", "var_name")


class Use(NamedTuple):
    """One variable, such as ``("new", "price")``, with what the names in reach of it stand for."""

    names: tuple[str, ...]
    scope: Scope
    # Is it inside of a text to be translated, where only single names have a value?
    is_translated: bool = False


def uses(nodes: Iterable[Node], scope: Scope | None = None) -> Iterator[Use]:
    """Yield the variables of a template in their order, those in filters, tags and nested blocks among them."""
    known = {**CONTEXT, **_CONSTANTS, **(scope or {})}
    for node in nodes:
        after = {name: ANYTHING for key in _SET if isinstance(name := getattr(node, key, None), str)}
        if isinstance(node, FilterNode):
            after["var"] = ANYTHING  # what Django calls the text of the block
        for names in _variables(list(vars(node).values())):
            yield Use(names, {**known, **after})
        inside = {**known, **after, **_bound(node, known)}
        if isinstance(node, BlockTranslateNode):
            for token in (*node.singular, *node.plural):
                if token.token_type.name == "VAR":
                    yield Use(tuple(token.contents.strip().split(".")), inside, is_translated=True)
        for name in node.child_nodelists:
            yield from uses(getattr(node, name, None) or (), inside)
        known |= {} if isinstance(node, FilterNode) else after


def _variables(values: Iterable[object]) -> Iterator[tuple[str, ...]]:
    """Yield the variables in the attributes of a tag, but for those of the nodes inside of it."""
    for value in values:
        if isinstance(value, Variable):
            if value.lookups:
                yield tuple(value.lookups)
        elif isinstance(value, FilterExpression):
            yield from _variables([value.var, *(item for _, arguments in value.filters for item in arguments)])
        elif isinstance(value, Mapping):
            yield from _variables(value.values())
        elif isinstance(value, (list, tuple)) and not isinstance(value, NodeList):
            yield from _variables(value)
        elif _is_condition(value):
            yield from _variables(vars(value).values())


def _is_condition(value: object) -> bool:
    """Return whether the value is part of the condition of an ``if``."""
    return hasattr(value, "__dict__") and hasattr(value, "nud") and not isinstance(value, (Node, Token, str))


def _bound(node: Node, scope: Scope) -> dict[str, str]:
    """Return what the names stand for that a tag gives to the nodes inside of it."""
    if isinstance(node, ForNode):
        kind = EVENT if len(node.loopvars) == 1 and _kind(node.sequence, scope) == EVENTS else ANYTHING
        return {**dict.fromkeys(node.loopvars, kind), "forloop": ANYTHING}
    given: Mapping[str, object] = getattr(node, "extra_context", None) or {}
    found = {name: _kind(expression, scope) for name, expression in given.items()}
    counter = getattr(node, "countervar", None)
    return {**found, counter: ANYTHING} if isinstance(counter, str) else found


def _kind(expression: object, scope: Scope) -> str:
    """Return what an expression stands for."""
    names = getattr(getattr(expression, "var", None), "lookups", None) or ()
    if getattr(expression, "filters", None) or not names:
        return ANYTHING
    kind = scope.get(names[0], ANYTHING)
    if len(names) == 2 and kind == EVENTS and names[1].isdecimal():
        return EVENT
    return kind if len(names) == 1 else ANYTHING


# What people write for the names that there are.
_SYNONYMS = {
    **dict.fromkeys(("instance", "obj", "item", "record", "self"), "object"),
    **dict.fromkeys(("user", "username", "request", "who", "by"), "actor"),
    **dict.fromkeys(("before", "previous", "was", "original"), "old"),
    **dict.fromkeys(("after", "current", "now", "value", "updated"), "new"),
    "changes": "event.changes",
    "model": "event.model",
    "timestamp": "event.recorded_at",
    "date": "event.recorded_at",
    "level": "event.level",
    "reason": "event.context.reason",
    "data": "event.data",
}
_OF_EVENT = {
    **dict.fromkeys(("type", "typ", "event", "action", "kind"), "event_type"),
    **dict.fromkeys(("user", "actor", "username"), "actor_repr"),
    **dict.fromkeys(("object", "instance"), "object_repr"),
    **dict.fromkeys(("object_pk", "pk_of_object"), "object_id"),
    **dict.fromkeys(("timestamp", "date", "time", "created", "created_at", "when"), "recorded_at"),
}


def use_problem(use: Use, fields: Mapping[str, Field], path: str) -> Problem | None:
    """Return what is wrong with a variable, None if nothing is or it cannot be known.

    Args:
        use: The variable, and what the names in reach of it stand for.
        fields: The fields that the objects of the rule can have; none if that is not known.
        path: Where the template stands.

    """
    first, *rest = use.names
    if first not in use.scope:
        return _problem(use, path, "that name doesn't exist", _name_hint(first, use, fields))
    if use.is_translated and rest:
        name = rest[-1]
        hint = f"Write {{% blocktranslate with {name}={'.'.join(use.names)} %}} and {{{{ {name} }}}} inside."
        return _problem(use, path, "blocktranslate takes only simple names", hint)
    kind = use.scope[first]
    if kind == EVENTS and rest and rest[0].isdecimal():
        kind, rest = EVENT, rest[1:]
    if not rest:
        return None
    if kind == FIELDS:
        return _field_problem(use, rest, fields, path)
    if kind == EVENT and len(rest) > 1 and rest[0] == "changes":
        return _field_problem(use, rest[1:2], fields, path)
    return _attribute_problem(use, kind, rest[0], fields, path)


def _problem(use: Use, path: str, message: str, hint: str) -> Problem:
    return Problem("W035", path, f"uses {{{{ {'.'.join(use.names)} }}}}, but {message}.", hint)


def _name_hint(name: str, use: Use, fields: Mapping[str, Field]) -> str:
    if name in fields:
        return f"Write new.{name} or old.{name}."
    if name == "request" and len(use.names) > 1 and use.names[1] != "user":
        return f"Write event.context.{'.'.join(use.names)}."
    return did_you_mean(name, [known for known in use.scope if known[0].islower()], synonyms=_SYNONYMS)


def _field_problem(use: Use, names: list[str], fields: Mapping[str, Field], path: str) -> Problem | None:
    side, name = use.names[0], names[0]
    if not fields or hasattr(dict, name):
        return None
    if name not in fields:
        shown = use.names[: use.names.index(name) + 1]
        message = f"shows {{{{ {'.'.join(shown)} }}}}, but the model has no such field."
        hint = "Write event.object_id." if name == "pk" else did_you_mean(name, fields)
        return Problem("W008", path, message, hint)
    if len(names) > 1 and fields[name].many_to_one:
        return _problem(use, path, f"{side}.{name} is the primary key of another row", f"Write {side}.{name} alone.")
    return None


def _attribute_problem(use: Use, kind: str, name: str, fields: Mapping[str, Field], path: str) -> Problem | None:
    first = use.names[0]
    if kind == TEXT and not (hasattr(str, name) or name.isdecimal()):
        hint = f"Write new.{name} or old.{name}." if name in fields else f"Write {first} alone."
        if first == "object" and name in ("pk", "id"):
            hint = "Write event.object_id."
        return _problem(use, path, f"{first} is a string", hint)
    if kind == EVENTS and not hasattr(list, name):
        return _problem(use, path, "events is a list", f"Write events.0.{name}, or a loop over events.")
    if kind == RULE and name not in RULE_KEYS:
        return _problem(use, path, "a rule has no such key", did_you_mean(name, RULE_KEYS))
    event = apps.get_model("django_signal_audit", "AuditEvent")
    if kind == EVENT and not hasattr(event, name):
        hint = did_you_mean(name, _event_names(event), synonyms=_OF_EVENT)
        return _problem(use, path, "an event has no such attribute", hint)
    return None


def _event_names(event: Model) -> list[str]:
    properties = [name for name, value in vars(event).items() if isinstance(value, (property, cached_property))]
    return [*(field.name for field in event._meta.concrete_fields), *properties]


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


def render_template(source: str, context: Mapping[str, object]) -> str:
    """Return the text a template makes of the context."""
    text = compile_template(source).render(Context(dict(context), autoescape=False))
    # What templates render calls itself safe for HTML, and this is plain text.
    return str.__str__(text)


@cache
def tells_of_one(source: str) -> bool:
    """Return whether a template shows what happened in one event, and nothing of the others of its message."""
    names = {use.names[0] for use in uses(compile_template(source).nodelist)}
    return "events" not in names and not names.isdisjoint(("object", "old", "new", "event", "actor"))


def template_problems(parsed: ParsedRule, models: list[Model]) -> list[Problem]:
    """Return what is wrong with the subjects and messages of a rule on these models."""
    fields = {name: field for model in models for name, field in condition_fields(model).items()}
    return [problem for where, source in sources(parsed) for problem in _problems(source, fields, where)]


def sources(parsed: ParsedRule) -> Iterator[tuple[str, str]]:
    """Yield where the templates of a rule and its ``notify`` entries stand, and their texts."""
    for key in ("subject", "message"):
        for owner, path in ((parsed.rule, parsed.path), *((item.entry, item.path) for item in parsed.notify)):
            yield f'{path}["{key}"]', getattr(owner, key)


def _problems(source: str, fields: Mapping[str, Field], path: str) -> list[Problem]:
    if source and not source.strip():
        return [Problem("W001", path, "is blank, and replaces the default text.", "Write a text, or remove the key.")]
    try:
        template = compile_template(source)
    except Exception as error:  # noqa: BLE001  # tags compile themselves, and each fails in its own way
        return [_syntax_problem(error, path)]
    if any(template.nodelist.get_nodes_by_type(kind) for kind in (ExtendsNode, IncludeNode)):
        message = "includes another template, which a template in the settings can't."
        return [Problem("E017", path, message, "Write the text here instead.")]
    texts: list[str] = [node.s for node in template.nodelist.get_nodes_by_type(TextNode)]  # type: ignore[attr-defined]
    for opening, closing in (("{{", "}}"), ("{%", "%}")):
        if any(opening in text for text in texts):
            message = f"has a {opening} that is not closed on its line."
            return [Problem("E017", path, message, f"Close it with {closing}.")]
    found = [*(use_problem(use, fields, path) for use in uses(template.nodelist))]
    found += [_placeholder_problem(text, fields, path) for text in texts]
    found.append(_file_problem(source, path))
    return list(dict.fromkeys(filter(None, found)))


def _syntax_problem(error: Exception, path: str) -> Problem:
    """Return what Django says of a template that doesn't compile, in which line, and the edit to make."""
    text = str(error).partition(". Must be one of")[0].partition(". Did you forget")[0].partition("\n")[0].rstrip(".")
    line = getattr(getattr(error, "token", None), "lineno", None)
    where = f" on line {line}" if line and " on line " not in text else ""
    return Problem("E017", path, f"does not compile{where}: {text}.", _syntax_hint(text))


def _syntax_hint(text: str) -> str:
    """Return the edit to make to a template that doesn't compile, by what Django says of it."""
    if found := re.match(r"'(.+)' is not a registered tag library", text):
        if found[1] in _LOADED:
            return f"Remove {{% load {found[1]} %}}: its tags are there without it."
        return "Remove the {% load %}: only Django's own tags and filters work in the settings."
    if found := re.match(r"Invalid filter: '(.+)'", text):
        names = [name for library in _engine().template_builtins for name in library.filters]
        near = nearest(found[1], names, 0.75)
        return f"Did you mean {near!r}?" if near else "Remove it: only Django's own filters work in the settings."
    if found := re.match(r"Invalid block tag[^:]*: '(\w+)'", text):
        names = [name for library in _engine().template_builtins for name in library.tags]
        if found[1].startswith(("end", "el")):
            return f"Remove {{% {found[1]} %}}, or open its block before it."
        near = nearest(found[1], names, 0.6)
        return f"Did you mean {near!r}?" if near else "Remove it: only Django's own tags work in the settings."
    if found := re.match(r"Unclosed tag[^:]*: '(\w+)'", text):
        return f"Close it with {{% end{found[1]} %}}."
    if found := re.match(r"Could not parse the remainder: '(.*)' from '(.*)'", text):
        return _remainder_hint(found[1], found[2].removesuffix(found[1]))
    return "Fix the template."


def _remainder_hint(rest: str, name: str) -> str:
    """Return the edit to make to a variable that has more than Django reads."""
    if rest.startswith("("):
        return f"Write {{{{ {name} }}}}: Django calls methods by itself, without arguments."
    if found := re.match(r"\[['\"]?(\w+)['\"]?\]", rest):
        return f"Write {{{{ {name}.{found[1]} }}}}."
    if found := re.match(r":\.(\d)f", rest):
        return f"Write {{{{ {name}|floatformat:{found[1]} }}}}."
    if re.match(r"\s*[-+*/%]", rest):
        return "Templates don't calculate. Add with the filter add, or show the values alone."
    return "Write a name, and filters after |."


def _placeholder_problem(text: str, fields: Mapping[str, Field], path: str) -> Problem | None:
    """Return a warning about a placeholder of another kind than Django's, which is sent as it stands."""
    for found in _PLACEHOLDER.finditer(text):
        name = next(filter(None, found.groups()), "")
        first = name.partition(".")[0].partition("[")[0]
        near = first if first in CONTEXT else _SYNONYMS.get(first, "")
        if name and not near and first not in fields:
            continue
        variable = f"{near}{name[len(first) :]}" if near else f"new.{name}" if name else "object"
        message = f"has {found[0]!r}, which isn't a placeholder of Django's templates: it is sent as it stands."
        return Problem("W011", path, message, f"Write {{{{ {variable} }}}}.")
    return None


def _file_problem(source: str, path: str) -> Problem | None:
    """Return a warning about the name of a template where its text belongs."""
    if not _FILE.fullmatch(source.strip()):
        return None
    message = f"is {source!r}, which looks like the name of a file: it is sent as it stands."
    return Problem("W011", path, message, "Write the text of the template here.")
