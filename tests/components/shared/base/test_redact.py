"""Credentials are removed from text, and the parts that identify data are kept."""

import random
import string

import pytest

from components.shared.base.events import emit, parse
from components.shared.base.failure import Failure
from components.shared.base.redact import HIDDEN, find_secret, redact
from components.shared.runtime.secrets import fill_in_secrets, move_out_secrets
from components.shared.tracking.run import loggable_settings

SIGNED = "https://b.s3.amazonaws.com/a.zip?versionId=7&X-Amz-Credential=AK&X-Amz-Signature=5f3c&X-Amz-Expires=60"


@pytest.mark.parametrize(
    ("text", "without_secrets"),
    [
        ("https://user:pass@host.example/a.zip", f"https://{HIDDEN}@host.example/a.zip"),
        ("https://user:pa@ss@host.example/a.zip?token=x#y", f"https://{HIDDEN}@host.example/a.zip?token={HIDDEN}#y"),
        ("https://token@host.example/a.zip", f"https://{HIDDEN}@host.example/a.zip"),
        (SIGNED, f"https://b.s3.amazonaws.com/a.zip?versionId=7&X-Amz-Credential={HIDDEN}&X-Amz-Signature={HIDDEN}&X-Amz-Expires=60"),
        ("https://acc.blob.core.windows.net/c/b?sv=2024&sig=aB%2F", f"https://acc.blob.core.windows.net/c/b?sv=2024&sig={HIDDEN}"),
        ("https://host/a#access_token=abc&state=1", f"https://host/a#access_token={HIDDEN}&state=1"),
        ("postgresql://mlflow:p:w@db.example:5432/mlflow", f"postgresql://{HIDDEN}@db.example:5432/mlflow"),
        ("mysql+pymysql://u:p@db/x", f"mysql+pymysql://{HIDDEN}@db/x"),
        ("Max retries with url: /x (http://a:b@h/x)", f"Max retries with url: /x (http://{HIDDEN}@h/x)"),
        ("with url: /a.zip?part=1&token=x (Caused by", f"with url: /a.zip?part=1&token={HIDDEN} (Caused by"),
        ("https://hooks.slack.com/services/T0/B0/abc", f"https://hooks.slack.com/{HIDDEN}"),
        ("https://hooks.slack.com:443/services/T0/B0/abc", f"https://hooks.slack.com:443/{HIDDEN}"),
        ("https://chat.example/hooks/9f8e7d", f"https://chat.example/{HIDDEN}"),
        ("https://discord.com/api/webhooks/1/abc", f"https://discord.com/{HIDDEN}"),
        ("Authorization: Bearer abcdefghijkl", f"Authorization: Bearer {HIDDEN}"),
        ("AKIAABCDEFGHIJKLMNOP", HIDDEN),
        ("token hf_abcdefghijklmnopqrst", f"token {HIDDEN}"),
    ],
)  # fmt: skip
def test_credentials_are_removed(text: str, without_secrets: str) -> None:
    assert redact(text) == without_secrets
    assert redact(without_secrets) == without_secrets
    assert find_secret(text) or "with url" in text


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/prefix",
        "s3://b/hash#1",
        "s3://b/a?b&c",
        "https://host.example/data?revision=b08601e04326c79dfdd32d625aee71d232d685c3&part=2#train",
        "https://host.example/search?keyword=token&tokenizer=gpt2",
        "sqlite:////tmp/mlflow.db",
        "models:/wikigpt@champion",
        "runs:/55432792afa040bf99c5a7a84aab09d7/validation/report.html",
        "step train: loss 3.2",
        "",
    ],
)
def test_parts_that_identify_data_are_kept(text: str) -> None:
    assert redact(text) == text
    assert not find_secret(text)


def test_values_of_secret_variables_are_removed_everywhere(monkeypatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("WIKIGPT_WEBHOOK", "https://chat.example/9f8e7d")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "abc")
    seen = redact("boto said wJalrXUtnFEMI/K7MDENG; posted to https://chat.example/9f8e7d; the alphabet is abc")
    assert seen == f"boto said {HIDDEN}; posted to {HIDDEN}; the alphabet is abc"


def test_no_random_password_survives_in_any_address() -> None:
    """Passwords contain the delimiters of addresses; the random ones are equal in every run."""
    draw = random.Random(0)
    marks = string.ascii_letters + string.digits + "!$&*+,;=:@%-._~()"
    for _ in range(2000):
        password = "S3CRET" + "".join(draw.choices(marks, k=12))
        in_query = password.replace("&", "").replace(";", "")
        addresses = f"https://user:{password}@h/x", f"postgresql://u:{password}@db/m", f"https://h/?token=a{in_query}"
        for address in addresses:
            assert "S3CRET" not in redact(f"cannot reach {address}: refused")


def test_a_failure_and_an_event_contain_no_secret(capsys) -> None:
    failure = Failure(f"503 of {SIGNED}", where="http://a:b1b2b3@h", remedy=f"try {SIGNED}")
    assert "5f3c" not in str(failure) and "b1b2b3" not in repr(failure)
    assert "5f3c" not in str(Failure.from_dict({**failure.to_dict(), "what": SIGNED}))
    emit("note", text=f"503 of {SIGNED}", nested=[{"deep": SIGNED}])
    out = capsys.readouterr().out
    assert "5f3c" not in out and parse(out)["nested"][0]["deep"].startswith(
        "https://b.s3.amazonaws.com/a.zip?versionId=7"
    )


def test_settings_contain_only_references_to_secrets(monkeypatch) -> None:
    settings = {
        "profile": "quick",
        "download": {"corpus": SIGNED, "force": False},
        "notify": {"webhook": "https://chat.example/hooks/9f8e7d", "timeout": 5.0},
        "train": {"pretrained": None},
    }
    moved, variables = move_out_secrets(settings)
    assert "5f3c" not in str(moved) and "9f8e7d" not in str(moved)
    assert moved["profile"] == "quick" and moved["download"]["force"] is False
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert {name: fill_in_secrets(values) for name, values in moved.items() if name != "profile"} == {
        name: values for name, values in settings.items() if name != "profile"
    }


def test_a_reference_without_its_variable_is_reported_in_one_sentence(monkeypatch) -> None:
    monkeypatch.delenv("WIKIGPT_SECRET_DOWNLOAD_CORPUS", raising=False)
    with pytest.raises(Failure, match="refer to WIKIGPT_SECRET_DOWNLOAD_CORPUS, which is not set"):
        fill_in_secrets({"corpus": "${WIKIGPT_SECRET_DOWNLOAD_CORPUS}"})


def test_the_record_of_settings_has_no_secrets() -> None:
    settings = {
        "profile": "quick",
        "download": {"corpus": SIGNED, "force": False},
        "notify": {"webhook": "https://x/y"},
    }
    recorded = loggable_settings(settings)
    assert recorded.keys() == {"profile", "download"}
    assert "5f3c" not in str(recorded) and recorded["download"]["force"] is False
