"""The classification of addresses."""

from __future__ import annotations

from components.shared.base.address import is_folder, is_on_hub


def test_a_name_is_on_the_hub_unless_it_begins_as_a_folder() -> None:
    assert [is_folder(each) for each in ("/a", "./a", "../a", "~/a", "a", "a/b", "s3://a/b")] == [True] * 4 + [
        False
    ] * 3
    assert [is_on_hub(each) for each in ("./a", "s3://a/b", "gpt2", "team/tiny")] == [False, False, True, True]
