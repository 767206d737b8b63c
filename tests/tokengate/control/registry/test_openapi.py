"""The OpenAPI document of the paths."""

from __future__ import annotations

import json
import re
from typing import Any

import attrs
import tallies  # noqa: F401  # it declares a noun

from tokengate.control.messages import RIGHTS
from tokengate.control.registry._openapi import openapi
from tokengate.control.registry._paths import GATES, routes


@attrs.frozen
class GateRow:
    name: str


def document() -> Any:
    return openapi("0.1.0", GateRow)


def operations() -> list[tuple[str, str, Any]]:
    return [
        (path, method, one)
        for path, all_ in document()["paths"].items()
        for method, one in all_.items()
        if method in ("get", "post")
    ]


def test_the_document_describes_arguments_answers_and_rights() -> None:
    """Arguments in the query, or in a body without other fields, with description, bound and default."""
    made = document()
    listing, reset = (made["paths"][f"{GATES}/{{gate}}/tallies{rest}"] for rest in ("", "/reset"))
    page, schema = _schema(listing["get"]["responses"]["200"]), made["components"]["schemas"]["ResetTally"]

    assert [one["name"] for one in listing["get"]["parameters"]] == ["select", "limit", "offset"]
    assert page["properties"]["rows"]["items"] == {"$ref": "#/components/schemas/TallyRow"}
    assert reset["post"]["summary"] == "Count an operation from zero again."
    assert reset["post"]["x-tokengate-right"] == "operate"
    assert _schema(reset["post"]["requestBody"]) == {"$ref": "#/components/schemas/ResetTally"}
    assert _schema(reset["post"]["responses"]["200"]) == {"$ref": "#/components/schemas/TallyRow"}
    assert _schema(reset["post"]["responses"]["201"]) == {"$ref": "#/components/schemas/ProposalDetails"}
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name"]
    assert schema["properties"]["at"] == {
        "type": "integer",
        "minimum": 0,
        "default": 0,
        "description": "Where to begin.",
    }


def test_the_document_has_an_operation_for_each_route() -> None:
    """And three for what is about no single gate."""
    theirs = {(f"{GATES}/{{gate}}{route.path}", route.method) for route in routes()}
    others = {(GATES, "get"), ("/metrics", "get"), ("/api/v1/openapi.json", "get")}

    assert {(path, method) for path, method, _ in operations()} == theirs | others


def test_the_document_is_whole() -> None:
    """It is JSON; each reference leads to a part, each schema is referred to, and each operation has its own name."""
    made = document()
    text = json.dumps(made)

    assert {*re.findall(r'"#/components/schemas/(\w+)"', text)} == {*made["components"]["schemas"]}
    assert {*re.findall(r'"#/components/responses/(\w+)"', text)} == {*made["components"]["responses"]}
    assert len({one["operationId"] for *_, one in operations()}) == len(operations())
    for path, method, one in operations():
        assert one["description"]
        assert one["x-tokengate-right"] in RIGHTS
        assert {"401", "403", "422", "503"} <= {*one["responses"]}, path
        assert ("415" in one["responses"]) == (method == "post")
    for name, schema in made["components"]["schemas"].items():
        for field in schema["properties"].values():
            assert field.get("type", "null") == "null" or field.get("default", "") is not None, name


def test_arguments_that_a_verb_does_not_take_are_not_in_its_schema() -> None:
    """`approve` takes a reason, and no dry run; answers of 201 and 202 belong to those that do."""
    made = document()
    (approve,) = (one for path, _, one in operations() if path.endswith("/approve"))

    assert [*made["components"]["schemas"]["Approve"]["properties"]] == ["reason", "number", "digest"]
    assert not {"201", "202"} & {*approve["responses"]}


def test_texts_have_the_bounds_that_gates_check() -> None:
    """A reason has 500 characters at most, a selector of tokens one at least, a column is one of eight."""
    made = document()
    pause = made["components"]["schemas"]["Pause"]["properties"]
    (sort,) = (
        one["schema"]
        for path, _, operation in operations()
        if path.endswith("/tokens")
        for one in operation["parameters"]
        if one["name"] == "sort"
    )

    assert pause["reason"]["maxLength"] == 500
    assert pause["select"]["anyOf"][0]["pattern"] == r"\S"
    assert "-age" in sort["enum"]


def _schema(part: Any) -> Any:
    ((_, content),) = part["content"].items()
    return content["schema"]
