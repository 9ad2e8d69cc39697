"""``python -m tests.processes NAME``: sets Django up as the arguments on stdin say, and runs that module."""

from __future__ import annotations

import json
import sys
from importlib import import_module

from tests.processes.stage import configure

arguments = json.loads(sys.stdin.read())
configure(arguments.pop("databases"), arguments.pop("audit"), **arguments.pop("settings", {}))
report = import_module(f"tests.processes.{sys.argv[1]}").main(**arguments)
sys.stdout.write(json.dumps(report, default=str) + "\n")
