"""Measures and prints; ``python -m benchmarks --help`` tells what can be asked for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import measure
from .contenders import CONTENDERS, Contender
from .databases import TITLES
from .processes import start
from .tables import COLUMNS, report

UNAUDITED = tuple(f"unaudited_{name}" for name in COLUMNS if name != "load")
QUICK = tuple(name for name in COLUMNS if name != "load")
MARKS = ("<!-- printed by make benchmark -->", "<!-- end of what make benchmark prints -->")
OURS = "django-signal-audit"
FLOOR = "floor: finished events"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--databases", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--only", choices=["ours"], help="leave the peers out, and measure for less than a minute")
    parser.add_argument("--operations", nargs="+", choices=[*COLUMNS, *UNAUDITED], metavar="OPERATION")
    parser.add_argument("--rounds", type=int, help="how often everybody takes a turn (default 9, with --only ours 3)")
    parser.add_argument("--calls", type=int, help="calls on one row per turn (default 100, with --only ours 30)")
    parser.add_argument(
        "--profile", choices=[*COLUMNS, *UNAUDITED], metavar="OPERATION", help="print where our time goes"
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between the marks of this page too")
    return parser.parse_args()


def _installed(wanted: str | None) -> list[Contender]:
    chosen = []
    for one in CONTENDERS:
        if wanted == "ours" and one.name not in (measure.BASE, FLOOR, OURS):
            continue
        if one.version is None:
            print(f"{one.name} is left out because it is not installed.", file=sys.stderr)
        else:
            chosen.append(one)
    return chosen


def _profile(operation: str, kinds: list[str]) -> None:
    ours = [one for one in CONTENDERS if one.name == OURS]
    for kind in kinds:
        with start(ours, kind) as (process,):
            print(f"{TITLES[kind]}\n{process.ask('profile', name=operation)}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write(page: Path, text: str) -> None:
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    _, mark, after = rest.partition(MARKS[1])
    if not mark:
        sys.exit(f"{page} has no lines {MARKS[0]} and {MARKS[1]} to put the tables between.")
    page.write_text(f"{before}{MARKS[0]}\n\n{text.strip()}\n\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    """Measure what the arguments ask for."""
    arguments = _arguments()
    if arguments.profile:
        _profile(arguments.profile, arguments.databases)
        return
    is_quick = arguments.only == "ours"
    everything = (*COLUMNS, *UNAUDITED)
    plan = measure.Plan(
        kinds=arguments.databases,
        contenders=_installed(arguments.only),
        operations=arguments.operations or (QUICK if is_quick else everything),
        rounds=arguments.rounds or (3 if is_quick else 9),
        calls=arguments.calls or (30 if is_quick else 100),
    )
    text = "\n".join(report(plan, measure.measure(plan, _tell)))
    print(text)
    if arguments.write:
        _write(arguments.write, text)


if __name__ == "__main__":
    main()
