"""The core, which is `loop.py` and its imports, needs torch, transformers and numpy, and no package of the pipeline."""

import subprocess
import sys

import pytest

CORE = "components.train.loop, components.train.data, components.train.model, components.train.settings"


@pytest.mark.slow
def test_the_core_is_imported_where_nothing_of_the_pipeline_is_installed() -> None:
    absent = ("pydantic", "kfp", "mlflow", "peft", "psutil", "boto3")
    program = f"import sys; sys.modules |= dict.fromkeys({absent}); import {CORE}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"components.shared.storage.store", "components.shared.runtime.step", "components.train.reporter"} & set(
        loaded
    )


def test_the_settings_load_nothing_at_all() -> None:
    program = "import sys, components.train.settings; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "transformers"} & set(loaded)
