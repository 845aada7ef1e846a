"""The accounts of an MLflow server with basic auth: who this process is, and who may move an alias.

Both are questions to the server, because the environment of a process can name any user.
"""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CURRENT = "/api/2.0/mlflow/users/current"
_USERS = "/api/2.0/mlflow/users/list"
_PERMISSION = "/api/3.0/mlflow/users/permissions/get"
_MAY_MOVE = {"EDIT", "MANAGE"}
_MOST_USERS = 200  # each takes a request
_SECONDS = 10.0


def own_name() -> str:
    """The name under which this process asks MLflow, as its environment says, else that of the user of the machine."""
    if name := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may have a user without a name
        return ""


def current_account(client: MlflowClient) -> str:
    """The account that the server knows this process by; `own_name()` if the server has no accounts."""
    answer = _ask(client, _CURRENT)
    return str(answer["user"]["username"]) if answer else own_name()


def accounts_that_may_move(client: MlflowClient, model: str) -> tuple[str, ...] | None:
    """The accounts that may move the aliases of a registered model: those with EDIT or MANAGE, and administrators.

    Returns:
        Their names, sorted; None if the server has no accounts, has too many, or does not let this account ask.
    """
    answer = _ask(client, _USERS)
    if not answer or len(answer["users"]) > _MOST_USERS:
        return None
    found = []
    for user in answer["users"]:
        name = str(user["username"])
        if not user["is_admin"]:
            asked = {"username": name, "resource_type": "registered_model", "resource_id": model}
            if not (granted := _ask(client, _PERMISSION, asked)):
                return None
            if granted["permission"] not in _MAY_MOVE:
                continue
        found.append(name)
    return tuple(sorted(found))


def _ask(client: MlflowClient, path: str, params: dict[str, str] | None = None) -> dict[str, Any] | None:
    """The answer of the server; None if it has no such question, or refuses it."""
    if not client.tracking_uri.startswith(("http://", "https://")):
        return None
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    answer = http_request(
        get_default_host_creds(client.tracking_uri),
        path,
        "GET",
        params=params,
        timeout=_SECONDS,
        raise_on_status=False,
    )
    if answer.status_code != 200:
        return None
    try:
        found = answer.json()
    except ValueError:  # a server without accounts may answer an unknown path with its page
        return None
    return found if isinstance(found, dict) else None
