"""Paths of the verbs over HTTP, and the OpenAPI document of these."""

from __future__ import annotations

import json
import re

import tallies  # it declares a noun

from tokengate.control.messages import VERBS, DeleteChild, Describe, DescribeActor, GetState, Pause, Stream, Suspend
from tokengate.control.registry._paths import routes


def test_each_verb_has_one_path_of_its_own() -> None:
    """Verbs that look are asked by GET, others by POST. Streams have none, nor what only the process can ask."""
    found = routes()

    assert len({(route.method, route.path) for route in found}) == len(found)
    assert {route.message for route in found} >= {
        message for message in VERBS.values() if not message.local and not issubclass(message, Stream)
    }
    assert Route("get", "/tokens/describe", Describe) in found
    assert Route("get", "/actors/describe", DescribeActor) in found
    assert Route("post", "/tokens/pause", Pause) in found
    assert Route("post", "/actors/suspend", Suspend) in found
    assert Route("post", "/supervisors/delete-child", DeleteChild) in found
    assert Route("get", "/actors/state", GetState) in found
    assert all(re.fullmatch(r"(/[a-z]+(-[a-z]+)*){1,2}", route.path) for route in found)


def test_a_noun_of_a_plugin_has_its_paths_by_its_declaration() -> None:
    """A list, and one path for each verb."""
    found = {(route.method, route.path): route.message for route in routes() if "tall" in route.path}

    assert found == {
        ("get", "/tallies"): tallies.Tallies,
        ("post", "/tallies/reset"): tallies.ResetTally,
        ("post", "/tallies/freeze"): tallies.FreezeTally,
    }


def test_the_document_describes_arguments_answers_and_rights() -> None:
    """Arguments in the query, or in a body without other fields, with description, bound and default."""
    document = openapi("0.1.0")
    listing, reset = document["paths"]["/tallies"]["get"], document["paths"]["/tallies/reset"]["post"]
    schemas = document["components"]["schemas"]

    assert [one["name"] for one in listing["parameters"]] == ["select"]
    assert reset["summary"] == "Count an operation from zero again."
    assert reset["x-tokengate-right"] == "operate"
    assert _schema(reset["requestBody"]) == {"$ref": "#/components/schemas/ResetTally"}
    assert _schema(reset["responses"]["200"]) == {"$ref": "#/components/schemas/TallyRow"}
    assert schemas["ResetTally"]["additionalProperties"] is False
    assert schemas["ResetTally"]["required"] == ["name"]
    assert schemas["ResetTally"]["properties"]["at"] == {
        "type": "integer",
        "minimum": 0,
        "default": 0,
        "description": "Where to begin.",
    }


def test_the_document_is_whole() -> None:
    """It is JSON; each reference leads to a schema, each schema is referred to, and each operation has its own name."""
    document = openapi("0.1.0")
    text = json.dumps(document)
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]

    assert {*re.findall(r'"#/components/schemas/(\w+)"', text)} == {*document["components"]["schemas"]}
    assert len({*names}) == len(names)
    assert all(one["description"] for path in document["paths"].values() for one in path.values())
    for schema in document["components"]["schemas"].values():
        for field in schema["properties"].values():
            assert field.get("type", "null") == "null" or field.get("default", "") is not None


def _schema(part: dict[str, object]) -> object:
    found: object = part["content"]["application/json"]["schema"]  # type: ignore[index]
    return found
