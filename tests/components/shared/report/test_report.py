"""Reports are safe, complete without a network, and accessible to screen readers."""

import subprocess
import sys
from html.parser import HTMLParser

import pytest

from components.shared.report.report import (
    INK,
    SERIES,
    Html,
    badge,
    details,
    facts,
    figure,
    number,
    page,
    plots,
    prose,
    sample,
    section,
    table,
)

HOSTILE = '<script>alert("1")</script>'


class Elements(HTMLParser):
    """Every element of a document with its attributes, and an error for a tag that is not closed."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def drawing():
    with plots("Loss", "Length") as axes:
        axes[0].plot([1, 2, 3], [3, 2, 1], label="train")
        axes[0].legend()
        axes[1].bar([1, 2], [1, 2], color=SERIES[1])
        axes[1].annotate("here", (1, 1), color=INK)
    return axes[0]


@pytest.fixture(scope="module")
def document() -> str:
    rows = [["a", 1, 2.5, badge("passed", "good")], ["b", None, 3, badge("failed", "bad")]]
    return page(
        "Title",
        "Subtitle",
        [
            facts({"words": 2051910}),
            section("One", prose("First.\n\nSecond."), table(["name", "n", "x", "verdict"], rows, "A table")),
            section("Two", figure(drawing(), "Curves", alt="Loss falls"), figure(b"\x89PNG", "Pixels", alt="A dot")),
            details("more", sample("text", prompt="The ", note="greedy")),
        ],
        verdict=badge("passed", "good"),
        footer="the end",
    )


def test_text_of_the_corpus_is_escaped_everywhere():
    html = page(
        HOSTILE,
        HOSTILE,
        [
            section(HOSTILE, prose(HOSTILE), sample(HOSTILE, prompt=HOSTILE, note=HOSTILE)),
            facts({HOSTILE: HOSTILE}),
            table([HOSTILE], [[HOSTILE]], HOSTILE),
            figure(b"", HOSTILE, alt=HOSTILE),
            figure(Html("<svg ></svg>"), HOSTILE, alt='"><script>'),
            details(HOSTILE, badge(HOSTILE, "bad")),
        ],
        footer=HOSTILE,
    )
    assert "script" not in {tag for tag, _ in Elements(html).found}
    assert html.count("&lt;script&gt;") >= 15


def test_a_text_drawn_by_matplotlib_is_escaped_too():
    with plots(HOSTILE) as [axes]:
        axes.set_xlabel(HOSTILE)
    assert not Elements(figure(axes, "", alt="")).named("script")


def test_the_document_is_well_formed_and_loads_nothing(document):
    elements = Elements(document)
    assert document.startswith("<!doctype html>")
    assert elements.named("html")[0]["lang"] == "en"
    policy = [meta["content"] for meta in elements.named("meta") if meta.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    for _, attributes in elements.found:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert "url(http" not in document
    assert "@import" not in document


def test_the_document_is_accessible(document):
    elements = Elements(document)
    assert [tag for tag, _ in elements.found if tag in ("h1", "h2", "h3")] == ["h1", "h2", "h2"]
    assert len(elements.named("caption")) == len(elements.named("table")) == 1
    assert all(heading["scope"] == "col" for heading in elements.named("th"))
    assert [svg["aria-label"] for svg in elements.named("svg")] == ["Loss falls"]
    assert [image["alt"] for image in elements.named("img")] == ["A dot"]


def test_ids_are_unique_even_with_the_same_figure_twice():
    twice = Elements(figure(drawing(), "", alt="") + figure(drawing(), "", alt=""))
    groups = [attributes["id"] for tag, attributes in twice.found if tag == "g" and "id" in attributes]
    assert groups == []


def test_figures_take_their_colours_from_the_page():
    svg = figure(drawing(), "", alt="")
    assert "var(--series-1)" in svg
    assert "var(--series-2)" in svg
    assert "var(--ink)" in svg
    assert "font-family" not in svg
    assert "#" not in svg.replace('"#', "").replace("url(#", "")  # no literal colour remains


def test_the_same_figure_gives_the_same_bytes():
    assert figure(drawing(), "", alt="") == figure(drawing(), "", alt="")


def test_only_columns_of_numbers_are_aligned_to_the_right():
    html = table(["a", "b", "c", "d", "e"], [["x", 1, None, True, "2.5 %"], ["1", None, None, False, "-3%"]], "")
    assert [cell.get("class") for cell in Elements(html).named("td")] == [None, "number", None, None, "number"] * 2


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError):
        table(["a", "b"], [["only one"]], "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (2051910, "2,051,910"), (3.0, "3"), (0.0261349, "0.02613"), (12345.678, "12,345.7"), (65.8, "65.8"),
     (float("nan"), "nan"), (float("inf"), "inf"), (1e-7, "1e-07")],
)  # fmt: skip
def test_numbers_are_shown_for_people(value, shown):
    assert number(value) == shown


def test_missing_values_and_words_are_shown_as_they_are():
    assert "<dd>–</dd>" in facts({"champion": None})
    assert "<dd>True</dd>" in facts({"known": True})


def test_matplotlib_is_imported_only_where_something_is_drawn():
    code = "import sys, components.shared.report.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
