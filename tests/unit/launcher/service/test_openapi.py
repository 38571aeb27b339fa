"""The API's document has what the routes have, no more and no less."""

from __future__ import annotations

import re

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from launcher.service.api import ROUTES, api_document
from launcher.service.models import BuildSent, JobDocument, LaunchSent
from launcher.service.openapi import ApiHandler, path_of

IMPLIED = {"HEAD", "OPTIONS"}


def test_the_document_is_valid() -> None:
    """OpenAPI 3.1."""
    OpenAPIV31SpecValidator(api_document()).validate()


def test_every_method_of_every_route_is_described() -> None:
    """And nothing that is not there."""
    routes = {path_of(route): set(handler.allowed()) - IMPLIED for route, handler in ROUTES}
    methods = {"get", "post", "put", "delete"}
    described = {
        path: {name.upper() for name in entry if name in methods} for path, entry in api_document()["paths"].items()
    }
    assert described == routes
    assert all(issubclass(handler, ApiHandler) for _, handler in ROUTES)


def test_what_a_path_takes_is_what_its_route_takes() -> None:
    """Names and patterns of parameters."""
    for path, entry in api_document()["paths"].items():
        named = {parameter["name"]: parameter["schema"] for parameter in entry.get("parameters", [])}
        assert set(named) == set(re.findall(r"\{(\w+)\}", path))
    job = api_document()["paths"]["/api/builds/{id}"]["parameters"][0]
    assert job["schema"] == {"type": "string", "minLength": 1, "pattern": "^[0-9a-z]{1,40}$"}


def test_operations_have_names_of_their_own() -> None:
    """Clients are made of them."""
    names = [
        op["operationId"] for entry in api_document()["paths"].values() for op in entry.values() if "summary" in op
    ]
    assert len(names) == len(set(names)) == 23
    assert "postBuilds" in names
    assert "getBuildsIdEvents" in names


def test_the_shapes_are_those_of_the_models() -> None:
    """By their names."""
    schemas = api_document()["components"]["schemas"]
    assert set(schemas["JobDocument"]["properties"]) == set(JobDocument.model_fields)
    assert set(schemas["BuildSent"]["properties"]) == set(BuildSent.model_fields)
    assert schemas["LaunchSent"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "give either"),
        ({"provider": "gh"}, "give either"),
        ({"provider": "gh", "spec": "a/b/c", "url": "https://x.org"}, "give either"),
        ({"build": "0123456789", "url": "https://x.org"}, "give either"),
    ],
)
def test_a_launch_names_one_thing(document: dict[str, str], said: str) -> None:
    """A build or a repository, in one way."""
    with pytest.raises(ValueError, match=said):
        LaunchSent.model_validate(document)


def test_a_launchs_parameters_are_those_of_a_url() -> None:
    """Numbers too."""
    sent = LaunchSent.model_validate({"build": "0123456789", "workers": 0, "cores": 0.5, "labpath": "x"})
    assert sent.arguments() == {"workers": ["0"], "cores": ["0.500000"], "labpath": ["x"]}
