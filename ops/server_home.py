"""Where the embedded servers keep their data and programs, and which user they run as.

PostgreSQL refuses to run as root. As root we therefore run the servers as `nobody`, who must reach the data and the
programs. A home or checkout of mode 0700 keeps `nobody` out, and so does a Python under /root; instead of loosening
any of them, the data then lives in a private folder of the system's temporary one, remembered in our own folder, and
the programs are copied there (21 MB, 0.1 s, once). `ops/clean.py` removes those that no folder remembers any more.
"""

import os
import pwd
import shutil
import stat
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ops.clean import MEMORY, OWNER, PREFIX, is_ours, parents
from ops.processes import Account, StackError
from ops.supervisor import Supervisor

UNPRIVILEGED = "nobody"


def server_account() -> Account | None:
    """Give the user to run servers as: `nobody` when we are root, else None, for the user we are."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise StackError(
            f"PostgreSQL refuses to run as root, and this system has no user {UNPRIVILEGED!r} to run it as: "
            "start as an ordinary user, or set DATABASE_URL and REDIS_URL to servers of your own."
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def server_environment() -> dict[str, str]:
    """Give the environment of a server: nothing of ours, whose PGDATA or PGPORT would lead it astray.

    Except where libraries are: the Python that starts it may need that to run at all.
    """
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath, **libraries}


class ServerHome:
    """A folder whose entries belong to the servers' account, and which that account can reach."""

    def __init__(self, supervisor: Supervisor, *, keep: bool) -> None:
        """Open the home of this supervisor's folder; without `keep` it begins empty and goes with the supervisor."""
        self.account = server_account()
        self.keep = keep
        self._memory = supervisor.folder / MEMORY
        self.path = self._choose(supervisor.folder)
        if not keep:
            self.remove()
            self.path = self._choose(supervisor.folder)
            supervisor.after_stop.append(self.remove)

    def _choose(self, folder: Path) -> Path:
        if self.account is None or _lets_in(folder):
            path = folder / "servers"
            path.mkdir(exist_ok=True)
        else:
            path = _remembered(self._memory) or self._make_elsewhere()
            (path / OWNER).write_text(str(folder))
        # Only we may put or rename entries here; the account may walk through.
        path.chmod(0o700 if self.account is None else 0o710)
        if self.account is not None:
            os.chown(path, -1, self.account.gid)
        return path

    def _make_elsewhere(self) -> Path:
        for parent in parents():
            if parent.is_dir() and _lets_in(parent) and not _is_noexec(parent):
                path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
                self._memory.write_text(str(path))
                return path
        raise StackError(
            f"No temporary folder can be entered by the user {UNPRIVILEGED!r}, whom the servers run as: "
            "set TMPDIR to a folder that others may enter, or start as an ordinary user."
        )

    def own_folder(self, name: str) -> Path:
        """Make a folder that only the servers' account may enter, or give the one there is."""
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        """Let the servers' account own this entry."""
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)

    def programs(self, package: str, distribution: str, wanted: tuple[str, ...]) -> Path:
        """Give the folder that holds `wanted` entries of an installed package's parent, runnable by the account."""
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise StackError(f"{distribution} is not installed: run `pip install {distribution}`, or `make up`.")
        installed = Path(spec.origin).parent.parent
        if self.account is None:
            return installed
        copied = self.path / f"{distribution}-{version(distribution)}"
        if not copied.exists():
            _copy(installed, copied, wanted)
        return copied

    def remove(self) -> None:
        """Remove everything the servers kept."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._memory.unlink(missing_ok=True)


def _lets_in(folder: Path) -> bool:
    """Tell whether anyone may walk into this folder, by the modes of it and of all above it."""
    return all(step.stat().st_mode & stat.S_IXOTH for step in (folder, *folder.parents))


def _is_noexec(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0))


def _remembered(memory: Path) -> Path | None:
    """Give the folder made by an earlier start, if it still is ours."""
    try:
        path = Path(memory.read_text())
    except OSError:
        return None
    return path if is_ours(path) else None


def _copy(installed: Path, copied: Path, wanted: tuple[str, ...]) -> None:
    """Link or copy the wanted entries, all or nothing."""
    draft = copied.with_name(copied.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for source in (path for pattern in wanted for path in installed.glob(pattern)):
        target = draft / source.relative_to(installed)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)
        else:
            _link_or_copy(str(source), str(target))
    # Folders and copies were made with our umask.
    for path in (draft, *draft.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    draft.rename(copied)


def _link_or_copy(source: str, target: str) -> None:
    """Link a file that others may read and run as its owner does; copy it where that fails, and let them."""
    mode = stat.S_IMODE(os.stat(source).st_mode)  # noqa: PTH116 - shutil hands over strings
    for_all = mode | (mode & 0o700) >> 3 | (mode & 0o700) >> 6
    for_all &= 0o755
    try:
        if mode & 0o755 != for_all:
            raise PermissionError
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        Path(target).chmod(for_all)
