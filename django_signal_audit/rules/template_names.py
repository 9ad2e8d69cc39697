"""Which names a template uses, and what each of them stands for where it is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from django.template.base import FilterExpression, Node, NodeList, Token, Variable
from django.template.defaulttags import FilterNode, ForNode
from django.templatetags.i18n import BlockTranslateNode

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


def _variables(values: Iterable[Any]) -> Iterator[tuple[str, ...]]:
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


def _is_condition(value: Any) -> bool:
    """Return whether the value is part of the condition of an ``if``."""
    return hasattr(value, "__dict__") and hasattr(value, "nud") and not isinstance(value, (Node, Token, str))


def _bound(node: Node, scope: Scope) -> dict[str, str]:
    """Return what the names stand for that a tag gives to the nodes inside of it."""
    if isinstance(node, ForNode):
        kind = EVENT if len(node.loopvars) == 1 and _kind(node.sequence, scope) == EVENTS else ANYTHING
        return {**dict.fromkeys(node.loopvars, kind), "forloop": ANYTHING}
    given: Mapping[str, Any] = getattr(node, "extra_context", None) or {}
    found = {name: _kind(expression, scope) for name, expression in given.items()}
    counter = getattr(node, "countervar", None)
    return {**found, counter: ANYTHING} if isinstance(counter, str) else found


def _kind(expression: Any, scope: Scope) -> str:
    """Return what an expression stands for."""
    names = getattr(getattr(expression, "var", None), "lookups", None) or ()
    if getattr(expression, "filters", None) or not names:
        return ANYTHING
    kind = scope.get(names[0], ANYTHING)
    if len(names) == 2 and kind == EVENTS and names[1].isdecimal():
        return EVENT
    return kind if len(names) == 1 else ANYTHING
