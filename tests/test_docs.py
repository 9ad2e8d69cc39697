"""The docs hold what they say: every block of code runs, every name is explained, every link leads somewhere."""

from __future__ import annotations

import ast
import builtins
import configparser
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class

import django_signal_audit
from django_signal_audit import conf, enums, models, pytest_plugin
from django_signal_audit.conf import KEYS, Settings
from django_signal_audit.rules import conditions
from django_signal_audit.rules.schema import NOTIFY_KEYS, RULE_KEYS

from .conftest import has_files_of_its_own
from .docs_blocks import PAGES, ROOT, read_blocks
from .docs_project import Project
from .docs_session import FIXTURES, Session

REFERENCE = ROOT / "docs" / "reference"
PROJECT_PAGES = [ROOT / "docs" / "tutorial.md"]
SESSION_PAGES = [page for page in PAGES if page not in PROJECT_PAGES]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.django_db(reset_sequences=True, databases=["default", "other"])
@pytest.mark.parametrize("page", SESSION_PAGES, ids=name)
def test_the_code_of_a_page_runs_as_pasted(
    page: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mailoutbox: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    settings.MEDIA_ROOT = tmp_path / "media"
    session = Session(settings, monkeypatch)
    try:
        for block in read_blocks(page):
            session.run(block)
    finally:
        session.close()


@pytest.mark.slow
@has_files_of_its_own
@pytest.mark.parametrize("page", PROJECT_PAGES, ids=name)
def test_project_can_be_built(page: Path, tmp_path: Path) -> None:
    project = Project(tmp_path)
    for block in read_blocks(page):
        project.run(block)


# What a reader has: a user, an object and functions of their own project, which the page describes.
STAND_INS = {"user", "product", "category", "load", "reprice", "recalculate"}


@pytest.mark.parametrize("page", SESSION_PAGES, ids=name)
def test_the_code_of_a_page_uses_no_name_that_its_reader_does_not_see(page: Path) -> None:
    seen = {*dir(builtins), *STAND_INS}
    # Rules and channels are parts of a settings file, and the text says what to import there.
    imported = set(re.findall(r"`(?:from [\w.]+ )?import (\w+)`", page.read_text(encoding="utf-8")))
    for block in read_blocks(page):
        if block.kind == "python" and block.verb in ("rules", "channels"):
            brackets = "{}" if block.verb == "channels" else "[]"
            used = names_of(ast.parse(f"{brackets[0]}{block.source}\n{brackets[1]}"))
            assert used <= set(dir(builtins)) | imported, f"{block.where}: {sorted(used - imported)}"
        elif block.kind == "python" and block.verb in ("", "settings", "module", "tests"):
            tree = ast.parse(block.source)
            bound, used = bound_names(tree), names_of(tree)
            assert used <= seen | bound, f"{block.where}: {sorted(used - seen - bound)}"
            # A module is a file of its own.
            seen |= bound if not block.verb else set()


def names_of(tree: ast.AST) -> set[str]:
    """Return the names that some code uses."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def bound_names(tree: ast.AST) -> set[str]:
    """Return the names that some code defines, in any scope."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=bound, ctx=ast.Store()) | ast.arg(arg=bound) | ast.ExceptHandler(name=str(bound)):
                found.add(bound)
            case ast.FunctionDef(name=bound) | ast.AsyncFunctionDef(name=bound) | ast.ClassDef(name=bound):
                found.add(bound)
            case ast.alias(name=path, asname=alias):
                found.add(alias or path.partition(".")[0])
    return found


class TestReference:
    """What the reference pages must name; a name counts as explained where a row or a heading begins with it."""

    def test_settings_with_their_defaults(self) -> None:
        text = (REFERENCE / "settings.md").read_text(encoding="utf-8")
        assert set(KEYS) == headings(text, 2)
        for key in KEYS:
            section = section_of(text, f"## `{key}`")
            (shown,) = re.findall(r"^- Default: (.+)$", section, re.MULTILINE)
            assert re.search(r"^- Type: .+$", section, re.MULTILINE), key
            default = getattr(Settings(), key.lower())
            long_one = re.search(r"```python\n(.+?)```", section, re.DOTALL)
            if shown.startswith("[a list"):
                if long_one:
                    assert ast.literal_eval(long_one[1]) == list(default), key
                continue  # test_long_defaults looks at both lists
            assert ast.literal_eval(shown.strip("`")) == (list(default) if isinstance(default, tuple) else default), key

    def test_long_defaults_are_listed(self) -> None:
        text = (REFERENCE / "settings.md").read_text(encoding="utf-8")
        for item in (*conf.DEFAULT_MASK_FIELDS, *conf.DEFAULT_EXCLUDE_MODELS):
            assert f'"{item}"' in text

    def test_keys_of_rules(self) -> None:
        text = (REFERENCE / "rules.md").read_text(encoding="utf-8")
        assert headings(section_of(text, "## Keys"), 3) == set(RULE_KEYS)
        assert headings(section_of(text, "## Notify entries"), 3) == set(NOTIFY_KEYS) - set(RULE_KEYS)

    def test_each_operator_has_a_heading(self) -> None:
        text = (REFERENCE / "rules.md").read_text(encoding="utf-8")
        assert headings(section_of(text, "## Conditions"), 3) == {*conditions.WORDS, *conditions.OPERATORS}

    def test_each_command_has_a_heading(self) -> None:
        ours = {command for command, app in get_commands().items() if app == "django_signal_audit"}
        assert ours == headings((REFERENCE / "commands.md").read_text(encoding="utf-8"), 2)

    def test_each_column_is_explained(self) -> None:
        for model in (models.AuditEvent, models.Notification):
            explained(REFERENCE / "events.md", (field.name for field in model._meta.concrete_fields))

    def test_each_word_of_the_vocabularies_is_explained(self) -> None:
        vocabularies = (enums.EventType, enums.Source, enums.Level)
        words = [word for vocabulary in vocabularies for word in vocabulary.values]
        explained(REFERENCE / "events.md", (*words, *(status for status, _ in models.Notification.STATUS)))

    def test_questions_to_the_trail(self) -> None:
        for queryset in (models.AuditEventQuerySet, models.NotificationQuerySet):
            methods = [item for item, value in vars(queryset).items() if callable(value) and item[0] != "_"]
            explained(REFERENCE / "events.md", methods)

    def test_the_public_fixtures_are_all_known(self) -> None:
        assert set(FIXTURES) == set(public_names(pytest_plugin))

    @pytest.mark.parametrize(
        "module", ["", ".testing", ".dispatchers", ".signals", ".exceptions", ".pytest_plugin", ".channels.base"]
    )
    def test_each_public_name_is_explained(self, module: str) -> None:
        found = importlib.import_module(f"django_signal_audit{module}")
        explained(REFERENCE / "api.md", (item for item in public_names(found) if item != "__version__"))

    def test_channels_and_their_options(self) -> None:
        text = (REFERENCE / "channels.md").read_text(encoding="utf-8")
        for path in sorted((ROOT / "django_signal_audit" / "channels").glob("[a-z]*.py")):
            module = importlib.import_module(f"django_signal_audit.channels.{path.stem}")
            for channel in own_subclasses(module, django_signal_audit_channel()):
                section = section_of(text, f"## `{path.stem}`")
                assert f"`{channel.__module__}.{channel.__name__}`" in section
                assert set(channel.option_schema) <= first_words(section)

    def test_commands_and_their_options(self) -> None:
        text = (REFERENCE / "commands.md").read_text(encoding="utf-8")
        for command, app in get_commands().items():
            if app != "django_signal_audit":
                continue
            section = section_of(text, f"## `{command}`")
            parser = load_command_class(app, command).create_parser("manage.py", command)
            standard = {"--skip-checks", *parser_options("check"), *parser_options("runserver")} - {"--database"}
            for action in parser._actions:
                for option in action.option_strings or [str(action.metavar or action.dest)]:
                    assert option in standard or option.startswith("-h") or f"`{option}" in section, (command, option)
            assert "Exit codes" in section, command

    def test_every_command_named_exists(self) -> None:
        text = (REFERENCE / "commands.md").read_text(encoding="utf-8")
        assert set(re.findall(r"^## `(\w+)`", text, re.MULTILINE)) <= set(get_commands())

    def test_the_layers_are_those_of_importlinter(self) -> None:
        linter = configparser.ConfigParser()
        linter.read(ROOT / ".importlinter")
        layers = linter["importlinter:contract:layers"]["layers"].split("\n")
        text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| \d\. \w+ \| (.+?) \|", text, re.MULTILINE)
        shown = [{item.removesuffix(".py").rstrip("/") for item in re.findall(r"`(.+?)`", row)} for row in rows]
        listed = [set(re.split(r"\s*:\s*", layer.strip())) for layer in layers if layer.strip() and "#" not in layer]
        assert shown == listed
        assert len(shown) == 6


def django_signal_audit_channel() -> type:
    from django_signal_audit.channels.base import Channel

    return Channel


def own_subclasses(module: Any, base: type) -> list[Any]:
    return [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, base) and item is not base and item.__module__ == module.__name__
    ]


