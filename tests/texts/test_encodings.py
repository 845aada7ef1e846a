"""Texts that are not plain UTF-8: the message names the encoding, and the command in it fixes the file."""

from __future__ import annotations

import codecs
import gzip
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from components.download.corpora import TOKENS
from components.download.encoding import without_byte_order_marks
from components.download.fetch import fetch_corpus
from components.download.settings import DownloadSettings
from components.shared.base.failure import Failure
from components.shared.storage.manifest import Manifest
from components.shared.storage.store import open_store
from components.shared.text.articles import split_articles
from pipelines.config.settings import load
from pipelines.local.check import corpus as look_at_corpus
from tests.texts.corpora import SPLITS, wikitext, without_blanks, write, write_wikitext

RUSSIAN = "Корпус текстов — это собрание текстов в электронной форме ; Москва является столицей России . \n"
CHINESE = "语料库是指经科学取样和加工的大规模电子文本库。借助计算机分析工具，研究者可开展相关的语言理论及应用研究。\n"
JAPANESE = "これはコーパスです。日本語の文章には空白がありません。東京は日本の首都であり、世界最大級の都市です。\n"
FRENCH = " = Café = \n \n Le château fut bâti près de la rivière , où les élèves étaient à Noël . \n"


def fetch(folder: Path, out: Path) -> Manifest:
    return fetch_corpus(DownloadSettings(corpus=str(folder)), out, open_store(str(out.parent / "store")))


def ends(mark: str) -> bytes:
    return wikitext()["train"].replace("\n", mark).encode()


WIDE = wikitext()["train"]
# The bytes of the train split, the name of the encoding, and a part of the remedy.
FOREIGN = {
    "UTF-16 with a mark": (WIDE.encode("utf-16"), "is UTF-16, not UTF-8", "iconv -f UTF-16 -t UTF-8 train.txt"),
    "UTF-16, big": (codecs.BOM_UTF16_BE + WIDE.encode("utf-16-be"), "is UTF-16, not UTF-8", "-f UTF-16 "),
    "UTF-16, little, no mark": (WIDE.encode("utf-16-le"), "is UTF-16LE, not UTF-8", "-f UTF-16LE "),
    "UTF-16, big, no mark": (WIDE.encode("utf-16-be"), "is UTF-16BE, not UTF-8", "-f UTF-16BE "),
    "UTF-32 with a mark": (WIDE.encode("utf-32"), "is UTF-32, not UTF-8", "-f UTF-32 "),
    "UTF-32, no mark": (WIDE.encode("utf-32-le"), "is UTF-32LE, not UTF-8", "-f UTF-32LE "),
    "UTF-32, big, no mark": (WIDE.encode("utf-32-be"), "is UTF-32BE, not UTF-8", "-f UTF-32BE "),
    "Chinese in UTF-16": (without_blanks()["train"].encode("utf-16-le"), "is UTF-16LE", "-f UTF-16LE "),
    "Chinese in GBK": (20 * CHINESE.encode("gbk"), "is not UTF-8: byte 0xd3 in line 1", "-f GB18030 "),
    "Japanese in Shift JIS": (20 * JAPANESE.encode("cp932"), "is not UTF-8: byte 0x82 in line 1", "-f CP932 "),
    "Russian in KOI8-R": (20 * RUSSIAN.replace("—", "-").encode("koi8-r"), "is not UTF-8", "-f KOI8-R "),
    "Russian of Windows": (20 * RUSSIAN.encode("cp1251"), "is not UTF-8: byte 0xca in line 1", "-f CP1251 "),
    "French in Latin-1": (20 * FRENCH.encode("latin-1"), "is not UTF-8: byte 0xe9 in line 1", "for Latin-1 by `iconv"),
    "a damaged byte": (20 * RUSSIAN.encode() + b"\xff\n", "0xff in line 21", "drop what is damaged by `iconv -c"),
    "CRLF": (ends("\r\n"), "ends 440 of its 440 lines by CRLF, as on Windows", r"sed -i 's/\r$//' train.txt"),
    "some CRLF": (20 * b"a word \n" + b"a word \r\n", "ends 1 of its 21 lines by CRLF", "sed -i"),
    "CR": (ends("\r"), "ends its lines by CR, as on an old Mac", r"tr '\r' '\n' < train.txt"),
    "next line": (ends("\x85"), r"ends its lines by U\+0085 \(next line\)", "sed -i"),
    "line separator": (ends("\u2028"), r"ends its lines by U\+2028 \(line separator\)", "sed -i"),
    "paragraph separator": (ends("\u2029"), r"ends its lines by U\+2029 \(paragraph separator\)", "sed -i"),
}  # fmt: skip


