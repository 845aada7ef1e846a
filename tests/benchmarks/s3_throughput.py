"""MB/s of the store against plain boto3, in turn on one server.

    python -m tests.benchmarks.s3_throughput [--megabytes 200] [--rounds 3] [--uri s3://bucket/prefix]

Without an address it takes the server of WIKIGPT_TEST_S3_…, else an emulator. The store compares the sha256 of all that
it moves; boto3's `upload_file` and `download_file` do not.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from components.shared.storage.files import FileFact, file_fact
from components.shared.storage.s3 import S3Objects
from tests.benchmarks import record
from tests.s3_servers import emulator, environment, make_bucket

_BUCKET = "wikigpt-benchmark"


def main() -> None:
    """Prints a line for each way and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uri")
    record.add_options(parser)
    options = parser.parse_args()
    recorder = record.Recorder(options, "s3_throughput", "Throughput of the store beside boto3", ["boto3"])
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        objects = S3Objects(options.uri or _served(stack, work))
        print(f"{options.megabytes} MB, median of {options.rounds} rounds, {objects.client.meta.endpoint_url}")
        values = compare(objects, work, options.megabytes * 1_000_000, options.rounds)
    for name, rate in values["megabytes_per_second"].items():
        print(f"{name:20} {rate:8.1f} MB/s")
    for way, ratio in values["ratio"].items():
        print(f"{way:20} {ratio:8.2f} of plain boto3")
    recorder.save({"megabytes": options.megabytes, "rounds": options.rounds, **values})


def compare(objects: S3Objects, work: Path, size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Moves a file of random bytes up and down by both ways, in turn; the median rates, and their ratios."""
    source, fact = work / "source", _random_file(work / "source", size)
    key = f"benchmark/{uuid4().hex}"
    plain, bucket, there = objects.client, objects.bucket, f"{objects.prefix}{key}"
    ways: dict[str, Callable[[], object]] = {
        "boto3 upload_file": lambda: plain.upload_file(str(source), bucket, f"{there}-plain"),
        "store upload": lambda: objects.upload(key, source, fact),
        "boto3 download_file": lambda: plain.download_file(bucket, f"{there}-plain", str(work / "plain")),
        "store download": lambda: objects.download(key, work / "verified", fact),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    for used in (key, f"{key}-plain"):
        objects.delete(used)
    rates = {name: round(size / 1e6 / statistics.median(taken), 1) for name, taken in seconds.items()}
    ratio = {way: round(rates[f"store {way}"] / rates[f"boto3 {way}_file"], 2) for way in ("upload", "download")}
    return {"megabytes_per_second": rates, "ratio": ratio}


def _random_file(path: Path, size: int) -> FileFact:
    with open(path, "wb") as stream:
        while size:
            size -= stream.write(os.urandom(min(size, 1 << 20)))
    return file_fact(path)


def _served(stack: ExitStack, work: Path) -> str:
    names = ("ENDPOINT", "REGION", "KEY", "SECRET")
    values = [os.environ.get(f"WIKIGPT_TEST_S3_{name}", "") for name in names]
    if not all(values):
        values = [stack.enter_context(emulator(work)), "us-east-1", "benchmark", "benchmark"]
    env = environment(*values)
    os.environ.update(env)
    make_bucket(_BUCKET, env)
    return f"s3://{_BUCKET}"


if __name__ == "__main__":
    main()
