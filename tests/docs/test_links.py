"""Links of every document lead to a file of the project, and to a heading that is there."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.blocks import DOCUMENTS, FENCE, ROOT

PAGES = [*DOCUMENTS, ROOT / "loadtest/bench/RESULTS.md"]
LINK = re.compile(r"""\]\(([^)\s]+)\)|(?:src|href)="([^"]+)\"""")


@cache
def anchors(path: Path) -> set[str]:
    """What GitHub makes of a page's headings: lower case, no punctuation, hyphens for spaces, numbered if taken."""
    found = list[str]()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(
            f"{anchor}-{again}" if (again := sum(re.sub(r"-\d+$", "", one) == anchor for one in found)) else anchor
        )
    return set(found)


def links(path: Path) -> list[str]:
    """Its relative links."""
    found = ["".join(pair) for pair in LINK.findall(FENCE.sub("", path.read_text()))]
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_documents_links_lead_somewhere(path: Path) -> None:
    """Each names a file or a folder, and after `#` one of its headings."""
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name} links to {link}"
        assert target.is_relative_to(ROOT), f"{path.name} links out of the project: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{path.name} links to {link}: there are {sorted(anchors(target))}"


def test_the_readme_leads_to_every_document() -> None:
    """Its table of contents leaves none out."""
    listed = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    documents = set((ROOT / "docs").glob("*.md")) | {ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"}
    assert sorted(str(path.relative_to(ROOT)) for path in documents - listed) == []
