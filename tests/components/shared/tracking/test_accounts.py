"""A server of MLflow with accounts says who this process is, and who may move an alias."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.tracking.accounts import accounts_that_may_move, current_account
from components.shared.tracking.approval import Approved, approved_champion
from tests.servers import mlflow_server

pytestmark = pytest.mark.slow
PASSWORD = "a password of twelve characters"
NAME = "wikigpt"
AUTH = """[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/auth.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


def test_the_server_is_asked(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.server.auth.client import AuthServiceClient

    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    (tmp_path / "auth.ini").write_text(AUTH.format(folder=tmp_path))
    for name, value in {
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret of this test",
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        "MLFLOW_TRACKING_USERNAME": "admin",
    }.items():
        monkeypatch.setenv(name, value)
    with mlflow_server(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, "--app-name", "basic-auth") as address:
        client, auth = MlflowClient(address), AuthServiceClient(address)
        for user in ("ada", "bob", "carl"):
            auth.create_user(user, PASSWORD)
        client.create_registered_model(NAME)
        auth.grant_user_permission("ada", "registered_model", NAME, "EDIT")
        auth.grant_user_permission("carl", "registered_model", NAME, "USE")
        assert current_account(client) == "admin"
        assert accounts_that_may_move(client, NAME) == ("ada", "admin")
        run = client.create_run("0").info
        client.create_model_version(NAME, f"{run.artifact_uri}/model", run.run_id)
        client.set_registered_model_alias(NAME, "champion", "1")
        assert approved_champion(client, NAME, ("ada", "admin")) == Approved("1"), "nobody else may have moved it"
        refused = approved_champion(client, NAME, ("ada",)).refused
        assert refused and "where also admin may do that" in refused.reason
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
        assert current_account(client) == "bob"
        assert accounts_that_may_move(client, NAME) is None, "only an administrator may ask"


def test_a_server_without_accounts_knows_nobody(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    with mlflow_server(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path) as address:
        client = MlflowClient(address)
        assert current_account(client) == "ada"
        assert accounts_that_may_move(client, NAME) is None
