"""The code blocks of every document, and those that no test can run, each with why."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "ops").rglob("*.md")]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL, PYTHON = ("console", "sh", "bash"), ("python",)

LONG = (
    "takes minutes and measures, which a machine that runs tests is too busy for; the command's own tests run it small"
)
CANNOT_RUN = {
    ("README.md", "make bench ARGS=--quick"): "makes a .venv, and `make test` would run itself",
    ("README.md", ".venv/bin/streamgauge bench --num-conversations 200"): LONG,
    ("README.md", ".venv/bin/streamgauge capacity"): LONG,
    ("README.md", ".venv/bin/streamgauge perf"): LONG,
    ("README.md", "OPENAI_BASE_URL=http://127.0.0.1:11434/v1"): "needs a real model's server, and runs until Ctrl-C",
    ("README.md", "DATABASE_URL=postgresql://… .venv/bin/streamgauge rollout"): "takes four minutes, and needs a load",
    ("README.md", ".venv/bin/streamgauge chaos"): LONG,
    ("docs/dashboards.md", ".venv/bin/streamgauge up --observe"): "needs a Prometheus, and runs until Ctrl-C",
    ("docs/measuring.md", "locust -f loadtest/scenarios/reconnect.py"): "serves Locust's page until Ctrl-C",
    ("docs/measuring.md", "streamgauge bench --processes 2"): "needs three machines; test_team.py has them on one",
    ("docs/operations.md", "cp .env.example"): "needs a container engine",
    ("docs/operations.md", "kubectl create"): "needs a cluster",
    ("docs/rollout.md", "export DATABASE_URL=postgresql://…"): "takes four minutes, and needs a load",
    ("docs/tutorial.md", "git clone"): "makes a .venv, and runs until Ctrl-C",
    ("docs/tutorial.md", "make bench"): LONG,
    ("docs/tutorial.md", ".venv/bin/streamgauge rollout"): "takes a minute of load; test_rollout.py runs it faster",
    ("ops/scaling.md", "streamgauge perf"): LONG,
    ("CONTRIBUTING.md", "make test"): "it would run itself",
}
"""By document and how the block's first command begins."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    document: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """What is typed at its prompts, continued lines joined."""
        return re.findall(r"^\$ (.*)$", self.text.replace("\\\n", " "), re.MULTILINE)

    @property
    def why_not(self) -> str | None:
        """Why it can't run here; None if it can."""
        first = (self.commands or [self.text])[0]
        found = [
            why for (name, begins), why in CANNOT_RUN.items() if name == self.document and first.startswith(begins)
        ]
        return found[0] if found else None


def blocks(*languages: str) -> list[Block]:
    """Each block of these languages, in the order of the documents."""
    return [
        Block(str(path.relative_to(ROOT)), language, text)
        for path in DOCUMENTS
        for language, text in FENCE.findall(path.read_text())
        if language in languages
    ]
