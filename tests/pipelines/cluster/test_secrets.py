"""Values that are recognized as credentials, and values that are not: no secret may become a parameter of a run."""

import json

import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.guards import refuse_secret_values, refuse_secrets
from pipelines.cluster.secrets import CREDENTIAL, SIGNED, WEBHOOK, is_secret_name, secret_in

HIDDEN = "hunter2hunter2"
PRESIGNED = "https://bucket.s3.eu-central-1.amazonaws.com/corpus.zip?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="
QUERIES = [
    f"{PRESIGNED}AKIAX%2F20261127&X-Amz-Signature={HIDDEN}",
    f"https://bucket.s3.amazonaws.com/corpus.zip?X-Amz-Signature={HIDDEN}",
    f"https://bucket.s3.amazonaws.com/corpus.zip?AWSAccessKeyId=x&Expires=1&Signature={HIDDEN}",
    f"https://storage.googleapis.com/bucket/corpus.zip?X-Goog-Signature={HIDDEN}",
    f"https://account.blob.core.windows.net/c/corpus.zip?sv=2026-01-01&se=2027&sig={HIDDEN}",
    f"https://d111.cloudfront.net/corpus.zip?Expires=1&Signature={HIDDEN}&Key-Pair-Id=K",
    f"https://corpora.example/corpus.zip?token={HIDDEN}",
    f"https://corpora.example/corpus.zip?access_token={HIDDEN}",
    f"https://corpora.example/corpus.zip?page=1&api_key={HIDDEN}",
    f"https://corpora.example/corpus.zip#access_token={HIDDEN}",
    f"s3://bucket/corpus?X-Amz-Security-Token={HIDDEN}",
]
WEBHOOKS = [
    f"https://hooks.slack.com/services/T0/B0/{HIDDEN}",
    f"https://hooks.slack.com/workflows/T0/A0/1/{HIDDEN}",
    f"https://discord.com/api/webhooks/1/{HIDDEN}",
    f"https://team.webhook.office.com/webhookb2/{HIDDEN}@x/IncomingWebhook/y/z",
    f"https://prod-1.westeurope.logic.azure.com:443/workflows/{HIDDEN}/triggers/manual/paths/invoke",
    f"https://hooks.zapier.com/hooks/catch/1/{HIDDEN}/",
    f"https://maker.ifttt.com/trigger/trained/with/key/{HIDDEN}",
    f"https://api.telegram.org/bot1:{HIDDEN}/sendMessage",
    f"https://events.pagerduty.com/integration/{HIDDEN}/enqueue",
    f"https://mattermost.example/hooks/{HIDDEN}",
    f"https://chat.example/api/webhooks/{HIDDEN}".replace("/api/", "/"),
]
TOKENS = [
    "AKIAIOSFODNN7EXAMPLE",
    "-----BEGIN RSA PRIVATE KEY-----",
    f"hf_{HIDDEN}abcd",
    f"github_pat_{HIDDEN}abcd",
    f"glpat-{HIDDEN}abcd",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJl",
    f"postgresql://mlflow:{HIDDEN}@postgres/mlflow",
]
HARMLESS = [
    "wikitext-2-raw-v1",
    "s3://bucket/corpora/wikitext-2",
    "https://corpora.example/wikitext-2-raw-v1.zip",
    "https://corpora.example/download?file=wikitext-2.zip&version=3",
    "https://huggingface.co/gpt2/resolve/main/config.json?download=true",
    "https://registry.example/webhooks.html",
    "gpt2",
    "registry.example/wikigpt@sha256:" + "a" * 64,
    "[wikitext-word, gpt2-token]",
    "http://[::1",
]


@pytest.mark.parametrize("value", QUERIES)
def test_a_secret_in_a_query(value):
    assert secret_in(value) == SIGNED


@pytest.mark.parametrize("value", WEBHOOKS)
def test_a_secret_in_the_path_of_a_webhook(value):
    assert secret_in(value) == WEBHOOK


@pytest.mark.parametrize("value", TOKENS)
def test_a_token(value):
    assert secret_in(f"before {value} after") == CREDENTIAL


@pytest.mark.parametrize("value", HARMLESS)
def test_what_is_no_secret(value):
    assert secret_in(value) is None
    refuse_secrets([f"download.corpus={value}"])


@pytest.mark.parametrize("value", [*QUERIES, *WEBHOOKS, *TOKENS])
def test_none_of_them_becomes_a_parameter_and_none_is_shown(value):
    for refuse in (
        lambda: refuse_secrets([f"download.corpus={value}"]),
        lambda: refuse_secrets([f"download.corpus={json.dumps([value])}"]),
        lambda: refuse_secret_values({"download": {"corpus": value}}),
        lambda: refuse_secret_values({"evaluate": {"protocols": ["gpt2-token", value]}}),
    ):
        with pytest.raises(Failure, match=r"The setting (download\.corpus|evaluate\.protocols) holds") as caught:
            refuse()
        assert caught.value.exit_code is ExitCode.USAGE
        assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["https://bot.internal.example/tell/4711", "https://bot.internal.example/?team=4711", *WEBHOOKS],
)
def test_the_webhook_of_any_service_belongs_into_the_secret(address):
    for refuse in (
        lambda: refuse_secrets([f"notify.webhook={address}"]),
        lambda: refuse_secrets([f'notify.webhook="{address}"']),
        lambda: refuse_secret_values({"notify": {"webhook": address}}),
    ):
        with pytest.raises(
            Failure, match=r"notify\.webhook .*cluster\.notify_secret names, under the key WIKIGPT_WEBHOOK"
        ):
            refuse()


def test_a_webhook_that_is_only_a_host_holds_no_secret():
    refuse_secrets(["notify.webhook=http://127.0.0.1:9999", "notify.webhook=http://bot.internal.example/"])
    refuse_secret_values({"notify": {"webhook": "http://bot.internal.example", "webhook_variable": "WIKIGPT_WEBHOOK"}})


def test_the_remedy_of_a_presigned_address_is_object_storage():
    with pytest.raises(Failure, match=r"copy the file to object storage \(`wikigpt mirror`\)"):
        refuse_secrets([f"download.corpus={QUERIES[1]}"])


@pytest.mark.parametrize(
    ("key", "is_secret"),
    [
        ("notify.token", True),
        ("download.api_key", True),
        ("train.prefix_tokens", False),
        ("cluster.s3_secret", False),
        ("tokenize.tokenizer", False),
    ],
)
def test_keys(key, is_secret):
    assert is_secret_name(key) is is_secret
