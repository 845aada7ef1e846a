"""A corpus with one fault fails the expectation for it, whose message has the observed and the required value."""

import pytest

from components.shared.base.failure import Failure
from components.validate.checks import Check, checks
from components.validate.expectations import run_checks, wanted
from components.validate.measures import build_tables
from components.validate.settings import ValidateSettings
from tests.components.validate.texts import article, good, line, read, results


def failing(found):
    return {name for name, result in found.items() if not result.success}


def test_a_good_corpus_meets_every_expectation(tmp_path):
    corpus = read(tmp_path, good())
    settings = ValidateSettings()
    asked = checks(corpus, settings, None)
    found = run_checks(asked, build_tables(corpus, settings))
    assert [result.sentence for result in found if not result.success] == []
    assert [(result.split, result.name) for result in found] == [(check.split, check.name) for check in asked]


def test_text_without_titles_meets_every_expectation(tmp_path):
    texts = {split: "".join(line(seed) for seed in seeds) for split, seeds in
             {"train": range(50), "validation": range(50, 60), "test": range(60, 70)}.items()}  # fmt: skip
    corpus = read(tmp_path, texts)
    found = results(corpus, "test")
    assert failing(found) == set()
    assert "every article has a title" not in found


# The text that is put into the test split, the expectation that must fail, and its message.
BREAKS = {
    "Latin-1": (b" caf\xe9 au lait \n", "text in UTF-8", "1 places that are not UTF-8", "line 34"),
    "a replacement character": (
        " caf� \n",
        "no replacement or control characters",
        "1 of 34 lines",
        "line 34 has U+FFFD",
    ),
    "a NUL byte": (" caf\x00 \n", "no replacement or control characters", "1 of 34 lines", "line 34 has U+0000"),
    "a carriage return": (" caf\r\n", "no replacement or control characters", "1 of 34 lines", "line 34 has U+000D"),
    "a next line": (" caf\x85 \n", "no replacement or control characters", "1 of 34 lines", "line 34 has U+0085"),
    "a zero-width space": (" ca\u200bf \n", "few invisible characters", "1 of 34 lines", "line 34 has U+200B"),
    "an endless line": (" a" * 10_001 + " \n", "no endless line", "10,001 words", "line 34"),
    "a heading left open": (" = = Career = \n", "headings end as they begin", "1 of 7 headings", "line 34"),
    "a level skipped": (" = = = = Deep = = = = \n", "headings skip no level", "1 of 7 headings", "line 34"),
    "a line again": (line(200_000), "few repeated lines", "1 of 16 long lines", "line 34"),
    "<unk> everywhere": (" <unk>" * 200 + " \n", "no article full of <unk>", "54.9 % of its words", "'Title 202'"),
    "a stub": (article(7, "Stub", lines=0), "few short articles", "1 of 4 articles", "'Stub'"),
    "an article again": (article(200), "no article twice in a split", "1 of 4 articles", "'Title 200'"),
    "an article of train": (article(3), "no article in two splits", "1 of 4 articles", "'Title 3'"),
    "its lines": (line(3_000), "few lines in two splits", "1 of 16 long lines", "line 34"),
}


@pytest.mark.parametrize("break_", BREAKS)
def test_each_fault_is_found_and_described(tmp_path, break_):
    extra, name, seen, example = BREAKS[break_]
    texts = good()
    broken = texts["test"].encode() + (extra if isinstance(extra, bytes) else extra.encode())
    result = results(read(tmp_path, texts | {"test": broken}), "test", name)[name]
    assert not result.success
    assert result.seen == seen
    assert result.examples[0].startswith(example)
    assert f"'{name}' failed in test: saw {seen} ({result.examples[0]}" in result.sentence
    assert result.sentence.endswith(f"wanted {result.wanted}")


def test_a_line_like_a_title_amid_plain_text_asks_for_no_titles(tmp_path):
    texts = {split: line(seed) * 4 + " \n = x = \n \n" + line(seed + 1) for seed, split in enumerate(good())}
    asked = checks(read(tmp_path, texts), ValidateSettings(), None)
    assert "every article has a title" not in {check.name for check in asked}


def test_too_many_unknown_words_fail(tmp_path):
    texts = good()
    rare = {split: text.replace(" a", " <unk> ") for split, text in texts.items()}
    result = results(read(tmp_path, rare), "test", "few <unk>", max_unk_rate=0.04)["few <unk>"]
    assert not result.success
    assert result.wanted == "at most 4 % of the words of an article"


def test_a_text_before_the_first_title_fails(tmp_path):
    texts = good()
    name = "every article has a title"
    result = results(read(tmp_path, texts | {"test": line(1) + texts["test"]}), "test", name)[name]
    assert not result.success
    assert result.examples == ("'text without a title'",)


