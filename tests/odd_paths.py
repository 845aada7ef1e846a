"""Names of folders that a file system accepts, and that have another meaning in an address, in markup or in a shell."""

from __future__ import annotations

import random

_SIGNS = " %#?&'\"[](){}<>|;:,!$*\\^`~@=+\n\t" + "%20%3F%23%252e" + "äßéœ中文字ไทยहिन्दीعربيРусский🙂" + "abcXYZ019._-"


def odd_names(count: int, *, seed: int) -> list[str]:
    """Random names, equal for equal seeds; none has a special meaning in a path."""
    draw = random.Random(seed)
    names = ("".join(draw.choices(_SIGNS, k=draw.randint(1, 24))) for _ in range(2 * count))
    return [name for name in names if name.strip(".")][:count]
