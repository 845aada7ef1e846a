"""The errors of the API, in the words of a real server."""

from __future__ import annotations

from typing import Any

from tests.kfp_stand_in.recorded import recorded


class Refusal(Exception):
    """An error of the API.

    Args:
        status: of HTTP.
        body: the JSON document, with google.rpc's code and message.
    """

    def __init__(self, status: int, body: dict[str, Any]):
        super().__init__(body["message"])
        self.status, self.body = status, body


def refusal(status: int, code: int, message: str, inner: str) -> Refusal:
    """An error with the details that the server adds: what went wrong below, without the way that it took."""
    detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": inner}
    return Refusal(status, {"code": code, "message": message, "details": [detail]})


def as_recorded(name: str, status: int) -> Refusal:
    """A recorded error without variable parts."""
    return Refusal(status, recorded(f"rest/{name}"))


def missing_run(identity: str) -> Refusal:
    inner = f"Run {identity} not found"
    way = f"Failed to get a run: Failed to fetch run {identity}"
    return refusal(404, 5, f"{way}: ResourceNotFoundError: {inner}", inner)


def missing_pipeline(identity: str) -> Refusal:
    inner = f"Pipeline {identity} not found"
    way = f"Failed to get a pipeline {identity}. Check error stack: Failed to get a pipeline with id {identity}"
    return refusal(404, 5, f"{way}: ResourceNotFoundError: {inner}", inner)


def missing_schedule(identity: str, *, deleting: bool = False) -> Refusal:
    inner = f"Job {identity} not found"
    way = "Failed to fetch a recurring run"
    if deleting:
        way = f"Failed to delete a recurring run: Failed to delete recurring run {identity}. Check if exists"
    return refusal(404, 5, f"{way}: ResourceNotFoundError: {inner}", inner)


def ended_run(identity: str) -> Refusal:
    """A run that is over cannot be terminated."""
    inner = f"Failed to terminate a run {identity}. Row not found"
    way = f"Failed to terminate a run: Failed to terminate run {identity}"
    return refusal(400, 3, f"{way}: Invalid input error: {inner}", inner)


def bad_filter(text: str) -> Refusal:
    found = f"proto:\u00a0syntax error (line 1:1): invalid value {text}"
    unreadable = f'failed to parse valid filter from "{text}": {found}'
    return refusal(400, 3, f"Failed to create list options: Invalid input error: {unreadable}", unreadable)


def bad_page_size(size: int) -> Refusal:
    inner = f"The page size should be greater than 0. Got {size}"
    return refusal(400, 3, f"Failed to create list options: Invalid input error: {inner}", inner)


def bad_concurrency(given: int) -> Refusal:
    inner = f"Max concurrency of a recurring run must be at least 1 and at most 10. Received {given}"
    way = "Failed to create a recurring run due to conversion error: Invalid input error"
    return refusal(400, 3, f"{way}: {inner}", inner)


def taken(kind: str, name: str) -> Refusal:
    """The name is taken. Not among the recordings: google.rpc's ALREADY_EXISTS, which the gateway turns into 409."""
    return refusal(409, 6, f"Failed to create a {kind}: Already exist error: {name}", name)
