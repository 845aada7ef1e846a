"""The corpora of the benchmark are the same each time, differ from copies, and have a growing vocabulary."""

import pytest

from tests.benchmarks.grown_corpus import GROWTH, copies, grow
from tests.benchmarks.large_corpora import Measurement, values
from tests.components.validate.texts import good, write


def test_a_grown_corpus_is_larger_by_the_factor_and_no_copy(tmp_path):
    source = write(tmp_path / "source", good())
    for name in ("first", "second"):
        grow(source, tmp_path / name, 3)
    first, second = ((tmp_path / name / "train.txt").read_text() for name in ("first", "second"))
    assert first == second
    assert first.startswith(good()["train"])
    assert first.count("\n") == 3 * good()["train"].count("\n")
    assert first.count("\n = Title 3 = \n") == 3
    lines = [line for line in first.splitlines() if len(line.split()) > 9]
    assert len(set(lines)) == len(lines)
    for split in ("validation", "test"):
        assert (tmp_path / "first" / f"{split}.txt").read_text() == good()[split]


def test_the_vocabulary_grows_by_heaps_law():
    lines = (" ".join(f"word{n}of{m}" for n in range(40)) for m in range(9))
    text = "several other words \n" + "".join(f" = Title = \n \n {line} \n \n" for line in lines)
    base = len(set(text.split()))
    grown = text + "".join(copies(text, 3))
    assert len(set(grown.split())) == pytest.approx(base * 4**GROWTH, rel=0.1)


def test_the_record_has_the_cost_of_each_megabyte_relative_to_the_first_corpus():
    small = Measurement("validate", 1, 10.0, processor_seconds=2.0, seconds=3.0, peak_megabytes=300.0)
    large = Measurement("validate", 50, 500.0, processor_seconds=50.0, seconds=60.0, peak_megabytes=400.0)
    first, second = values([small, large])["steps"]
    assert (first["seconds_per_MB_relative"], second["seconds_per_MB_relative"]) == (1.0, 0.5)
    assert second["peak_memory_in_MB"] == 400.0
