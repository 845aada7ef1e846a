"""The rules for the layout of the code, enforced by examining the source."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STEPS = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))
# All packages from the bottom up: a module imports from its own package and from those in earlier rows.
LEVELS = (
    {"components.shared.base"},
    {"components.shared.report", "components.shared.text"},
    {"components.shared.storage"},
    {"components.shared.tracking"},
    {"components.shared.runtime"},
    {"components.shared.reuse"},
    {"components.shared.model"},
    {"components.shared.signing"},
    {f"components.{step}" for step in STEPS},
    {"pipelines.planned_changes", "pipelines.steps"},
    {"pipelines.config"},
    {f"components.{step}.component" for step in STEPS},  # the KFP interfaces, which compose the settings of a run
    {"pipelines.training"},
    {"pipelines.sweep"},
    {"pipelines.cluster", "pipelines.registry"},
    {"pipelines.local"},
    {"pipelines.serving"},
    {"pipelines.cli"},
)
# The storage package from the bottom up: a module imports from the rows before its own.
STORAGE = (
    {"aws_variables", "files", "s3_errors"},
    {"objects", "manifest"},
    {"local", "s3_transfer"},
    {"s3"},
    {"s3_files", "store"},
    {"lock"},
)
MOST_LINES = 8


def imports_of(path: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def import_graph() -> dict[str, set[str]]:
    """The modules of the project that each module imports, also within a function or for the type checker."""
    paths = {module_of(path): path for path in [*sources("components"), *sources("pipelines")]}
    modules = {name for name, path in paths.items() if path.name != "__init__.py"}
    graph = {}
    for module, path in paths.items():
        froms = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        names = imports_of(path) | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
        graph[module] = names & modules
    return graph


def level_of(module: str) -> tuple[int, str]:
    """The row of the innermost package that a module is in, and the package."""
    found = [(row, name) for row, packages in enumerate(LEVELS) for name in packages if within(module, name)]
    assert found, f"{module} is in none of LEVELS"
    return max(found, key=lambda each: len(each[1]))


def test_there_are_the_seven_steps_of_a_run_and_that_of_a_sweep():
    assert STEPS == ["download", "evaluate", "notify", "register", "sweep", "tokenize", "train", "validate"]


@pytest.mark.parametrize("step", STEPS)
def test_a_component_is_a_skin(step):
    tree = ast.parse((ROOT / "components" / step / "component.py").read_text())
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    docstring, *body = function.body
    assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)
    lines = {line for node in body for line in range(node.lineno, node.end_lineno + 1)}
    assert len(lines) <= MOST_LINES


@pytest.mark.parametrize("step", STEPS)
def test_no_step_imports_another_and_only_the_skin_imports_kfp(step):
    for path in sources(f"components/{step}"):
        names = imports_of(path)
        for other in set(STEPS) - {step}:
            assert not any(within(name, f"components.{other}") for name in names), path
        assert path.name == "component.py" or not any(within(name, "kfp") for name in names), path


def test_each_package_imports_downwards():
    for module, imported in import_graph().items():
        for name in imported:
            (row, package), (below, other) = level_of(module), level_of(name)
            assert below < row or other == package, f"{module} imports {name}, which is on no lower level"


def test_no_import_closes_a_circle():
    """An import within a function is for start-up time: each could be at the top of its module."""
    assert list(TopologicalSorter(import_graph()).static_order())


def test_the_storage_package_imports_downwards_and_hides_no_import_in_a_function():
    package = "components.shared.storage"
    below = {f"components.shared.base.{name}" for name in ("address", "failure", "os_errors", "ranges")}
    rows = {f"{package}.{name}": row for row, names in enumerate(STORAGE) for name in names}
    modules = {f"{package}.{path.stem}": path for path in sources("components/shared/storage") if path.stem[0] != "_"}
    assert modules.keys() == rows.keys()
    for module, path in modules.items():
        tree = ast.parse(path.read_text())
        everywhere = {name for name in imports_of(path) if within(name, "components")}
        at_the_top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert everywhere <= at_the_top, path
        assert all(name in below or rows[name] < rows[module] for name in everywhere), path


def test_nothing_but_the_storage_package_looks_below_the_store():
    """Only the store knows where objects are in object storage."""
    for path in [*sources("components"), *sources("pipelines")]:
        if ROOT / "components/shared/storage" in path.parents:
            continue
        below = [
            n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute) and n.attr == "objects"
        ]
        assert not below, path


def test_the_core_of_training_needs_torch_transformers_and_numpy_only():
    """`run.py` and `reporter.py` connect it with the rest; adapters need peft; the rest runs on any GPU machine."""
    allowed = {
        *sys.stdlib_module_names,
        "torch",
        "transformers",
        "numpy",
        "safetensors",
        "tokenizers",
        "huggingface_hub",
    }
    for path in sources("components/train"):
        if path.name in ("component.py", "run.py", "reporter.py"):
            continue
        foreign = {name.partition(".")[0] for name in imports_of(path)} - allowed - {"components"}
        assert foreign <= ({"peft"} if path.name == "adapters.py" else set()), path


def test_no_code_of_a_model_is_run_and_its_weights_are_safetensors():
    """Left out, `trust_remote_code` makes transformers ask the person at the terminal."""
    calls = [
        (path, node.func.value.id, {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords})
        for path in [*sources("components"), *sources("pipelines")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
        if node.func.attr == "from_pretrained" and node.func.value.id.startswith("Auto")
    ]
    assert len(calls) > 5
    for path, kind, given in calls:
        assert given.get("trust_remote_code") is False, path
        assert kind in ("AutoConfig", "AutoTokenizer") or given.get("use_safetensors") is True, path


def opens_text(call: ast.Call) -> bool:
    """Whether a call reads or writes text, with or without an explicit encoding."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in ("run", "Popen", "check_output"):
        return any(flag in given for flag in ("text", "universal_newlines"))
    if name in ("read_text", "write_text"):
        return True
    if name not in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
        return False
    if mode := [*call.args[1:2], *(value for key, value in given.items() if key == "mode")]:
        modes = [node.value for node in ast.walk(mode[0]) if isinstance(node, ast.Constant)]
        return any(re.fullmatch(r"[rwax]\+?t?\+?", str(value)) for value in modes)
    return isinstance(call.func, ast.Name) or name == "fdopen"  # open of gzip, zipfile and tarfile is binary by default


