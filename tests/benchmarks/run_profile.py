"""A run of a profile as a user starts it, in a new home: its summary, its perplexities, its seconds.

    python -m tests.benchmarks.run_profile quick --corpus DIR --record docs/benchmarks/run_quick.json

The values of the record are the document that `wikigpt run --json` prints; the pages show it by the function that
prints the summary of a run. Paths are relative to the folder in which the command was started.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks import record


def main() -> None:
    """Prints the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    parser.add_argument("--corpus", type=Path, required=True, help="a folder with a release of WikiText-2")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.KEY=VALUE")
    record.add_options(parser)
    options = parser.parse_args()
    packages = ["torch", "transformers", "mlflow"]
    recorder = record.Recorder(options, "run_profile", f"A run of the profile {options.profile}", packages)
    values = run(options.profile, options.corpus.resolve(), options.overrides)
    print(json.dumps(values, indent=1))
    recorder.save(values)


def run(profile: str, corpus: Path, overrides: list[str]) -> dict[str, Any]:
    """The document of a run in a new folder, with relative paths."""
    command = [
        sys.executable,
        "-m",
        "pipelines.cli.app",
        "run",
        "--profile",
        profile,
        "--corpus",
        str(corpus),
        "--json",
    ]
    command += [word for override in overrides for word in ("--set", override)]
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        if ended.returncode:
            raise SystemExit(ended.returncode)
        return json.loads(ended.stdout.replace(f"{Path(folder).resolve()}/", ""))


if __name__ == "__main__":
    main()
