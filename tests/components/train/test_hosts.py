"""Several machines train one model: two network namespaces stand for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.manifest import read_manifest
from components.train.device import count_processes, numerics_of
from components.train.hosts import Hosts
from components.train.run import run
from tests.components.train.conftest import losses_of, tiny, tiny_step
from tests.components.train.test_together import FINGERPRINT, program_of

TRAIN_JOB = {
    "PET_NNODES": "2",
    "PET_NPROC_PER_NODE": "auto",
    "PET_NODE_RANK": "1",
    "PET_MASTER_ADDR": "job-node-0-0.job",
    "PET_MASTER_PORT": "29400",
}
JOB_SET = {"PET_NNODES": "3", "JOB_COMPLETION_INDEX": "2", "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "4000"}


@pytest.mark.parametrize(
    ("environment", "hosts"),
    [
        ({}, Hosts()),
        ({"PET_NNODES": "1", "PET_NODE_RANK": "0", "MASTER_ADDR": "here"}, Hosts()),
        (TRAIN_JOB, Hosts(2, 1, "job-node-0-0.job:29400")),
        (JOB_SET, Hosts(3, 2, "10.0.0.7:4000")),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "0", "PET_RDZV_ENDPOINT": "job-0:1234"}, Hosts(2, 0, "job-0:1234")),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "0", "MASTER_ADDR": "job-0"}, Hosts(2, 0, "job-0:29500")),
    ],
)
def test_the_machines_are_those_of_the_environment(environment: dict[str, str], hosts: Hosts) -> None:
    assert Hosts.from_environment(environment) == hosts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PET_NNODES": "1:4"}, "PET_NNODES must be a number from 1 to 64, got '1:4'; a training keeps its machines"),
        ({"PET_NODE_RANK": "2"}, "PET_NODE_RANK must be a number from 0 to 1, got '2'"),
        ({"PET_NODE_RANK": ""}, "PET_NODE_RANK is not set, and PET_NNODES asks for several machines"),
        ({"PET_MASTER_ADDR": ""}, "PET_MASTER_ADDR is not set, and PET_NNODES asks for several machines"),
        ({"PET_MASTER_PORT": "tcp"}, "PET_RDZV_ENDPOINT must be address:port, got 'job-node-0-0.job:tcp'"),
    ],
)
def test_a_wrong_environment_is_an_error(change: dict[str, str], message: str) -> None:
    with pytest.raises(Failure) as caught:
        Hosts.from_environment({**TRAIN_JOB, **change})
    assert caught.value.what.startswith(message)
    assert caught.value.exit_code == ExitCode.USAGE


def test_the_launcher_gets_the_machines_and_their_equal_shares() -> None:
    assert Hosts().launcher_options("key", 2) == ["--standalone", "--nproc-per-node=2"]
    assert Hosts.from_environment(TRAIN_JOB).launcher_options("key", 8) == [
        "--nnodes=2",
        "--node-rank=1",
        "--nproc-per-node=4",
        "--rdzv-backend=static",
        "--rdzv-endpoint=job-node-0-0.job:29400",
        "--rdzv-id=key",
    ]


def test_machines_share_processes_but_not_threads() -> None:
    assert count_processes(tiny(), hosts=2) == 2
    assert count_processes(tiny(processes=4), hosts=2) == 4
    with pytest.raises(Failure, match="3 machines cannot share 4 sequences of a micro-batch equally"):
        count_processes(tiny(), hosts=3)
    with pytest.raises(Failure, match="2 machines cannot share 1 processes equally"):
        count_processes(tiny(processes=1), hosts=2)
    cpu = torch.device("cpu")
    numerics = numerics_of(tiny(threads=4), cpu, processes=4, hosts=2)
    assert numerics["threads"] == 2 and numerics["hosts"] == 2
    assert "hosts" not in numerics_of(tiny(threads=4), cpu, processes=4), "one machine keeps its reuse keys"


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Two network namespaces with a cable between them: 10.99.0.1 and 10.99.0.2."""
    names = [f"wikigpt{os.getpid()}-{number}" for number in (1, 2)]
    links = [f"wg{os.getpid()}-{number}" for number in (1, 2)]
    commands = [f"netns add {name}" for name in names]
    commands += [f"link add {links[0]} netns {names[0]} type veth peer name {links[1]} netns {names[1]}"]
    for number, (name, link) in enumerate(zip(names, links, strict=True), 1):
        commands += [f"-n {name} addr add 10.99.0.{number}/24 dev {link}"]
        commands += [f"-n {name} link set {device} up" for device in (link, "lo")]
    try:
        for command in commands:
            done = subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"the kernel or the rights allow no network namespaces: {done.stderr.strip()}")
        yield names
    except FileNotFoundError:
        pytest.skip("network namespaces need the command ip, of the package iproute2")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def processes_in(machine: str) -> list[int]:
    listed = subprocess.run(["ip", "netns", "pids", machine], capture_output=True, text=True, check=True).stdout
    return [int(pid) for pid in listed.split()]


@pytest.mark.slow
def test_two_machines_train_the_curve_of_one_process_and_survive_the_death_of_one(
    here: Path, tokens_dir: Path, machines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    values = {"steps": 60, "evaluate_every": 60, "log_every": 5, "dropout": 0.0}
    run(tiny_step(every=None, **values), "a" * 32, tokens_dir, here / "one")

    def program(model_dir: Path) -> str:
        return (
            "import sys\nfrom components.shared.base.failure import Failure\n"
            f"try:\n    {program_of({'every': 1, **values}, tokens_dir, model_dir)}\n"
            "except Failure as failure:\n    print(failure, file=sys.stderr)\n    sys.exit(int(failure.exit_code))"
        )

    def start() -> list[subprocess.Popen[bytes]]:
        return [
            subprocess.Popen(
                ["ip", "netns", "exec", name, sys.executable, "-c", program(here / f"model-{rank}")],
                env={**os.environ, **TRAIN_JOB, "PET_NODE_RANK": str(rank), "PET_MASTER_ADDR": "10.99.0.1"}
                | {"GLOO_SOCKET_IFNAME": f"wg{os.getpid()}-{rank + 1}"},
            )
            for rank, name in enumerate(machines)
        ]

    steps = [start()]
    step = tiny_step()
    try:
        wait_until(lambda: len(step.store.names("checkpoint", FINGERPRINT)) > 1, steps[0])
        for pid in processes_in(machines[1]):
            os.kill(pid, signal.SIGKILL)
        assert steps[0][0].wait(30) == ExitCode.RESUMABLE
        assert not processes_in(machines[0])
        left = int(step.store.names("checkpoint", FINGERPRINT)[-1][-8:])
        assert 0 < left < 60
        assert not (here / "model-0" / "model.safetensors").exists()
        steps.append(start())
        assert [process.wait(120) for process in steps[1]] == [0, 0]
    finally:
        for process in [each for started in steps for each in started]:
            process.kill()
            process.wait()
    assert losses_of(here / "model-0") == pytest.approx(losses_of(here / "one"), rel=1e-4)
    numerics = read_manifest(here / "model-0", "model").metadata["numerics"]
    assert (numerics["hosts"], numerics["processes"]) == (2, 2)
    assert not (here / "model-1").exists(), "only the first machine writes the model"
    assert len(step.store.names("model")) == 2, "and only that of each training is published"


def wait_until(done: Callable[[], bool], processes: list[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end and all(process.poll() is None for process in processes)
        time.sleep(0.02)
