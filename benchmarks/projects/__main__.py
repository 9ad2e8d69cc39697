"""Runs the tests of published projects plain and audited, and names the tests that end differently.

Sources and environments go to ``benchmarks/.projects`` and stay there for the next run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from . import audited
from .catalogue import PROJECTS, Project
from .outcomes import Outcome, counts_queries, read

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
WORK = HERE.parent / ".projects"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.projects", description=__doc__)
    parser.add_argument("projects", nargs="*", metavar="PROJECT", help=f"of {', '.join(PROJECTS)} (default all)")
    parser.add_argument("--modes", nargs="+", choices=audited.MODES, default=["plain", "audited", "replayed"])
    chosen = parser.parse_args()
    unknown = set(chosen.projects) - set(PROJECTS)
    if unknown:
        parser.error(f"No such project: {', '.join(sorted(unknown))}. There are {', '.join(PROJECTS)}.")
    return chosen


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


@cache
def _prepare(name: str) -> tuple[Path, Path]:
    """Return the interpreter and the source of a project, made at the first call."""
    project = PROJECTS[name]
    home, python, source = WORK / name, WORK / name / "venv" / "bin" / "python", WORK / name / "source"
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (WORK / ".gitignore").write_text("*\n")
        # Else pytest finds the settings of this checkout above a source that has none of its own.
        (WORK / "pytest.ini").write_text("[pytest]\n")
        venv.create(home / "venv", with_pip=True)
        _fetch(project, python, source)
        target = str(source) if project.repository else project.requirement
        _pip(python, "install", target, project.django, *project.needs)
        (home / "complete").touch()
    # The package as it is in the checkout now.
    _pip(python, "install", str(CHECKOUT))
    return python, source


def _fetch(project: Project, python: Path, source: Path) -> None:
    if project.repository:
        url, tag = project.repository
        subprocess.run(["git", "clone", "--quiet", "--depth=1", f"--branch={tag}", url, source], check=True)
        return
    archives = source.with_name("archive")
    wanted = ("--no-deps", "--no-binary=:all:", project.requirement)
    _pip(python, "download", f"--dest={archives}", *wanted)
    (archive,) = archives.iterdir()
    shutil.unpack_archive(archive, archives, filter="data")
    (unpacked,) = (path for path in archives.iterdir() if path.is_dir())
    unpacked.rename(source)


def _run(name: str, mode: str) -> tuple[Outcome, Counter[str]]:
    """Return how the tests ended, and the number of events by source."""
    project = PROJECTS[name]
    python, source = _prepare(name)
    notes, differences = WORK / name / f"{mode}.events", WORK / name / f"{mode}.differences"
    for path in (notes, differences):
        path.unlink(missing_ok=True)
    # CI keeps pytest from shortening what it says of a failure.
    environment = {**os.environ, "CI": "1", **project.environment}
    environment |= {"AUDITED_EVENTS": str(notes), "AUDITED_DIFFERENCES": str(differences)}
    command = [str(python), str(HERE / "audited.py"), mode, *project.command]
    done = subprocess.run(
        command,
        cwd=source / project.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    (WORK / name / f"{mode}.log").write_text(done.stdout)
    events = Counter(notes.read_text().split()) if notes.exists() else Counter()
    return read(done.stdout), events


def _compare(project: Project, plain: Outcome, other: Outcome) -> tuple[str, bool]:
    """Return what to say of the tests that end differently, and whether one does so for no known reason."""
    new = {name: message for name, message in other.failures.items() if name not in plain.failures}
    queries = sorted(name for name, message in new.items() if counts_queries(message))
    explained = {name: part for name in new for part in project.explained if part in name}
    rest = sorted(set(new) - set(queries) - set(explained))
    lines = [f"{len(queries)} more fail for their count of queries, {len(rest)} for something else."]
    lines += [f"  queries  {name}" for name in queries]
    parts = Counter(explained.values())
    lines += [f"  explained {part} ({times}): {project.explained[part]}" for part, times in parts.items()]
    lines += [f"  OTHER    {name}: {new[name]}" for name in rest]
    lines += [f"  passes   {name}" for name in sorted(set(plain.failures) - set(other.failures))]
    if other.count != plain.count:
        rest.append("the count")
        lines.append(f"  OTHER    {other.count} tests ran instead of {plain.count}")
    return "\n".join(lines), bool(rest)


def _try(name: str, modes: Sequence[str]) -> bool:
    """Run the tests of a project in each mode; return whether auditing changed what it should not."""
    project = PROJECTS[name]
    outcomes: dict[str, Outcome] = {}
    is_changed = False
    for mode in modes:
        outcomes[mode], events = _run(name, mode)
        print(f"{project.requirement} {mode}: {outcomes[mode].count} tests, {len(outcomes[mode].failures)} fail.")
        if mode != "plain":
            differences = WORK / name / f"{mode}.differences"
            if differences.exists():
                found = len(differences.read_text().splitlines())
                is_changed |= found > 0
                print(f"{found} differences of audit log and tables: {differences}")
            print(f"{events.total()} events: {', '.join(f'{source} {n}' for source, n in events.most_common())}.")
        if mode != "plain" and "plain" in outcomes:
            said, is_other = _compare(project, outcomes["plain"], outcomes[mode])
            is_changed |= is_other
            print(said)
        sys.stdout.flush()
    return is_changed


def main() -> int:
    """Run what was asked for; return 1 if a test ends differently and no reason is known."""
    chosen = _arguments()
    status = 0
    for name in chosen.projects or PROJECTS:
        try:
            _prepare(name)
        except subprocess.CalledProcessError as error:
            print(
                f"{name} is left out, because it cannot be had: {shlex.join(map(str, error.cmd))} failed.", flush=True
            )
            continue
        status |= _try(name, chosen.modes)
    return status


if __name__ == "__main__":
    sys.exit(main())
