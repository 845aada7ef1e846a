"""Reports for people: one HTML file that needs no network and no script, light and dark, on a screen and on paper.

The functions below compose a report. Each returns `Html`, by a macro of templates/report.html, and every other value is
escaped, because titles and samples come from an unknown corpus.

    with plots("Loss") as [axes]:
        axes.plot(steps, losses)
    page("Evaluation", "of wikigpt 7", [section("Training", figure(axes, "Loss by step", alt="It falls to 3.2"))])
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO, StringIO
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup as Html

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Tone = Literal["good", "warn", "bad", "plain"]

# matplotlib does not know CSS variables: it draws in these colours, and `figure` replaces them by the variables.
_STAND_IN = {
    "ink": "#010f01", "muted": "#010f02", "line": "#010f03", "paper": "#010f04",
    "series-1": "#010f05", "series-2": "#010f06", "series-3": "#010f07", "series-4": "#010f08",
    "good": "#010f09", "warn": "#010f0a", "bad": "#010f0b",
}  # fmt: skip
INK, MUTED, LINE = _STAND_IN["ink"], _STAND_IN["muted"], _STAND_IN["line"]
GOOD, WARN, BAD = _STAND_IN["good"], _STAND_IN["warn"], _STAND_IN["bad"]
SERIES = tuple(_STAND_IN[f"series-{number}"] for number in (1, 2, 3, 4))

_WIDTH = 9.0  # of a figure on the page, in inches
_LARGE = 1e9  # from this value on, a number is shown with an exponent

TEMPLATES = Path(__file__).parent / "templates"
# If a text ever gets past the escaping, it cannot load anything or run a script.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, subtitle: str, sections: Iterable[Html], *, verdict: Html | None = None, footer: str = "") -> str:
    """The whole document; `verdict` is a badge above the title."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return _render("page", title, subtitle, _join(sections), verdict, footer, style, _POLICY)


def section(heading: str, *parts: Html, level: Literal[2, 3] = 2) -> Html:
    """A heading and the parts below it."""
    return _render("section", heading, _join(parts), level)


def prose(text: str) -> Html:
    """Paragraphs; a blank line ends one."""
    return _render("prose", re.split(r"\n\s*\n", text.strip()))


def facts(values: Mapping[str, Any]) -> Html:
    """Names and values as a grid of small panels."""
    return _render("facts", values)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str) -> Html:
    """A table; a column that holds only numbers or percentages is aligned to the right."""
    cells_of = list(zip(columns, *rows, strict=True))
    numeric = [any(cell is not None for cell in cells) and all(map(_reads_as_number, cells)) for _, *cells in cells_of]
    return _render("table", columns, rows, numeric, caption)


def badge(word: str, tone: Tone) -> Html:
    """A verdict as one word and a colour."""
    return _render("badge", word, tone)


def sample(text: str, *, prompt: str = "", note: str = "") -> Html:
    """A text with its white space, after `prompt` in bold and above `note`."""
    return _render("sample", text, prompt, note)


def details(summary: str, *parts: Html) -> Html:
    """Parts that are hidden until the reader opens them."""
    return _render("details", summary, _join(parts))


@contextmanager
def plots(*titles: str, height: float = 3.0, light: bool = False) -> Iterator[list[Axes]]:
    """Axes side by side in one figure of matplotlib, in the style of the report. Draw on them inside the block.

    The height is in inches. Use only the colours `SERIES`, `INK`, `MUTED`, `GOOD` and so on, because
    they change with the theme of the page; with `light`, those of `light_colours`. Pass a text of the corpus through
    `plain_text`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    colours = light_colours() if light else {}
    with matplotlib.rc_context(_style(colours)):
        drawn = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = list(drawn.subplots(1, len(titles), squeeze=False)[0])
        for each, title in zip(axes, titles, strict=True):
            each.set_title(title, loc="left", color=colours.get(INK, INK))
        yield axes


def figure(drawing: Axes | Figure | bytes | Html, caption: str, *, alt: str) -> Html:
    """A picture: axes or a figure of matplotlib, the bytes of a PNG, or SVG.

    Args:
        drawing: the picture; one of matplotlib becomes SVG in the colours of the page.
        caption: the text below the picture.
        alt: a description for readers who do not see the picture.
    """
    if isinstance(drawing, bytes):
        picture = _render("image", base64.b64encode(drawing).decode(), alt)
    else:
        svg = drawing if isinstance(drawing, Html) else _svg(drawing)
        picture = Html(str(svg).replace("<svg ", _render("labelled", alt), 1))
    return _render("figure", picture, caption)


@cache
def light_colours() -> dict[str, str]:
    """The colours of the light theme by the constants above, for a picture that is a file of its own."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8").partition("@media")[0]
    return {stand_in: re.findall(rf"--{name}: (#[0-9a-f]+);", style)[0] for name, stand_in in _STAND_IN.items()}


