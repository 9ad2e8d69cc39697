"""A contender's process: sets up its database, then does what its standard input asks for, line by line."""

from __future__ import annotations

import cProfile
import gc
import json
import os
import platform
import pstats
import sys
import time
import traceback
import tracemalloc
from collections.abc import Callable
from io import StringIO
from typing import Any, TextIO

from .contenders import Contender, contender

PROFILED_CALLS = 300


def set_up(one: Contender, database: dict[str, Any]) -> None:
    """Configure Django for the contender, and make and fill its tables."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    settings.configure(
        BENCHMARK_CONTENDER=one.name,
        DATABASES={"default": database},
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            *one.apps,
            "benchmarks.shop",
        ],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        SECRET_KEY="benchmark",
        **one.settings,
    )
    django.setup()
    # The apps with migrations first: tables of the others may refer to theirs.
    call_command("migrate", verbosity=0)
    call_command("migrate", run_syncdb=True, verbosity=0)
    one.tables_made()
    from . import stock

    stock.lay_in()


class Worker:
    """Does the operations in the contender's way."""

    def __init__(self, one: Contender) -> None:
        from . import operations

        self.one = one
        self.operations = operations.OPERATIONS
        self._runs = one.runs()

    def _run(self, name: str) -> Callable[[Any], object]:
        run = self._runs.get(name, self.operations[name].run)
        return self.one.around(run) if self.operations[name].is_audited else run

    def _subjects(self, name: str, calls: int) -> list[Any]:
        from . import stock

        subjects = list(self.operations[name].prepare(calls))
        stock.settle()
        gc.collect()
        return subjects

    def time(self, name: str, calls: int) -> list[int]:
        """Return what each call took, in nanoseconds."""
        taken = []
        run = self._run(name)
        subjects = self._subjects(name, calls)
        with self.one.session():
            for subject in subjects:
                start = time.perf_counter_ns()
                run(subject)
                taken.append(time.perf_counter_ns() - start)
        return taken

    def count(self, name: str) -> dict[str, Any]:
        """Return the statements of one call, and the rows it adds to the log."""
        from django.db import connection

        statements = []

        def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            statements.append(" ".join(str(sql).split()))
            return execute(sql, params, many, context)

        run = self._run(name)
        if not self.operations[name].is_bulk:
            # The first call fills caches.
            for subject in self._subjects(name, 1):
                run(subject)
        (subject,) = self._subjects(name, 1)
        before = self.one.logged()
        with self.one.session(), connection.execute_wrapper(note):
            run(subject)
        return {"statements": statements, "logged": self.one.logged() - before}

    def memory(self, name: str) -> float:
        """Return the bytes that one loaded instance takes, with what the contender keeps for it."""
        (query,) = self._subjects(name, 1)
        list(query[:1])
        tracemalloc.start()
        rows = list(query)
        gc.collect()
        size = tracemalloc.get_traced_memory()[0] / len(rows)
        tracemalloc.stop()
        return size

    def profile(self, name: str) -> str:
        """Return the statements of one call and where the time of many goes."""
        counted = self.count(name)
        run = self._run(name)
        subjects = self._subjects(name, PROFILED_CALLS)
        profiler = cProfile.Profile()
        profiler.enable()
        for subject in subjects:
            run(subject)
        profiler.disable()
        out = StringIO()
        for statement in counted["statements"]:
            print(statement if len(statement) <= 400 else f"{statement[:400]}…", file=out)
        pstats.Stats(profiler, stream=out).sort_stats("cumulative").print_stats(60).sort_stats("tottime").print_stats(
            30
        )
        return out.getvalue()

    def versions(self) -> dict[str, str]:
        """Return what the figures depend on."""
        import django
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version" if connection.vendor == "postgresql" else "SELECT sqlite_version()")
            server = cursor.fetchone()[0].split()[0]
        return {"Python": platform.python_version(), "Django": django.__version__, "database": server}


def serve(worker: Worker, requests: TextIO, answers: TextIO) -> None:
    """Answer until the input ends."""
    for line in requests:
        request = json.loads(line)
        try:
            answer = {"answer": getattr(worker, request["do"])(**request["with"])}
        except Exception as error:  # noqa: BLE001 (a contender may raise anything; the table says that it did)
            answer = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Run as ``python -m benchmarks.worker NAME DATABASE``, the database as JSON."""
    # What a package prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    one = contender(sys.argv[1])
    set_up(one, json.loads(sys.argv[2]))
    serve(Worker(one), sys.stdin, answers)


if __name__ == "__main__":
    main()
