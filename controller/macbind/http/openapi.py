"""The OpenAPI document, made of the operations that are served."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import TypeAdapter

from macbind import __version__
from macbind.http.errors import JSON
from macbind.http.operation import Operation, Stream, plain_path
from macbind.http.schemas import ErrorBody

_REF = "#/components/schemas/{model}"
_ERRORS = {
    "4XX": "The caller's fault; asking again changes nothing. 400: not well formed, or not possible. "
    "403: not permitted. 404: no such pool, allocation or path. 405: no such method. 408: too slow. "
    "409: somebody holds it, or nothing is left. 413: too large.",
    "5XX": "503: a peer's fault, or too much at a time; the same request may succeed later. "
    "500: a defect of macbind.",
}
_TEXT = {"type": "string"}
_EVENT = {
    "type": "object",
    "description": "one server-sent event",
    "properties": {"id": _TEXT, "event": _TEXT, "data": {**_TEXT, "contentMediaType": JSON}},
}
_Mode = Literal["validation", "serialization"]


def document(operations: Sequence[Operation]) -> bytes:
    """The document as JSON."""
    adapters: list[tuple[str, _Mode, TypeAdapter[Any]]] = [("error", "serialization", TypeAdapter(ErrorBody))]
    for one in operations:
        adapters.append((_key(one), "validation", TypeAdapter(one.given)))
        if one.answer is not None:
            adapters.append((_key(one), "serialization", one.answer))
    schemas, definitions = TypeAdapter.json_schemas(adapters, ref_template=_REF)
    components = definitions.get("$defs", {})
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        given = _resolved(schemas[_key(one), "validation"], components)
        written = schemas.get((_key(one), "serialization"), _EVENT if isinstance(one, Stream) else _TEXT)
        paths.setdefault(plain_path(one.path), {})[one.method.lower()] = {
            "summary": one.summary,
            **_parameters(one, given),
            "responses": {
                "200": {"description": "Done.", "content": {_media(one): {"schema": written}}},
                **{
                    status: {
                        "description": text,
                        "content": {JSON: {"schema": schemas["error", "serialization"]}},
                    }
                    for status, text in _ERRORS.items()
                },
            },
        }
    about = "Allocates IP addresses with their MACs and makes them real in DHCP servers."
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "macbind", "version": __version__, "description": about},
            "paths": paths,
            "components": {"schemas": components},
        },
        ensure_ascii=False,
    ).encode()


def _key(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def _media(operation: Operation) -> str:
    return operation.media_type.partition(";")[0]


def _resolved(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return schema if reference is None else components[reference.rpartition("/")[2]]


def _parameters(operation: Operation, given: dict[str, Any]) -> dict[str, Any]:
    """Where what is given stands: in the path, and in the body of a POST or in the query."""
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)", operation.path)
    ]
    if operation.method == "POST":
        content = {JSON: {"schema": {"$ref": _REF.format(model=operation.given.__name__)}}}
        return {"parameters": parameters, "requestBody": {"required": True, "content": content}}
    required = given.get("required", [])
    parameters += [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in given.get("properties", {}).items()
    ]
    return {"parameters": parameters}