@pytest.mark.parametrize("folder", ["components", "pipelines", "docker", "docs", "infra"])
def test_text_is_read_and_written_as_utf_8(folder):
    """Without an explicit encoding it is that of the locale; `pipelines.config.utf8` handles the calls of libraries."""
    for path in sources(folder):
        for call in (
            node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ):
            named = any(keyword.arg == "encoding" for keyword in call.keywords)
            assert named or not opens_text(call), f"{path}:{call.lineno} names no encoding"


@pytest.mark.parametrize("folder", ["components", "pipelines", "docker", "docs", "infra"])
def test_what_another_program_prints_need_not_be_utf_8(folder):
    """Its messages are in the encoding of the locale, such as those of git outside a checkout."""
    for path in sources(folder):
        for call in (
            node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ):
            given = {keyword.arg for keyword in call.keywords}
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            reads = name in ("run", "Popen", "check_output") and "encoding" in given
            assert not reads or "errors" in given, f"{path}:{call.lineno} fails on another encoding"


def test_nothing_heavy_is_imported_by_the_command():
    """Every command waits for the imports of the command line, and would become slower by a second."""
    code = "import sys, pipelines.cli.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "torch",
        "transformers",
        "mlflow",
        "kfp",
        "great_expectations",
        "datasets",
        "boto3",
        "pandas",
        "matplotlib",
    }
    assert not heavy & set(loaded)


def test_compiling_reads_no_environment_and_needs_no_torch():
    code = "import sys; from pipelines.training import *; build(RunParameters(), TrainPod(0, 2)); print(*sys.modules)"
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert not {"torch", "mlflow", "boto3"} & set(done.stdout.split())
