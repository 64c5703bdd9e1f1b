"""`streamgauge up` as a person runs it: a process of its own, and what it printed."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SERVERS = ("REDIS_URL", "BROKER_URL", "DATABASE_URL", "OPENAI_BASE_URL")
ALONE = {name: value for name, value in os.environ.items() if name not in SERVERS}
PATIENCE = 60


@dataclass
class Up:
    """A running `streamgauge up` and what it has printed."""

    command: "subprocess.Popen[str]"
    folder: Path
    printed: str = ""

    @property
    def api_url(self) -> str:
        return self.address("api-1")

    def address(self, part: str) -> str:
        """Where a part listens, as it printed it."""
        found = re.search(rf"^ *{part} +process.* (\S+://\S+)$", self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    def pid(self, part: str) -> int:
        """The process of a part, by the ledger of the running stack."""
        entries = json.loads((self.folder / "processes.json").read_text())
        return next(int(entry["pid"]) for entry in entries if entry["name"] == part)

    def line(self, beginning: str) -> str:
        """What it printed on the line that begins so."""
        found = re.search(rf"^{beginning} *(.+)$", self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    def end(self, number: int) -> int:
        self.command.send_signal(number)
        return self.command.wait(PATIENCE)


@contextlib.contextmanager
def streamgauge_up(folder: Path, *arguments: str, environment: dict[str, str] = ALONE) -> Iterator[Up]:
    """Run it in this folder until it says that it is up."""
    with subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "up", "--port", "0", *arguments],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        up = Up(command, folder / ".streamgauge")
        try:
            assert command.stdout is not None
            for line in command.stdout:
                up.printed += line
                if "Ctrl-C stops everything" in line:
                    break
            else:
                raise AssertionError(up.printed + (command.stderr.read() if command.stderr else ""))
            yield up
        finally:
            command.terminate()
            command.communicate(timeout=PATIENCE)
