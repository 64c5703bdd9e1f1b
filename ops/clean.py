"""Remove what servers keep outside of their stack's folder, once that folder knows of it no more.

As root the servers' data may lie in a folder of the system's temporary one: removing `.streamgauge` leaves it behind.
`make clean` runs this by path with any Python: it imports nothing of ours.
"""

import os
import shutil
import stat
import tempfile
from pathlib import Path

PREFIX = "streamgauge-"
MEMORY = "servers.path"
"""In a stack's folder: where its servers' home is."""
OWNER = "owner.path"
"""In a home outside of it: which folder that is."""


def main() -> None:
    """Remove every forgotten home, and say so."""
    for parent in parents():
        for home in sorted(parent.glob(f"{PREFIX}*")):
            if is_ours(home) and is_forgotten(home) and not is_in_use(home):
                print(f"removing {home}, which no stack's folder knows")  # noqa: T201 - what this is for
                shutil.rmtree(home)


def parents() -> list[Path]:
    """Give the folders in which a home is made that can't be in its stack's folder."""
    return [Path(name) for name in dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"])]  # noqa: S108 - mkdtemp


def is_ours(home: Path) -> bool:
    """Tell whether this is a folder that belongs to the user we are."""
    try:
        found = home.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def is_forgotten(home: Path) -> bool:
    """Tell whether its stack's folder is gone, or has another home; False where it does not say whose it is."""
    try:
        memory = Path((home / OWNER).read_text()) / MEMORY
    except OSError:
        return False
    return not memory.exists() or memory.read_text() != str(home)


def is_in_use(home: Path) -> bool:
    """Tell whether a process works in it (Linux)."""
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if home in (link.readlink(), *link.readlink().parents):
                return True
        except OSError:  # it has just ended
            continue
    return False


if __name__ == "__main__":
    main()
