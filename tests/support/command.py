"""The `streamgauge` command inside the test's own process: its words and exit codes, without a Python to start."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple, Never

import pytest

from ops.cli import main


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def streamgauge_here(*arguments: str, folder: Path, **environment: str) -> Said:
    """Run one that ends by itself, in this folder, where no server of a person's is named unless `environment` does.

    An error that a person would see as a traceback is raised.
    """
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setattr(sys, "argv", ["streamgauge", *arguments])
        patched.setattr(os, "execv", _another_program)
        for name in [name for name in os.environ if name.endswith("_URL")]:
            patched.delenv(name)
        for name, value in environment.items():
            patched.setenv(name, value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _exit_code()
    return Said(code, out.getvalue(), err.getvalue())


def _another_program(path: str, _arguments: object) -> Never:
    raise AssertionError(f"it would turn the tests into {path}: run this command in a process of its own")


def _exit_code() -> int:
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
