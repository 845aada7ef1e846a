"""Any value of `--set` and `--corpus` is accepted, or refused in one sentence."""

from __future__ import annotations

import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.cli.options import absolute_corpus
from pipelines.config.settings import load

KEYS = [
    "train.seed", "train.pretrained", "train.seed.x", "train", "train.", ".x", "", "cluster", "cluster.", "cluster..x",
    "cluster.train", "cluster.train.gpus.x", "cluster.gpu_tolerations", "cluster.gpu_node_selector", "description.x",
    "evaluate.protocols", "download.corpus", " train . seed", "TRAIN.seed",
]  # fmt: skip
VALUES = [
    "", "1", "null", "true", "{}", "[]", "{a: 1}", "{1: 2}", "[[1]]", "[{}]", "[null]", "[{key: 1}]", "&a [*a]", "? a",
    "!!set {a}", "1e400", "0x" + "f" * 4000, "\0", "\ud800", "2026-01-01", "a: b: c", "x" * 10_000, "=", "[red]",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_an_override_is_taken_or_refused_in_one_sentence(key: str) -> None:
    for value in VALUES:
        for override in (f"{key}={value}", f"{key}{value}"):
            try:
                load("nightly", [override])
            except Failure as failure:
                said = str(failure)
                assert failure.exit_code is ExitCode.USAGE
                assert "\n" not in said and len(said.encode()) < 1500


@pytest.mark.parametrize(
    ("corpus", "sentence"),
    [
        ("SAMPLE", "did you mean sample?"),
        ("x" * 5000, "File name too long"),
        ("~nobody-of-this-name", "The user in the path does not exist"),
        ("~nobody-of-this-name/corpus", "The user in the path does not exist"),
    ],
)
def test_a_corpus_that_is_none(corpus: str, sentence: str) -> None:
    with pytest.raises(Failure) as caught:
        absolute_corpus(corpus)
    assert sentence in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    "address",
    [
        "http://a..b/x",
        f"http://{'a' * 70}.example/x",
        "https://*/x",
        "http://a\\b/x",
        "s3:///key",
        "s3://a b/key",
        "s3://b?x/k",
    ],
)
@pytest.mark.parametrize("key", ["download.corpus", "tokenize.tokenizer", "train.pretrained"])
def test_an_address_that_is_of_no_host_and_no_bucket(key: str, address: str) -> None:
    with pytest.raises(Failure, match=f"{key} must ") as caught:
        load("nightly", [f"{key}={address}"])
    assert caught.value.exit_code is ExitCode.USAGE
