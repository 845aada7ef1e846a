"""The YAML of profiles and schedules: text, numbers, booleans, lists, and mappings whose keys are text.

Beyond PyYAML's safe loader, it refuses duplicate keys, keys that are not text, and tags without a JSON value. A date is
text. Every message names the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from components.shared.base.failure import ExitCode, Failure, first_line
from components.shared.base.ranges import is_text, safe_repr

_TAG = "tag:yaml.org,2002:"
_KINDS = {
    f"{_TAG}int": "a number",
    f"{_TAG}float": "a number",
    f"{_TAG}bool": "a boolean",
    f"{_TAG}null": "nothing",
}
_PLAIN = {f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")}
_MERGE = f"{_TAG}merge"
_MAX_VALUES = 100_000  # nested aliases could make a few lines larger than the memory


class InvalidYaml(ValueError):
    """A text is not valid YAML for a profile or a schedule. The message names the problem and the line."""


class Lines(dict[str, Any]):
    """A mapping that knows the line of each key.

    Attributes:
        lines: the line numbers by key, which start at 1. A key that was set later has no line.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}

    def __setitem__(self, key: str, value: Any) -> None:
        self.lines.pop(key, None)
        super().__setitem__(key, value)

    def rename(self, old: str, new: str) -> None:
        """Gives a value another key, which keeps the line of the old one."""
        line = self.lines.pop(old)
        self[new] = self.pop(old)
        self.lines[new] = line


def line_of(values: Any, path: tuple[Any, ...]) -> int | None:
    """The line of the last key of a path; None if the value does not come from a file."""
    line = None
    for key in path:
        if not isinstance(values, Lines) or key not in values.lines or key not in values:
            return None
        line, values = values.lines[key], values[key]
    return line


def read_yaml(path: Path, what: str) -> Lines:
    """Reads the mapping in a file.

    Args:
        path: the file, UTF-8.
        what: the kind of file for messages, such as "profile".

    Raises:
        FileNotFoundError: the file does not exist.
        Failure: the file cannot be read, or is not a YAML mapping.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        raise _unreadable(f"The {what} is a folder", path, "name a YAML file") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"The {what} is not UTF-8: byte 0x{error.object[error.start]:02x} in line {line}"
        raise _unreadable(found, path, "save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        reason = getattr(error, "strerror", None) or str(error)
        raise _unreadable(f"The {what} cannot be read: {reason}", path, "name a YAML file that can") from None
    try:
        values = parse_yaml(text)
    except InvalidYaml as error:
        raise _unreadable(f"The {what} is not valid YAML: {error}", path, "correct that line") from None
    if not isinstance(values, Lines):
        raise _unreadable(f"The {what} is not YAML with keys", path, "write each setting as `key: value`")
    return values


def parse_yaml(text: str) -> Any:
    """Parses a value.

    Raises:
        InvalidYaml: the text is not valid.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InvalidYaml(f"the character U+{ord(text[error.position]):04X} must not stand in line {line}") from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        if problem and problem.startswith("but "):
            problem = f"{error.context} {problem}"  # type: ignore[attr-defined]
        raise InvalidYaml(
            f"{problem} in line {mark.line + 1}" if mark and problem else first_line(error, type(error).__name__)
        ) from None
    except RecursionError:
        raise InvalidYaml("it is nested too deeply") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with fewer tags."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _PLAIN | {_MERGE}]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar[dict[str, Any]] = {
        tag: constructor for tag, constructor in yaml.SafeLoader.yaml_constructors.items() if tag in _PLAIN
    }

    def __init__(self, text: str):
        super().__init__(text)
        self.open_anchors: list[str | None] = []

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _size(node, {}) > _MAX_VALUES:
            raise _problem(f"more than {_MAX_VALUES:,} values begin", node)
        return node

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent) and self.peek_event().anchor in self.open_anchors:
            raise _problem("an alias means what it is a part of", self.peek_event())
        return super().compose_node(parent, index)

    def compose_sequence_node(self, anchor: str | None) -> yaml.SequenceNode:
        self.open_anchors.append(anchor)
        node = super().compose_sequence_node(anchor)
        self.open_anchors.pop()
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """Checks the keys before merge keys add those of other mappings."""
        self.open_anchors.append(anchor)
        node = super().compose_mapping_node(anchor)
        self.open_anchors.pop()
        first: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_TAG}str":
                if isinstance(key, yaml.ScalarNode):
                    kind = _KINDS.get(key.tag, "no text")
                    raise _problem(f"the key {safe_repr(key.value)} is {kind} and needs quotes", key)
                raise _problem("a key is a list or a mapping and must be text", key)
            if key.value in first:
                raise _problem(f"the key {key.value} of line {first[key.value]} comes again", key)
            first[key.value] = key.start_mark.line + 1
        return node

    def construct_yaml_map(self, node: yaml.MappingNode) -> Iterator[Lines]:
        data = Lines()
        yield data
        data.update(self.construct_mapping(node))
        data.lines = {key.value: key.start_mark.line + 1 for key, _ in node.value}  # includes those of a merge

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep=deep)  # type: ignore[no-untyped-call]
        except (ValueError, LookupError, AttributeError, TypeError):
            # Such as `!!int x`, or a number of more digits than Python reads.
            kind = _KINDS.get(node.tag, node.tag.replace(_TAG, "!!"))
            raise _problem(f"the value {safe_repr(node.value)} cannot be read as {kind}", node) from None
        if isinstance(value, str) and not is_text(value):
            raise _problem(f"the text {safe_repr(value)} contains a character that is not valid in text", node)
        return value

    def refuse_tag(self, node: yaml.Node) -> Any:
        raise _problem(f"the tag {node.tag.replace(_TAG, '!!')} is not known here, which is used", node)


_Loader.add_constructor(f"{_TAG}map", _Loader.construct_yaml_map)
_Loader.add_constructor(None, _Loader.refuse_tag)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values below a node. A value that aliases repeat counts each time."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        inner = [each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_size(each, known) for each in inner)
    return known[id(node)]


def _problem(what: str, at: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, what, at.start_mark)


def _unreadable(what: str, path: Path, remedy: str) -> Failure:
    return Failure(what, where=str(path)[:300], remedy=remedy, exit_code=ExitCode.USAGE)
