"""The page's files: served whole, under a policy that lets in nothing but them."""

import re
import tomllib
from pathlib import Path

from tests.support.client import Client

ROOT = Path(__file__).parent.parent.parent
WEB = ROOT / "app" / "web"


async def test_the_page_lets_in_nothing_from_elsewhere(client: Client) -> None:
    """No inline script, no eval, no other host, no frame around it."""
    page = await client.http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert not re.search(r"unsafe|\*|https?:", policy)
    assert page.headers["x-content-type-options"] == "nosniff"
    text = "".join(path.read_text() for path in WEB.iterdir())
    assert set(re.findall(r"https?://[\w./-]+", text)) == {"http://www.w3.org/2000/svg"}


async def test_every_file_that_the_page_names_is_there(client: Client) -> None:
    """Styles and modules, each with its type, all of them in the wheel."""
    named = set(re.findall(r'(?:href|src)="web/([\w.]+)"', (WEB / "index.html").read_text()))
    for script in WEB.glob("*.js"):
        named |= set(re.findall(r'from "\./([\w.]+)"', script.read_text()))
    assert {"main.js", "style.css", "icon.svg"} <= named
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    for name in named:
        found = await client.http.get(f"/web/{name}")
        assert found.status_code == 200, name
        assert found.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])
    assert {path.name for path in WEB.iterdir()} == named | {"index.html"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "web/*" in project["tool"]["setuptools"]["package-data"]["app"]


def test_the_modules_are_asked_for_at_once() -> None:
    """The page names all of them: on a slow network none waits for another to be read."""
    loaded = set(re.findall(r'rel="modulepreload" href="web/([\w.]+)"', (WEB / "index.html").read_text()))
    assert loaded == {path.name for path in WEB.glob("*.js")} - {"main.js"}


async def test_a_file_that_the_browser_has_is_not_sent_again(client: Client) -> None:
    """It asks each time, so that a new version is seen at once, and 304 is the answer while there is none."""
    first = await client.http.get("/web/main.js")
    assert first.headers["cache-control"] == "no-cache"
    again = await client.http.get("/web/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    changed = await client.http.get("/web/main.js", headers={"If-None-Match": '"another"'})
    assert changed.content == first.content


async def test_what_is_no_file_of_the_page_is_not_found(client: Client) -> None:
    """Nothing else of the disk can be had."""
    for path in ("/web/secret.js", "/web/..%2Fsettings.py", "/web/%2e%2e/settings.py"):
        assert (await client.http.get(path)).status_code == 404


async def test_the_page_learns_what_is_offered_here(client: Client) -> None:
    """The backends, the model and its limits; of secrets nothing."""
    told = (await client.http.get("/web/system.json")).json()
    assert re.fullmatch(r"[\d.]+\S* [\da-f]{20}", told.pop("version"))
    assert told == {
        "backends": ["polling", "pubsub", "notify", "streams"],
        "model": "scripted",
        "scripted": True,
        "max_content_chars": 1000,
        "control_url": "",
        "links": {},
    }
