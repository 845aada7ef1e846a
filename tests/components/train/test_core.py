"""The core trains where there is torch, transformers and numpy, and nothing of the pipeline."""

import subprocess
import sys


def test_the_core_loads_nothing_of_the_pipeline() -> None:
    program = "import sys, components.train.loop, components.train.job; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "kfp", "mlflow", "peft"} & set(loaded)
    assert "components.shared.store_s3" not in loaded


def test_the_settings_load_nothing_at_all() -> None:
    program = "import sys, components.train.settings; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "transformers"} & set(loaded)
