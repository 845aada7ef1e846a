import os
import subprocess
import sys

from components.shared.model.hardware import cores_granted


def test_the_cores_are_limited_by_affinity_and_quota() -> None:
    program = "from components.shared.model.hardware import cores_granted; print(cores_granted())"
    one = {next(iter(os.sched_getaffinity(0)))}
    kept = os.sched_getaffinity(0)
    os.sched_setaffinity(0, one)
    try:
        seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    finally:
        os.sched_setaffinity(0, kept)
    assert int(seen) == 1
    assert 1 <= cores_granted() <= len(kept)


def test_freed_memory_stays_with_the_process() -> None:
    program = """
import mmap, resource, sys
from components.shared.model.hardware import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def step():
    return bytearray(b"x") * (1 << 25)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * mmap.PAGESIZE)
"""
    asked = {
        how: int(subprocess.run([sys.executable, "-c", program, how], capture_output=True, check=True).stdout)
        for how in ("keep", "give back")
    }
    assert asked["keep"] < 2**25 < asked["give back"]
