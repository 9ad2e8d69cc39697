"""The contenders' processes, seen from the one that asks them in turns."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from .contenders import Contender
from .databases import database


class Failed(Exception):
    """The contender's call raised: its words, then its traceback."""


class Process:
    """One contender on one database."""

    def __init__(self, one: Contender, kind: str, entry: dict[str, Any]) -> None:
        self.one = one
        self.kind = kind
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", one.name, json.dumps(entry)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Return the worker's answer."""
        assert self._process.stdin
        assert self._process.stdout
        line = ""
        # A process that has ended does not read: the pipe says so on writing or on reading, as it happens.
        with suppress(BrokenPipeError):
            print(json.dumps({"do": do, "with": arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        if not line:
            sys.exit(f"The process of {self.one.name} on {self.kind} ended; what it said is above.")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"], answer["traceback"])
        return answer["answer"]

    def stop(self) -> None:
        """End the process and wait for it."""
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


@contextmanager
def start(contenders: Sequence[Contender], kind: str) -> Iterator[list[Process]]:
    """Yield a process for every contender that knows this kind of database."""
    with ExitStack() as stack:
        processes = []
        for number, one in enumerate(contenders):
            if kind in one.databases:
                process = Process(one, kind, stack.enter_context(database(kind, number)))
                stack.callback(process.stop)
                processes.append(process)
        for process in processes:
            process.ask("versions")
        yield processes
