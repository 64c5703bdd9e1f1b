"""A run's folder among the others, and `latest` among them."""

import contextlib
import os
import tempfile
from datetime import datetime
from pathlib import Path


class FullError(ValueError):
    """No folder can be made; the message says what to change."""


def check(out: Path) -> None:
    """Raise FullError unless folders can be made there, which is tried: a mode does not tell that of every file system.

    Nothing is left behind.
    """
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(dir=nearest, prefix=".streamgauge-"):
            return
    except OSError as error:
        why = f"as {nearest} is none to write in ({error.strerror})"
        raise FullError(f"{out} can't be a folder, {why}: name another with --out") from error


def new(out: Path, now: datetime) -> Path:
    """A new folder named after the time in UTC; two runs within a second get two folders."""
    name = now.strftime("%Y-%m-%dT%H-%M-%SZ")
    for suffix in ("", *(f"-{count}" for count in range(2, 100))):
        with contextlib.suppress(FileExistsError):
            folder = (out / f"{name}{suffix}").resolve()
            folder.mkdir(parents=True)
            return folder
    raise FullError(f"{out} already has 99 runs of this second: give another folder with --out")


def point_latest(out: Path, folder: Path) -> None:
    """Move `latest` in one step, so that a reader never finds it missing."""
    fresh = out / f".latest-{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.name)
    fresh.replace(out / "latest")