def parser_options(command: str) -> set[str]:
    """Return the options that every command has."""
    parser = load_command_class("django.core", command).create_parser("manage.py", command)
    return {option for action in parser._actions for option in action.option_strings}


def public_names(module: Any) -> list[str]:
    listed: list[str] | None = getattr(module, "__all__", None)
    if listed is not None:
        return listed
    own = {item: value for item, value in vars(module).items() if not item.startswith("_")}
    return [
        item
        for item, value in own.items()
        if getattr(value, "__module__", module.__name__) in (module.__name__, "django.dispatch.dispatcher")
        and not isinstance(value, (type(module), str))
        and item not in ("annotations", "TYPE_CHECKING", "Signal")
    ]


def first_words(text: str) -> set[str]:
    """Return the names in code font that begin a row, a list item or a heading."""
    lines = re.findall(r"^(?:\||#+|-) *((?:`[^`]+`(?:, | and )?)+)", text, re.MULTILINE)
    words = (item.strip('"{') for line in lines for item in re.findall(r"`([^`]+)`", line))
    return {re.split(r"[(\s:=\"]", word)[0] for word in words}


def explained(page: Path, names: Iterable[str]) -> None:
    missing = set(names) - first_words(page.read_text(encoding="utf-8"))
    assert not missing, f"{page.relative_to(ROOT)} does not explain {sorted(missing)}"


def headings(text: str, level: int) -> set[str]:
    """Return the names in code font that are a heading of that level, alone."""
    return set(re.findall(rf"^{'#' * level} `(\w+)`$", text, re.MULTILINE))


def section_of(text: str, heading: str) -> str:
    """Return what stands under a heading."""
    _, found, rest = text.partition(f"{heading}\n")
    assert found, f"There is no heading {heading!r}."
    level = heading.split(" ")[0]
    return re.split(rf"^{level} ", rest, flags=re.MULTILINE)[0]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page as GitHub makes them from its headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


_BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "RELEASING.md", "llms.txt")
OTHER_PAGES = [ROOT / page for page in _BESIDE]


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name(page)} links to {target}"
        assert not anchor or anchor in anchors(found), f"{name(page)} links to {target}"


def test_every_page_can_be_reached() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)#\s:]+)", page.read_text(encoding="utf-8"))
        waiting += [found for target in targets if (found := (page.parent / target).resolve()).exists()]
    assert set(PAGES) <= seen, set(PAGES) - seen


def test_the_changelog_tells_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{re.escape(django_signal_audit.__version__)}\b", text, re.MULTILINE)
