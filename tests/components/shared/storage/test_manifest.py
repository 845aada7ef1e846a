"""A folder is read only if it is complete and unchanged."""

import json
import resource
import signal
import subprocess
import sys

import pytest

from components.shared.base.failure import Failure
from components.shared.storage.files import FileFact, file_fact, write_atomically
from components.shared.storage.manifest import MANIFEST, Manifest, digest_of, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "train.bin").write_bytes(b"\x01\x00" * 500)
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    write_manifest(tmp_path, "tokens", {"vocab_size": 7})
    return tmp_path


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def test_a_written_manifest_reads_back(folder):
    manifest = read_manifest(folder, "tokens")
    assert manifest.metadata == {"vocab_size": 7}
    assert set(manifest.files) == {"train.bin", "tokenizer/tokenizer.json"}
    assert manifest.files["train.bin"].size == 1000
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_equal_folders_have_equal_digests_and_a_byte_changes_it(folder):
    before = read_manifest(folder, "tokens").digest
    assert write_manifest(folder, "tokens", {"other": "facts"}).digest == before
    (folder / "train.bin").write_bytes(b"\x02\x00" * 500)
    assert write_manifest(folder, "tokens").digest != before


def test_a_changed_file_is_refused_by_name(folder):
    (folder / "train.bin").write_bytes(b"\x01\x00" * 499 + b"\x01\x01")
    with pytest.raises(Failure, match=r"differs .*train\.bin"):
        read_manifest(folder, "tokens")


def test_a_missing_file_is_refused_by_name(folder):
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(Failure, match=r"missing .*tokenizer\.json"):
        read_manifest(folder, "tokens")


def test_a_folder_without_a_manifest_was_never_finished(tmp_path):
    with pytest.raises(Failure, match="never finished"):
        read_manifest(tmp_path, "tokens")


def test_another_kind_is_refused(folder):
    with pytest.raises(Failure, match="Expected a folder of kind 'model', got 'tokens'"):
        read_manifest(folder, "model")


@pytest.mark.parametrize(
    "content",
    [b"<html>", b"[]", b"{}", b'{"kind": "tokens", "files": {"a": {"size": 1}}, "facts": {}}', b"\xff\xfe"],
    ids=["html", "list", "no keys", "half a fact", "binary"],
)
def test_an_invalid_manifest_is_reported_in_one_sentence(folder, content):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(Failure, match="The manifest cannot be read"):
        read_manifest(folder, "tokens")


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/../../b", ""])
def test_a_manifest_cannot_name_a_file_outside_its_folder(name):
    data = json.dumps({"kind": "model", "files": {name: {"size": 1, "sha256": "0"}}, "facts": {}}).encode()
    with pytest.raises(ValueError, match="outside its folder"):
        Manifest.from_json(data)


def test_a_partial_file_is_not_part_of_a_folder(folder):
    (folder / ".train.bin.x1.part").write_bytes(b"half")
    assert ".train.bin.x1.part" not in write_manifest(folder, "tokens").files


def test_file_fact_is_size_and_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_fact(tmp_path / "abc") == FileFact(size=3, sha256=expected)


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest_of({"a": 1, "b": [1.5, None]}) == digest_of({"b": [1.5, None], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_writing_replaces_and_leaves_nothing_else(tmp_path):
    assert write_atomically(tmp_path / "deep" / "file", "old")
    assert write_atomically(tmp_path / "deep" / "file", lambda stream: stream.write(b"new"))
    assert (tmp_path / "deep" / "file").read_bytes() == b"new"
    assert names_in(tmp_path / "deep") == ["file"]


def test_a_write_that_fails_in_the_middle_keeps_the_old_bytes(tmp_path):
    write_atomically(tmp_path / "file", "old")

    def fail(stream):
        stream.write(b"half of the new")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_atomically(tmp_path / "file", fail)
    assert (tmp_path / "file").read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_if_absent_leaves_the_first(tmp_path):
    assert write_atomically(tmp_path / "file", "first", if_absent=True)
    assert not write_atomically(tmp_path / "file", "second", if_absent=True)
    assert (tmp_path / "file").read_text() == "first"
    assert names_in(tmp_path) == ["file"]


_WRITER = """
import sys, time
from pathlib import Path
from components.shared.storage.files import write_atomically
def content(stream):
    stream.write(b"n" * 100_000); stream.flush()
    print("writing", flush=True)
    time.sleep(60)
write_atomically(Path(sys.argv[1]), content)
"""


def test_sigkill_while_writing_leaves_no_partial_file(tmp_path):
    (tmp_path / "file").write_text("old")
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path / "file")], stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert (tmp_path / "file").read_text() == "old"
    assert set(write_manifest(tmp_path, "corpus").files) == {"file"}


def test_a_full_disk_is_reported_and_keeps_the_old_bytes(tmp_path):
    write_atomically(tmp_path / "file", "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))  # the kernel then refuses as on a full disk
    try:
        with pytest.raises(Failure, match=r"Could not write: File too large .*file\): free some space"):
            write_atomically(tmp_path / "file", b"x" * (1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "file").read_text() == "old"
    assert names_in(tmp_path) == ["file"]


_AS_NOBODY = """
import os, sys
from pathlib import Path
from components.shared.storage.files import write_atomically
from components.shared.base.failure import Failure
if os.geteuid() == 0:
    os.setuid(65534)
try:
    write_atomically(Path(sys.argv[1]), "x")
except Failure as failure:
    print(failure)
"""


def test_a_read_only_folder_is_reported_in_one_sentence(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    done = subprocess.run([sys.executable, "-c", _AS_NOBODY, str(locked / "file")], capture_output=True, text=True)
    assert done.stdout.startswith(
        f"Could not write: Permission denied ({locked / 'file'}): let this user read and write it"
    )


_FIRST = """
import sys
from pathlib import Path
from components.shared.storage.files import write_atomically
print("ready", flush=True)
sys.stdin.readline()
print(int(write_atomically(Path(sys.argv[1]), sys.argv[2] * 1000, if_absent=True)))
"""


def test_of_several_processes_exactly_one_writes(tmp_path):
    command = [sys.executable, "-c", _FIRST, str(tmp_path / "file")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    writers = [subprocess.Popen([*command, str(number)], **pipes) for number in range(4)]
    assert all(writer.stdout.readline() == b"ready\n" for writer in writers)
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    won = [writer.communicate()[0].strip() for writer in writers]
    assert sorted(won) == [b"0", b"0", b"0", b"1"]
    assert (tmp_path / "file").read_text() == str(won.index(b"1")) * 1000