def test_an_endless_article_is_a_warning(tmp_path):
    found = results(read(tmp_path, good()), "test", max_article_words=100)
    assert failing(found) == {"no endless article"}
    assert found["no endless article"].severity == "warning"


@pytest.mark.parametrize(("text", "seen"), [("", "0 words"), (" \n \n", "0 words"), (" = T = \n", "3 words")])
def test_an_empty_or_short_split_is_an_error(tmp_path, text, seen):
    corpus = read(tmp_path, good() | {"validation": text})
    result = results(corpus, "validation", "enough words")["enough words"]
    assert (result.success, result.severity, result.seen) == (False, "error", seen)
    assert result.wanted == "at least 100 words"
    assert result.setting == "min_heldout_words"


def test_roles_that_are_swapped_are_a_warning(tmp_path):
    texts = good()
    corpus, name = (
        read(tmp_path, texts | {"train": texts["test"], "test": texts["train"]}),
        "train is the largest split",
    )
    result = results(corpus, "train", name)[name]
    assert (result.success, result.severity) == (False, "warning")


def test_a_test_split_copied_into_train_is_an_error(tmp_path):
    texts = good()
    found = results(read(tmp_path, texts | {"train": texts["train"] + texts["test"]}), "test")
    assert failing(found) == {
        "no article in two splits",
        "no article half in another split",
        "few near-duplicates in another split",
        "few lines in two splits",
    }
    overlap = found["no article half in another split"]
    assert overlap.seen == "100 % of its runs of words"
    assert overlap.examples == ("'Title 200' (compare train: Title 200)",)


def test_a_copy_without_titles_is_an_error(tmp_path):
    texts = {"train": "".join(map(line, range(50))), "validation": "".join(map(line, range(60, 70)))}
    texts["test"] = "".join(map(line, range(20, 30)))
    found = results(read(tmp_path, texts), "test")
    assert {"no article half in another split", "few lines in two splits"} <= failing(found)


def test_a_copy_that_was_edited_is_a_near_duplicate(tmp_path):
    texts = good()
    words = texts["test"].split(" ")
    edited = " ".join("edited" if number % 20 == 19 and "\n" not in word and "=" not in word else word
                      for number, word in enumerate(words))  # fmt: skip
    found = results(read(tmp_path, texts | {"train": texts["train"] + edited}), "test")
    assert found["no article in two splits"].success
    assert found["few lines in two splits"].success
    assert not found["few near-duplicates in another split"].success
    assert not found["no article half in another split"].success


def test_published_counts_are_exact(tmp_path):
    found = results(read(tmp_path, good(), name="wikitext-2-v1"), "test")
    assert failing(found) == {"lines as published", "articles as published", "words as published"}
    assert found["articles as published"].seen == "3 articles"
    assert found["articles as published"].wanted == "exactly 60 articles"


def test_a_missing_column_is_one_failed_expectation_and_no_traceback(tmp_path):
    corpus, settings = read(tmp_path, good()), ValidateSettings()
    tables = build_tables(corpus, settings)
    tables["test", "lines"] = tables["test", "lines"].drop(columns="damaged")
    wanted_checks = [check for check in checks(corpus, settings, None) if check.split == "test"]
    found = {result.name: result for result in run_checks(wanted_checks, tables)}
    assert failing(found) == {"the columns of lines"}
    assert found["the columns of lines"].seen.startswith("9 columns: line words")
    assert "no replacement or control characters" not in found
    assert "few <unk>" in found


def test_an_expectation_that_cannot_be_evaluated_has_not_failed(tmp_path, monkeypatch):
    """Great Expectations turns every exception into a failed expectation."""

    def short_of_memory(*args, **named):
        raise MemoryError("no more is free")

    corpus = read(tmp_path, good())
    monkeypatch.setattr("pandas.Series.max", short_of_memory)
    with pytest.raises(Failure, match=r"could not be computed: .*no more is free"):
        results(corpus, "train")


def test_nothing_is_printed(tmp_path, capfd, recwarn):
    results(read(tmp_path, good()), "test", "enough words")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"low": 3, "high": 3, "unit": "lines"}, "exactly 3 lines"),
     ({"low": 2_051_910, "high": 2_062_000, "unit": "words"}, "2,051,910 to 2,062,000 words"),
     ({"low": 100, "unit": "words"}, "at least 100 words"),
     ({"high": 0, "unit": "words"}, "none"),
     ({"high": 0.15, "unit": "of its words"}, "at most 15 % of its words"),
     ({"high": 0.125, "unit": "bits"}, "at most 0.125 bits")],
)  # fmt: skip
def test_a_required_value_is_described_in_words(limits, said):
    assert wanted(Check("name", "test", "lines", "sum", "words", **limits)) == said


def test_a_required_share_is_shown_in_per_cent():
    assert wanted(Check("name", "test", "lines", "share", "damaged", high=0.001)) == "at most 0.1 %"
