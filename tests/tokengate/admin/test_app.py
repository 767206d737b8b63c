"""The application: all routes behind one guard."""

from __future__ import annotations

from admin_site import served


def test_an_unknown_path_is_a_problem_and_needs_a_principal_first() -> None:
    """401 without a session, 404 with one; both are problems with the number of the request."""
    with served() as site, site.client(cookie="") as nobody, site.client() as own:
        without, with_one = nobody.get("/api/v1/nothing"), own.get("/api/v1/nothing")

    assert (without.status_code, with_one.status_code) == (401, 404)
    assert without.json()["type"] == "urn:tokengate:error:NoPrincipal"
    assert with_one.headers["x-request-id"] == with_one.json()["request"]
