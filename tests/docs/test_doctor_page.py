"""docs/doctor.md lists what the doctor can say, and nothing else."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/doctor.md").read_text().partition("## What it looks for")[2]
SOURCE = "\n".join(path.read_text() for path in (ROOT / "ops/doctor").glob("*.py"))


def said() -> set[str]:
    """The parts after the server's name, and the whole names where there is none."""
    dotted = re.findall(r'f?"(?:\{name\}|\{NAME\}|workers|database|flag)\.([a-z-]+)[ "]', SOURCE)
    spaced = re.findall(r'f"\{name\} ([a-z]+)"', SOURCE)
    return {*dotted, *spaced}


def test_every_check_is_documented_and_every_documented_check_exists() -> None:
    """By the word that names it."""
    names = [name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)]
    documented = {re.split(r"[. ]", name)[-1] for name in names} | {
        re.split(r"[. ]", name)[1] for name in names if "." in name or " " in name
    }
    missing = {word for word in said() if word not in documented}
    assert missing == set()
    for name in names:
        first, _, second = name.replace(" N ", ".").partition(".")
        assert (second or first).split()[0] in SOURCE, name
