"""The published API (Swagger 2.0): the operation of a request, and whether a message conforms to its schema."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator, FormatChecker

# The published description of the operations that we use, without its prose.
PUBLISHED = Path(__file__).parent / "swagger.json"
_UNDESCRIBED = {"HealthzService_GetHealthz": ("commit_sha", "tag_name")}


@dataclass(frozen=True)
class Operation:
    """An operation of the API, with the values from the path and the query of a request."""

    name: str
    parameters: tuple[dict[str, Any], ...]
    answer: dict[str, Any]
    path_values: dict[str, str]

    @property
    def body(self) -> dict[str, Any] | None:
        """The schema of the body, or None if the operation has no body."""
        return next((entry["schema"] for entry in self.parameters if entry["in"] == "body"), None)


class Api:
    """The API by its description, read strictly: a field that is not described is an error."""

    def __init__(self, swagger: Path):
        described = json.loads(swagger.read_text())
        self._definitions = _closed(described["definitions"])
        self._error = {"$ref": "#/definitions/googleRpcStatus"}
        self._routes = []
        for template, methods in described["paths"].items():
            names = re.findall(r"\{([^}]+)\}", template)
            pattern = re.compile(re.sub(r"\\\{[^}]+\\\}", "([^/:]+)", re.escape(template)))
            self._routes += [(len(names), method, pattern, names, entry) for method, entry in methods.items()]
        self._routes.sort(key=lambda route: route[0])

    def operation(self, method: str, path: str) -> Operation | None:
        """The operation of a request, or None if the API has no such path."""
        for _, known, pattern, names, entry in self._routes:
            if known == method.lower() and (match := pattern.fullmatch(path)):
                return Operation(
                    name=entry["operationId"],
                    parameters=tuple(entry.get("parameters", ())),
                    answer=entry["responses"]["200"]["schema"],
                    path_values=dict(zip(names, match.groups(), strict=True)),
                )
        return None

    def wrong_in_query(self, operation: Operation, query: dict[str, str]) -> list[str]:
        """The problems of the query of a request."""
        known = {entry["name"]: entry for entry in operation.parameters if entry["in"] == "query"}
        wrong = [f"query: no parameter {name!r}" for name in query.keys() - known.keys()]
        wrong += [
            f"query: {name} is {query[name]!r}"
            for name in query.keys() & known.keys()
            if query[name] not in known[name].get("enum", [query[name]])
        ]
        if "filter" in query:
            try:
                wrong += self.wrong_in({"$ref": "#/definitions/v2beta1Filter"}, json.loads(query["filter"]))
            except ValueError:
                wrong.append(f"query: the filter is no JSON: {query['filter']!r}")
        return wrong

    def wrong_in_answer(self, operation: Operation, message: Any) -> list[str]:
        """The problems of an answer; the health document of a real server has more fields than its description."""
        beside = _UNDESCRIBED.get(operation.name, ())
        return self.wrong_in(operation.answer, {key: value for key, value in message.items() if key not in beside})

    def wrong_in(self, schema: dict[str, Any], message: Any) -> list[str]:
        """The places where a message does not conform to the schema."""
        validator = Draft4Validator(
            {"allOf": [schema], "definitions": self._definitions}, format_checker=FormatChecker()
        )
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(message)]

    def wrong_in_error(self, message: Any) -> list[str]:
        """The problems of the body of an error."""
        return self.wrong_in(self._error, message)


def _closed(definitions: dict[str, Any]) -> dict[str, Any]:
    """The definitions, in which objects that list properties permit no others."""
    closed = copy.deepcopy(definitions)
    for schema in closed.values():
        if "properties" in schema and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
    return closed