@pytest.mark.parametrize(("train", "what", "remedy"), FOREIGN.values(), ids=FOREIGN)
def test_it_is_named_and_the_remedy_fits(tmp_path, train, what, remedy):
    folder = write(tmp_path / "texts", {**{s: t.encode() for s, t in wikitext().items()}, "train": train})
    with pytest.raises(Failure, match=f"The train split {what}" if "in line" not in what else what) as failure:
        fetch(folder, tmp_path / "out")
    assert remedy in failure.value.remedy
    [command] = re.findall("`(.*?)`", failure.value.remedy)
    if shutil.which(command.split()[0]) or command.startswith("LC_ALL"):
        subprocess.run(["sh", "-c", command], cwd=folder, check=True)
        fetch(folder, tmp_path / "out")
        repaired = (tmp_path / "out" / "train.txt").read_bytes().decode()
        assert {path.name for path in folder.iterdir()} == {f"{split}.txt" for split in SPLITS}
        assert repaired.count("\n") > 15 and "\ufeff" not in repaired


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (gzip.compress(b"words " * 100, mtime=0), "is a gzip file, not text"),
        (b"PK\x03\x04\xff\xfe\x00", "is a zip archive, not text"),
        (bytes(range(256)), r"is not UTF-8: byte 0x80 in line 2"),
        (random.Random(1).randbytes(5000), "is not UTF-8"),
        (b"words\0words \n", "holds a NUL byte in line 1"),
        (b"\xef\xbb\xbf \n", "is empty"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, data, what):
    folder = write(tmp_path / "texts", {**{s: t.encode() for s, t in wikitext().items()}, "train": data})
    with pytest.raises(Failure, match=f"The train split {what}"):
        fetch(folder, tmp_path / "out")


@pytest.mark.parametrize("marked", [("train",), ("validation", "test"), SPLITS])
def test_a_byte_order_mark_is_taken_off_and_recorded(tmp_path, capsys, marked):
    texts = wikitext()
    plain = fetch(write(tmp_path / "plain", texts), tmp_path / "out")
    folder = write(tmp_path / "marked", {s: "\ufeff" * (s in marked) + text for s, text in texts.items()})
    capsys.readouterr()
    manifest = fetch(folder, tmp_path / "out")
    assert manifest.metadata["dataset_digest"] == plain.metadata["dataset_digest"]
    assert manifest.metadata["changes"] == [f"a byte-order mark was removed from {split}" for split in marked]
    notes = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert notes == [f"A byte-order mark was removed from {split}: it is not part of the text" for split in marked]
    for split, text in texts.items():
        assert split_articles((tmp_path / "out" / f"{split}.txt").read_bytes().decode()) == split_articles(text)


def test_marks_between_texts_that_were_joined_are_taken_off_and_those_in_a_line_stay():
    joined = "\ufeff\ufeff = A = \n \n\ufeff = B = \n words \ufeff words\n\ufeff".encode()
    assert without_byte_order_marks(joined).decode() == " = A = \n \n = B = \n words \ufeff words\n"


def test_a_release_with_a_mark_is_the_release(real_data, tmp_path):
    texts = {}
    for split, released in {"train": "train", "validation": "valid", "test": "test"}.items():
        texts[split] = codecs.BOM_UTF8 + (real_data / "wikitext-2" / f"wiki.{released}.tokens").read_bytes()
    assert fetch(write(tmp_path / "texts", texts), tmp_path / "out").metadata["dataset_digest"] == TOKENS.dataset_digest


def test_a_few_stray_returns_are_left_to_the_validation(tmp_path):
    text = "a word of it \n" * 2000 + "a stray one \r\n"
    fetch(write(tmp_path / "texts", dict.fromkeys(SPLITS, text)), tmp_path / "out")


def test_a_check_says_the_same_as_a_run(tmp_path, capsys):
    marked = write_wikitext(tmp_path / "marked", lambda text: "\ufeff" + text)
    before = {path.name: path.read_bytes() for path in marked.iterdir()}
    found = look_at_corpus(load("quick", [f"download.corpus={marked}"]))
    assert found.ok and found.seen.endswith("train.txt, validation.txt, test.txt")
    assert "A byte-order mark was removed from train" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in marked.iterdir()} == before, "only a copy is changed"
    crlf = write_wikitext(tmp_path / "crlf", lambda text: text.replace("\n", "\r\n"))
    assert "by CRLF, as on Windows" in look_at_corpus(load("quick", [f"download.corpus={crlf}"])).seen
