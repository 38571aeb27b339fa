"""The OpenAPI 3.1 document of the API, made of what the handlers declare and of the models that they use.

A handler's ``operations`` say for each of its methods what it takes and what it answers; the routes say where. There is
no other text to keep in step with them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, TypeAdapter

from launcher.service.base import BaseHandler
from launcher.service.models import ErrorDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

EVENTS = "text/event-stream"
TEXT = "text/plain"
JSON = "application/json"
_REF = "#/components/schemas/{model}"
_GROUP = re.compile(r"\(\?P<(?P<name>\w+)>(?P<pattern>[^()]*)\)")
_ALWAYS = (400, 401, 403, 503)
_PHRASES = {
    200: "done",
    202: "under way",
    204: "done; there is nothing to say",
    400: "the request can't be used",
    401: "the token is not known",
    403: "not allowed",
    404: "there is no such thing",
    409: "it is not in the state for that, or was taken before",
    410: "no longer kept",
    413: "too large",
    415: "not JSON",
    429: "too often, or too many at once; `Retry-After` says when",
    502: "the repository's host does not answer",
    503: "something that this needs is not there",
}


@dataclass(frozen=True)
class Events:
    """An event stream; ``model`` is what the ``data`` of its events is as JSON."""

    model: type[BaseModel]


@dataclass(frozen=True)
class Operation:
    """What one method does. ``answers`` has a type, :class:`Events`, a media type, or ``None`` (no body) by status;
    ``errors`` are the statuses beyond those that every operation may answer with."""

    summary: str
    answers: Mapping[int, Any]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    errors: Sequence[int] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def methods(**operations: Operation) -> Mapping[str, Operation]:
    """Return operations by method in lower case."""
    return operations


class ApiHandler(BaseHandler):
    """A handler that says what it does, by method in lower case."""

    operations: ClassVar[Mapping[str, Operation]] = {}


def document(routes: Iterable[tuple[str, type[BaseHandler]]], title: str, version: str) -> dict[str, Any]:
    """Return the document for those routes that have an :class:`ApiHandler`."""
    found = [(route, handler) for route, handler in routes if issubclass(handler, ApiHandler)]
    models: dict[Any, TypeAdapter[Any]] = {ErrorDocument: TypeAdapter(ErrorDocument)}
    for _, handler in found:
        for operation in handler.operations.values():
            answers = [answer.model if isinstance(answer, Events) else answer for answer in operation.answers.values()]
            used = [*answers, operation.body]
            models |= {model: TypeAdapter(model) for model in used if model and not isinstance(model, str)}
    bodies = {op.body for _, handler in found for op in handler.operations.values()}
    inputs = [(str(model), "validation" if model in bodies else "serialization", models[model]) for model in models]
    schemas, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)  # type: ignore[arg-type]
    by_model = {key: schema for (key, _), schema in schemas.items()}
    paths: dict[str, Any] = {}
    for route, handler in found:
        path = path_of(route)
        entry = paths.setdefault(path, {})
        parameters = [_in_path(match["name"], match["pattern"]) for match in _GROUP.finditer(route)]
        if parameters:
            entry["parameters"] = parameters
        for method, operation in handler.operations.items():
            entry[method] = _operation(f"{method}{_name(path)}", operation, by_model)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"}},
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "a token of JupyterHub"}},
        },
        "security": [{}, {"token": []}],
    }


def path_of(route: str) -> str:
    """Return a route's pattern as a path of the document: ``(?P<id>...)`` is ``{id}``."""
    return _GROUP.sub(lambda match: f"{{{match['name']}}}", route).replace("\\.", ".")


def _operation(name: str, operation: Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": name, "summary": operation.summary, "responses": {}}
    parameters = [*_in_query(operation.query), *(_in_header(*item) for item in operation.headers.items())]
    if parameters:
        described["parameters"] = parameters
    errors = {*_ALWAYS, *operation.errors}
    if operation.body:
        errors |= {413, 415}
        content = {JSON: {"schema": schemas[str(operation.body)]}}
        described["requestBody"] = {"required": True, "content": content}
    for status in sorted({*operation.answers, *errors}):
        answer = operation.answers.get(status, ErrorDocument if status in errors else None)
        described["responses"][str(status)] = {"description": _PHRASES[status], **_content(answer, schemas)}
    return described


def _content(answer: Any, schemas: Mapping[str, Any]) -> dict[str, Any]:
    if answer is None:
        return {}
    if isinstance(answer, Events):
        data = {"type": "string", "contentMediaType": JSON, "contentSchema": schemas[str(answer.model)]}
        properties = {"id": {"type": "string"}, "data": data}
        return {"content": {EVENTS: {"schema": {"type": "object", "properties": properties, "required": ["data"]}}}}
    if isinstance(answer, str):
        return {"content": {answer: {"schema": {"type": "object"} if answer == JSON else {"type": "string"}}}}
    return {"content": {JSON: {"schema": schemas[str(answer)]}}}


def _in_path(name: str, pattern: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, **({} if pattern == ".+" else {"pattern": f"^{pattern}$"})}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema()
    required = schema.get("required", [])
    found = []
    for name, entry in schema["properties"].items():
        # A query has no null: what may be absent is not required.
        plain = next((option for option in entry.get("anyOf", []) if option != {"type": "null"}), entry)
        kept = {key: value for key, value in plain.items() if key not in ("title", "description", "default")}
        described = {"description": entry["description"]} if "description" in entry else {}
        found.append({"name": name, "in": "query", "required": name in required, "schema": kept, **described})
    return found


def _in_header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}


def _name(path: str) -> str:
    return "".join(part.strip("{}").replace(".", "").capitalize() for part in path.split("/")[2:])
