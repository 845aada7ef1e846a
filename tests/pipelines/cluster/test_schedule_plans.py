"""`wikigpt schedule apply --plan` prints the changes that the command applies, in every state of the server."""

import random

import pytest

from pipelines.cluster.access import Access
from pipelines.cluster.connection import connect
from pipelines.cluster.cron import parse
from pipelines.cluster.recurring import pause, plan_schedules, recurring_runs
from pipelines.cluster.schedules import Schedule
from pipelines.cluster.submission import Package
from pipelines.planned_changes import apply_changes, descriptions

NAMES = ("nightly", "weekly", "hourly")
VERBS = ("create", "upload", "enable", "delete")


def drawn(draw, ir):
    """Some schedules, each with the package of its runs."""
    chosen = []
    for name in draw.sample(NAMES, draw.randint(0, 3)):
        cron = parse(draw.choice(["0 0 2 * * *", "0 0 3 * * *"]))
        parameters = draw.choice([{"profile": "nightly"}, {"profile": "nightly", "seed": 7}])
        compiled = ir.read_bytes() + draw.choice([b"", b"# another\n"])
        chosen.append((Schedule(name, cron, "nightly"), Package(compiled, parameters, "wikigpt", "nightly")))
    return chosen


def changes_of(plans):
    return [change for plan in plans for change in plan.changes]


@pytest.mark.parametrize("seed", range(10))
def test_what_apply_plans_is_what_it_applies(stand_in, ir, seed):
    draw = random.Random(seed)
    cluster = connect(Access(endpoint=stand_in.url, timeout=5))
    for _ in range(draw.randint(0, 2)):  # the schedules that were applied before
        apply_changes(changes_of(plan_schedules(cluster, drawn(draw, ir))))
    for run in recurring_runs(cluster):
        if draw.random() < 0.3:
            pause(cluster, run.display_name)
    if draw.random() < 0.3:
        stand_in.state.health["tag_name"] = "2.18.0"
        cluster = connect(Access(endpoint=stand_in.url, timeout=5))
    wanted = drawn(draw, ir)

    before = list(stand_in.changes)
    planned = descriptions(changes_of(plan_schedules(cluster, wanted)))
    assert stand_in.changes == before, "planning changes nothing"
    plans = plan_schedules(cluster, wanted)
    assert descriptions(apply_changes(changes_of(plans)).applied) == planned
    changes = stand_in.changes[len(before) :]
    # Before a recurring run is deleted it is disabled.
    assert len(changes) == len(planned) + sum(line.startswith("delete") for line in planned)
    assert all(line.startswith(VERBS) for line in planned)
    assert descriptions(changes_of(plan_schedules(cluster, wanted))) == [], "applied twice, it changes nothing"
    for plan, (schedule, _) in zip(plans, wanted, strict=True):
        (run,) = recurring_runs(cluster, schedule.name)
        assert (run.status == "DISABLED") == plan.paused
