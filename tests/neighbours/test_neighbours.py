"""The suite of each small project, in a process of its own: each package needs settings of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .settings import PROJECTS

HERE = Path(__file__).parent
IS_THOROUGH = bool(os.environ.get("AUDIT_TEST_THOROUGH"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PROJECTS))
def test_it_works_beside(name: str) -> None:
    project = PROJECTS[name]
    if project.missing:
        pytest.skip(project.missing)
    if not (project.is_short or IS_THOROUGH):
        pytest.skip("only with AUDIT_TEST_THOROUGH=1, as in make test-all")
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "--ds", "tests.neighbours.settings"]
    # Their warnings are theirs.
    command += ["-p", "no:randomly", "-o", "filterwarnings=", "-W", "ignore", str(HERE / f"{name}.py")]
    environment = {**os.environ, "AUDIT_NEIGHBOUR": name}
    # The workers of pytest-xdist would share a database with this one.
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
