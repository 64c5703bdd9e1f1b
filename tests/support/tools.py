"""Programs that no wheel carries: a test that needs one is skipped loudly without it, and fails where CI=true."""

import os
import shutil

import pytest


def tool(name: str, package: str) -> str:
    """The program's path; Debian's package has it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found:
        return found
    complaint = (
        f"{name} is missing, so what it judges is not tested: `make debian` as root, or apt-get install {package}"
    )
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(complaint)
    pytest.skip(complaint)
