"""Compiles the loss of a profile and writes the compile cache to a file, for an image that ships it.

    python -m pipelines.local.compile_cache --profile cpu --set train.precision=float32 -o docker/cpu.compile-cache

It must run on the hardware and in the image for which the cache is made; docs/images.md has the commands. The settings
must be those of the runs, as far as they change the model, the batch, the precision or the threads, for one process. It
needs neither the corpus nor a tokenizer.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure
from pipelines.config.settings import load

if TYPE_CHECKING:
    import torch

    from components.train.data import TrainingData
    from components.train.settings import TrainSettings
    from pipelines.config.settings import RunSettings


def write_compile_cache(settings: RunSettings, file: Path) -> int:
    """Trains one step on random tokens, which compiles the loss, and writes the cache.

    Returns:
        The number of files in the cache.

    Raises:
        Failure: the profile does not compile, or starts from weights, whose shape only they know.
    """
    train_settings = settings.train
    if not train_settings.compile or train_settings.pretrained is not None:
        problem = "does not compile" if not train_settings.compile else "starts from pretrained weights"
        raise Failure(
            f"The profile {settings.profile} {problem}, so no compile cache can be made for it",
            where="train.pretrained" if train_settings.compile else "train.compile",
            remedy="name a profile that compiles a model from scratch, such as cpu or scratch-modern",
            exit_code=ExitCode.USAGE,
        )
    with tempfile.TemporaryDirectory(prefix="wikigpt-compile-") as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        os.environ.pop("TRITON_CACHE_DIR", None)  # so that Triton's files are in the same folder
        from components.train import compile_cache
        from components.train.device import choose_device, prepare
        from components.train.loop import train
        from components.train.model import build_model

        one_step = replace(train_settings, steps=1, epochs=None, tokens=None, init="random")
        device = choose_device(one_step)
        prepare(one_step, device)
        vocab_size = settings.tokenize.vocab_size
        model: torch.nn.Module = build_model(one_step, vocab_size=vocab_size, eos_id=0)
        train(model.to(device), _random_tokens(one_step, vocab_size, device), one_step, steps=1, device=device)
        return compile_cache.pack(file, device)


def _random_tokens(settings: TrainSettings, vocab_size: int, device: torch.device) -> TrainingData:
    """A batch of tokens. Few of them are different, as in text, so that a sampled softmax has room for them."""
    import numpy as np

    from components.train.data import TokenSplit, TrainBatches, TrainingData, ValidationBatches

    length, batch_size = settings.sequence_length, settings.global_batch_size
    count = (batch_size + 2) * length + 1
    tokens = (vocab_size * np.random.default_rng(0).random(count) ** 16).astype(np.int32)
    split = TokenSplit(tokens, np.array([0, count]), None)
    return TrainingData(
        TrainBatches(split, sequence_length=length, batch_size=batch_size, seed=1, device=device),
        ValidationBatches(split, sequence_length=length, limit=length, device=device),
        vocab_size,
    )


def main() -> None:
    """The command. A failure becomes one sentence and an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", required=True, help="a profile, or the path of a YAML file")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.KEY=VALUE")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file that is written")
    options = parser.parse_args()
    try:
        count = write_compile_cache(load(options.profile, options.overrides), options.output)
    except Failure as failure:
        print(failure, file=sys.stderr)
        sys.exit(int(failure.exit_code))
    print(f"{options.output} has the {count} files of the compile cache of {options.profile}")


if __name__ == "__main__":
    main()
