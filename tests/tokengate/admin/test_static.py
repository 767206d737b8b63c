"""The files of the page: those of others are what they say, and ours keep the rules of the policy."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
from admin_site import served

from tokengate.admin._templates import HERE

STATIC, TEMPLATES = HERE / "static", sorted((HERE / "templates").glob("*.html"))
OURS = [*TEMPLATES, STATIC / "admin.js", STATIC / "admin.css"]


def test_each_vendored_file_has_the_hash_and_the_licence_that_are_written_down() -> None:
    """`VENDOR.toml` names every file in `vendor/`, with name, version, licence, its text, and SHA-256."""
    listed = tomllib.loads((STATIC / "VENDOR.toml").read_text())["file"]
    texts = {one["licence_text"] for one in listed}
    found = {str(path.relative_to(STATIC)) for path in (STATIC / "vendor").iterdir()}

    assert {one["path"]: one["sha256"] for one in listed} == {
        one["path"]: hashlib.sha256((STATIC / one["path"]).read_bytes()).hexdigest() for one in listed
    }
    assert found == {one["path"] for one in listed} | texts
    assert all(one["name"] and one["version"] and one["licence"] in ("0BSD", "MIT") for one in listed)
    assert all(len((STATIC / text).read_text()) > 300 for text in texts)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_of_ours_needs_what_the_policy_refuses(path: Path) -> None:
    """No inline style, script or handler; no text marked safe; nothing evaluated; no address of another host."""
    text = path.read_text()
    refused = (
        r"\sstyle=|<style|\son[a-z]+=|hx-on|js:|javascript:|\|\s*safe|Markup|innerHTML\s*=|insertAdjacent|\beval\("
        r"|//[a-z0-9-]+\.[a-z]"
    )

    assert re.findall(refused, text) == []
    assert not re.search(r"<script(?![^>]*nonce=)", text)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_each_element_with_attributes_of_htmx_has_the_nonce(path: Path) -> None:
    """But for `hx-partial`, which is a place and no element."""
    tags = [
        tag for tag in re.findall(r"<[a-z][^<>]*\shx-[^<>]*>", path.read_text()) if not tag.startswith("<hx-partial")
    ]

    assert [tag for tag in tags if 'hx-nonce="{{ nonce }}"' not in tag] == []


def test_our_module_has_at_most_400_lines() -> None:
    """The budget of admin.md."""
    assert len((STATIC / "admin.js").read_text().splitlines()) <= 400


def test_files_are_served_without_a_session_and_nothing_beside_them() -> None:
    """`/static/` has what the shell needs; paths out of it are unknown."""
    with served() as site, site.client(cookie="") as client:
        found = client.get("/static/vendor/htmx.min.js")
        beside = [
            client.get(path).status_code for path in ("/static/..%2f_shell.py", "/static/%2e%2e/_shell.py", "/static/")
        ]

    assert (found.status_code, found.headers["x-content-type-options"]) == (200, "nosniff")
    assert found.headers["content-type"].startswith("text/javascript")
    assert beside == [404, 404, 404]