def picture_file(drawing: Axes, kind: Literal["png", "svg"]) -> bytes:
    """The content of a file with a picture that was drawn with `plots(light=True)`."""
    import matplotlib

    stream, drawn = BytesIO(), drawing.get_figure()
    with matplotlib.rc_context(_style(light_colours())):
        paper, metadata = light_colours()[_STAND_IN["paper"]], {"Date": None} if kind == "svg" else None
        drawn.savefig(stream, format=kind, dpi=100, facecolor=paper, metadata=metadata)  # type: ignore[union-attr]
    return stream.getvalue()


def plain_text(text: str) -> str:
    """A text of the corpus for a picture, where `$` would begin a formula."""
    return text.replace("$", r"\$")


def logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """Makes an axis logarithmic, and labels it with as many whole numbers as fit."""
    axis = axes.xaxis if which == "x" else axes.yaxis

    def between(value: float, _: object) -> str:
        low, high = axis.get_view_interval()
        shown = "123456789" if high < 10 * low else "235" if high < 50 * low else "25"
        return whole(value) if str(value)[0] in shown else ""

    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_formatter(lambda value, _: whole(value))
    axis.set_minor_formatter(between)
    axes.tick_params(axis=which, which="both", colors=MUTED, length=0)


def number(value: float | int) -> str:
    """A number for people: with a thousands separator and about four significant digits, short enough for a table."""
    if isinstance(value, int) or (abs(value) < _LARGE and value == int(value)):
        return f"{int(value):,}"
    return f"{value:,.1f}" if 1000 <= abs(value) < _LARGE else f"{value:.4g}"


def whole(value: float) -> str:
    """A number for the axis of a picture, with few digits."""
    return f"{value:,.0f}" if abs(value) < _LARGE else f"{value:.0e}".replace("e+", "e")


def _svg(drawing: Axes | Figure) -> str:
    import matplotlib

    stream = StringIO()
    drawn = drawing if hasattr(drawing, "savefig") else drawing.get_figure()
    with matplotlib.rc_context(_style()):  # ticks are created and styled when the figure is saved
        drawn.savefig(stream, format="svg", transparent=True, metadata={"Date": None})  # type: ignore[union-attr]
    svg = stream.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", svg))
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # every figure has the same ids, and an id must be unique in a page
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)  # the typeface of the page applies
    for name, stand_in in _STAND_IN.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    return svg


def _style(colours: Mapping[str, str] | None = None) -> Any:
    from cycler import cycler

    ink, muted, line, *series = ((colours or {}).get(name, name) for name in (INK, MUTED, LINE, *SERIES))
    return {
        "axes.edgecolor": line, "axes.facecolor": "none", "axes.grid": True, "axes.grid.axis": "y",
        "axes.axisbelow": True, "axes.labelcolor": muted, "axes.prop_cycle": cycler(color=series),
        "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False,
        "axes.titlesize": 9, "figure.facecolor": "none", "font.size": 8, "grid.color": line, "grid.linewidth": 0.6,
        "legend.frameon": False, "legend.labelcolor": ink, "lines.linewidth": 1.6, "patch.linewidth": 0,
        "svg.fonttype": "none", "svg.hashsalt": "report", "text.color": ink, "xtick.color": muted,
        "ytick.color": muted, "ytick.major.size": 0,
    }  # fmt: skip


def _join(parts: Iterable[Html]) -> Html:
    return Html("").join(parts)


@cache
def _macros() -> Any:
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    return environment.from_string((TEMPLATES / "report.html").read_text(encoding="utf-8")).module


def _render(macro: str, *arguments: Any) -> Html:
    return getattr(_macros(), macro)(*arguments)


def _shown(value: Any) -> Any:
    """A value as people read it, before it is escaped."""
    if value is None:
        return "–"
    return number(value) if _is_number(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _reads_as_number(value: Any) -> bool:
    return value is None or _is_number(value) or re.fullmatch(r"[+−-]?[\d.,]+ ?%", str(value)) is not None
