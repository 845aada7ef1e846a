"""The digest of code depends only on code that can change a result."""

import pytest

from components.shared.reuse.code import _digest, code_of, meaning

SOURCE = '''"""A module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from components.shared.base.events import emit

if TYPE_CHECKING:
    from torch import Tensor


class Loss:
    """A loss."""

    scale: float = 2.0

    def of(self, values: Tensor, *, power: int = 2) -> Tensor:
        """The loss.

        Raises:
            Failure: it is negative.
        """
        # Once more.
        loss = (values**power).sum() * self.scale
        if loss < 0:
            raise Failure(f"The loss is {loss}", where="here", remedy="lower it")
        return loss


def run(values):
    emit("note", text="on we go")
    return Loss().of(values)
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# Once more.", "# Twice more, and for another reason."),
        ("        # Once more.\n", "\n\n"),
        ('"""A module."""', '"""Another module."""'),
        ('    """A loss."""\n', ""),
        ("        Raises:\n            Failure: it is negative.\n", ""),
        ("(values**power).sum() * self.scale", "((values ** power).sum()) * (self.scale)"),
        ("values: Tensor, *, power: int = 2) -> Tensor", "values, *, power=2)"),
        ("    from torch import Tensor", "    from torch import Tensor, nn"),
        ('"The loss is {loss}"', '"This loss cannot be: {loss:.3f}"'),
        ('remedy="lower it"', 'remedy="raise it", exit_code=2'),
        ('    emit("note", text="on we go")\n', ""),
        ('text="on we go"', 'text="let us go", step=7'),
        ("from components.shared.base.events import emit\n", ""),
        ("    return Loss().of(values)", "    print(values)\n    return Loss().of(values)"),
        (
            "        return loss",
            '        if loss > self.scale:\n            emit("note", text="large")\n        return loss',
        ),
    ],
)
def test_irrelevant_edits_keep_the_digest(old, new):
    assert old in SOURCE
    assert meaning(SOURCE.replace(old, new)) == meaning(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("scale: float = 2.0", "scale: float = 2"),
        ("scale: float = 2.0", "scale: int = 2.0"),  # pydantic converts by the annotation of a field
        ("power: int = 2", "power: int = 3"),
        ("*, power", "power"),
        (".sum()", ".mean()"),
        ("values**power", "values*power"),
        ("if loss < 0", "if loss <= 0"),
        ("raise Failure(", "raise Interrupted("),
        ("import torch\n", "import numpy as torch\n"),
        ("    return Loss().of(values)", "    return Loss().of(-values)"),
        ("class Loss:", "@final\nclass Loss:"),
        ("        return loss", "        if self.fix(loss):\n            pass\n        return loss"),
    ],
)
def test_relevant_edits_change_the_digest(old, new):
    assert old in SOURCE
    assert meaning(SOURCE.replace(old, new)) != meaning(SOURCE)


def test_the_text_is_the_same_in_every_python():
    """Later releases added fields to nodes, such as `type_params`, and changed the output of `ast.dump`."""
    assert meaning("def f(x: int = 1) -> int:\n    'd'\n    return x\n") == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='x',)]defaults=[Constant(value=1,)])"
        "body=[Return(value=Name(id='x',))])])"
    )


def test_the_digest_depends_on_the_names_of_modules_and_not_on_their_order(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    assert code_of("a.py", "b.py", root=tmp_path) == code_of("b.py", "a.py", root=tmp_path)
    assert code_of("a.py", "b.py", root=tmp_path) != code_of("a.py", "c.py", root=tmp_path)


def test_a_process_reads_the_source_once(tmp_path):
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "a.py").write_text("x = 1\n")
    before = _digest.cache_info()
    assert code_of("step", root=tmp_path) == code_of("step", root=tmp_path)
    after = _digest.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 1)
