"""Archives: what they may contain, and why they are refused."""

import gzip
import io
import os
import stat
import tarfile
import zipfile

import pytest

from components.download.archive import unpack
from components.download.splits import find_splits
from components.shared.base.failure import Failure
from tests.components.download.conftest import tar_of, zip_of


@pytest.fixture
def opened(tmp_path):
    """Unpacks bytes; returns the folder of the splits."""

    def opened(data: bytes):
        (tmp_path / "archive").write_bytes(data)
        (tmp_path / "unpacked").mkdir(exist_ok=True)
        return unpack(tmp_path / "archive", tmp_path / "unpacked", "https://host/corpus.zip")

    return opened


@pytest.mark.parametrize("pack", [zip_of, tar_of])
@pytest.mark.parametrize("folder", ["", "wikitext-2/", "deep/er/"])
def test_the_splits_are_found_at_any_depth(opened, texts, pack, folder):
    files = {f"{folder}{split}.txt": text for split, text in texts.items()} | {"README": b"unused"}
    found = find_splits(opened(pack(files)), "here")
    assert {split: path.read_bytes() for split, path in found.items()} == texts


@pytest.mark.parametrize("pack", [zip_of, tar_of])
@pytest.mark.parametrize("name", ["../train.txt", "/train.txt", "a/../../train.txt", "..\\train.txt", "C:\\train.txt"])
def test_a_name_that_leads_outside_refuses_the_archive(opened, texts, tmp_path, pack, name):
    with pytest.raises(Failure, match="names a file outside itself"):
        opened(pack({**{f"{split}.txt": text for split, text in texts.items()}, name: b"owned"}))
    assert not (tmp_path / "train.txt").exists()
    assert not list((tmp_path / "unpacked").iterdir())


# Pairs, not a dict: a name may be there twice.
AMBIGUOUS = {
    "twice the same": (["train.txt", "train.txt"], "two entries of one name: 'train.txt'"),
    "a dot for a folder": (["train.txt", "./train.txt"], "two entries of one name: './train.txt'"),
    "an empty part": (["a/train.txt", "a//train.txt"], "two entries of one name"),
    "a backslash": (["texts\\train.txt"], r"a name with a backslash, .*texts"),
    "a backslash beside": (["texts/train.txt", "texts\\note"], "a name with a backslash"),
    "upper and lower case": (["train.txt", "Train.txt"], "same file on some systems: 'train.txt' and 'Train.txt'"),
    "case of a folder": (["a/train.txt", "A/train.txt"], "same file on some systems"),
    "composed letters": (["é/train.txt", "e\u0301/train.txt"], "same file on some systems"),
    "a dot at the end": (["train.txt", "train.txt."], "same file on some systems"),
    "a blank at the end": (["train.txt", "train.txt "], "same file on some systems"),
    "sharp s": (["straße/train.txt", "STRASSE/train.txt"], "same file on some systems"),
}


@pytest.mark.parametrize("pack", [zip_of, tar_of])
@pytest.mark.parametrize(("names", "what"), AMBIGUOUS.values(), ids=AMBIGUOUS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_ambiguous_refuses_the_archive(opened, texts, tmp_path, pack, names, what):
    others = [(f"{split}.txt", texts[split]) for split in ("validation", "test")]
    with pytest.raises(Failure, match=what):
        opened(pack([*((name, texts["train"]) for name in names), *others]))
    assert not list((tmp_path / "unpacked").iterdir())


def test_a_name_with_a_nul_refuses_the_archive(opened, texts):
    """The zipfile module truncates the name there, and other programs do not."""
    packed = zip_of({"train.txt?x": texts["train"]}).replace(b"train.txt?x", b"train.txt\0x")
    with pytest.raises(Failure, match="a name with a NUL"):
        opened(packed)


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_names_of_a_mac_and_in_other_scripts_are_no_reason_to_refuse(opened, texts, pack):
    """A folder may be listed twice, and a name may end in a dot where no other is like it."""
    files = [(f"Café 语料 Inc./{split}.txt", text) for split, text in texts.items()]
    beside = [("__MACOSX/._train.txt", b"x"), ("Café 语料 Inc./Icon\r", b""), ("Café 语料 Inc./TRAIN", b"")]
    found = find_splits(opened(pack([*files, *beside])), "here")
    assert {split: path.read_bytes() for split, path in found.items()} == texts


def test_a_folder_that_is_listed_twice_is_no_reason_to_refuse(opened, texts):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("texts", "texts/"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for split, text in texts.items():
            info = tarfile.TarInfo(f"texts/{split}.txt")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    assert set(find_splits(opened(buffer.getvalue()), "here")) == set(texts)


def test_a_link_refuses_the_archive(opened, texts):
    with pytest.raises(Failure, match=r"holds a link or a device: 'test\.txt'"):
        opened(tar_of({"train.txt": texts["train"]}, links={"test.txt": "/etc/passwd"}))


def test_a_link_in_a_zip_refuses_the_archive(opened, tmp_path):
    with zipfile.ZipFile(tmp_path / "linked.zip", "w") as archive:
        info = zipfile.ZipInfo("train.txt")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(Failure, match="holds a link"):
        opened((tmp_path / "linked.zip").read_bytes())


def test_an_archive_that_unpacks_to_far_more_than_text_is_refused(opened):
    with pytest.raises(Failure, match=r"unpacks to 73,400,320 bytes from"):
        opened(zip_of({"train.txt": bytes(70 << 20)}))


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>Sign in</html>", b"\n  <html>"])
def test_a_page_is_no_archive(opened, page):
    with pytest.raises(Failure, match="The address returns an HTML page and not an archive"):
        opened(page)


def test_other_bytes_are_no_archive(opened):
    with pytest.raises(Failure, match=r"not a zip or tar\.gz archive"):
        opened(b"plain text")


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_half_an_archive_is_damaged(opened, texts, pack):
    whole = pack({f"{split}.txt": text * 50 for split, text in texts.items()})
    with pytest.raises(Failure, match="damaged"):
        opened(whole[: len(whole) // 2])


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_a_byte_that_changed_on_the_way_is_damage(opened, pack):
    noise = bytes(os.urandom(5000))
    whole = bytearray(pack({f"{split}.txt": noise for split in ("train", "validation", "test")}))
    whole[len(whole) // 2] ^= 1
    with pytest.raises(Failure, match="damaged"):
        opened(bytes(whole))


def test_an_encrypted_archive_is_not_called_damaged(opened, texts):
    data = bytearray(zip_of({f"{split}.txt": text for split, text in texts.items()}))
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory of the archive
    with pytest.raises(Failure, match=r"refused: it holds 'train\.txt' encrypted by a password"):
        opened(bytes(data))


def test_a_text_that_gzip_packed_is_not_called_damaged(opened, texts):
    with pytest.raises(Failure, match="The gzip file holds no tar archive"):
        opened(gzip.compress(texts["train"]))


def test_an_archive_without_splits_says_so(opened):
    with pytest.raises(Failure, match="holds no corpus"):
        opened(zip_of({"README": b"hello"}))


def test_two_corpora_in_one_archive_are_one_too_many(opened, texts):
    with pytest.raises(Failure, match="more than one corpus"):
        opened(zip_of({"a/train.txt": texts["train"], "b/train.txt": texts["train"]}))
