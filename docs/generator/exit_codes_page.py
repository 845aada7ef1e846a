"""The page of the exit codes, from `ExitCode`."""

from __future__ import annotations

from components.shared.base.failure import ExitCode
from docs.generator.markdown import attributes, code, table

_INTRODUCTION = """# Exit codes

Every command and every step of a run ends with one of these codes. A failure also prints one sentence on stderr that
names the problem, the place and the remedy.
"""


def exit_codes_page() -> str:
    """The page, with the name and the meaning of each code."""
    meanings = attributes(ExitCode.__doc__)
    rows = [[code(str(int(each))), code(each.name), meanings[each.name]] for each in ExitCode]
    return f"{_INTRODUCTION}\n{table(('code', 'name', 'meaning'), rows)}"
