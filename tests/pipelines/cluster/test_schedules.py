"""Schedules as code: the contents of a file, and the requests that apply it to the server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.access import Access
from pipelines.cluster.connection import connect
from pipelines.cluster.cron import parse
from pipelines.cluster.formatting import schedule_lines
from pipelines.cluster.recurring import SchedulePlan, delete, pause, plan_schedules, resume, trigger
from pipelines.cluster.runs import get_status
from pipelines.cluster.schedule_status import overdue, schedule_statuses
from pipelines.cluster.schedules import Schedule, read_schedule, read_schedules
from pipelines.cluster.submission import Package
from pipelines.cluster.wait import wait
from pipelines.planned_changes import apply_changes
from tests.kfp_stand_in.recorded import recorded
from tests.kfp_stand_in.server import Fault

OURS = Path(__file__).parents[3] / "infra" / "schedules"
NIGHTLY = Schedule("nightly", parse("0 0 2 * * *"), "nightly")
LATER = Schedule("nightly", parse("0 0 3 * * *"), "nightly")


def apply_schedule(cluster, schedule: Schedule, package: Package) -> SchedulePlan:
    """Plans one schedule and applies the plan."""
    (plan,) = plan_schedules(cluster, [(schedule, package)])
    apply_changes(plan.changes)
    return plan


@pytest.fixture
def sent(ir):
    return Package(ir=ir.read_bytes(), parameters={"profile": "nightly"}, service_account="wikigpt", profile="nightly")


@pytest.fixture
def nightly(cluster, stand_in, sent):
    """The schedule on the server."""
    apply_schedule(cluster, NIGHTLY, sent)
    (made,) = stand_in.state.recurring.values()
    return made


def test_our_schedules_can_be_read():
    (schedule,) = read_schedules(OURS)
    assert (schedule.name, schedule.profile, schedule.cron.words) == ("nightly", "nightly", "At 02:00 every day")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cron": "0 2 * * *"}, "has five fields, and Kubeflow Pipelines wants six, seconds first"),
        ({"corn": "0 0 2 * * *"}, "A schedule has no key 'corn' .*did you mean cron?"),
        ({"profile": None}, "The schedule has no profile"),
        ({"name": "Every Night"}, "The schedule cannot be called 'Every Night'"),
        ({"time_zone": "Europe/Atlantis"}, "There is no time zone 'Europe/Atlantis'"),
        ({"time_zone": 2}, "The time zone of the schedule is 2"),
        ({"parameters": ["train.seed=7"]}, "The parameters of the schedule are"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, change, sentence):
    path = tmp_path / "nightly.yaml"
    path.write_text(yaml.safe_dump({"name": "nightly", "cron": "0 0 2 * * *", "profile": "nightly", **change}))
    with pytest.raises(Failure, match=sentence) as caught:
        read_schedule(path)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_time_zone_that_is_left_blank_is_utc(tmp_path):
    path = tmp_path / "nightly.yaml"
    path.write_text('{name: nightly, cron: "0 0 2 * * *", profile: nightly, time_zone: }')
    assert read_schedule(path).cron.time_zone == "UTC"


def test_two_schedules_of_one_name(tmp_path):
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text('{name: nightly, cron: "0 0 2 * * *", profile: nightly}')
    with pytest.raises(Failure, match="Two schedules are called 'nightly'"):
        read_schedules(tmp_path)


def test_settings_of_a_schedule_become_overrides(tmp_path):
    path = tmp_path / "weekly.yaml"
    path.write_text(
        '{name: weekly, cron: "0 0 2 * * SUN", profile: nightly, parameters: {train.seed: 7, download.name: null}}'
    )
    assert read_schedule(path).overrides == ("download.name=null", "train.seed=7")


def test_a_new_schedule(nightly):
    assert nightly["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * *"}}
    assert (nightly["no_catchup"], nightly["max_concurrency"], nightly["mode"]) == (True, "1", "ENABLE")
    assert nightly["runtime_config"]["parameters"] == {"profile": "nightly"}
    assert nightly["service_account"] == "wikigpt"
    assert nightly["description"].startswith(
        "At 02:00 every day (UTC). Profile nightly."
        " Applied by wikigpt to Kubeflow Pipelines 2.17.0 4a3592cb2dd0, content "
    )


def test_applying_twice_changes_nothing(cluster, stand_in, sent, nightly):
    before = len(stand_in.changes)
    applied = apply_schedule(cluster, NIGHTLY, sent)
    assert (applied.action, applied.retired) == ("unchanged", 0)
    assert len(stand_in.changes) == before


@pytest.mark.parametrize("what", ["cron", "parameters", "pipeline"])
def test_a_change_enables_the_new_before_it_retires_the_old(cluster, stand_in, sent, nightly, what):
    start = len(stand_in.requests)
    changed = {
        "cron": (LATER, sent),
        "parameters": (NIGHTLY, Package(sent.ir, {"profile": "nightly", "seed": 7}, "wikigpt", "nightly")),
        "pipeline": (NIGHTLY, Package(sent.ir + b"# new\n", sent.parameters, "wikigpt", "nightly")),
    }[what]
    applied = apply_schedule(cluster, *changed)
    assert (applied.action, applied.retired) == ("replaced", 1)
    (left,) = stand_in.state.recurring.values()
    assert left["recurring_run_id"] != nightly["recurring_run_id"]
    assert left["status"] == "ENABLED"
    done = [name.split("_")[-1] for name in stand_in.requests[start:] if "RecurringRunService" in name]
    assert [name for name in done if not name.startswith("List")] == [
        "CreateRecurringRun",
        "DisableRecurringRun",
        "DeleteRecurringRun",
    ]


@pytest.mark.parametrize("upgrade", [{"tag_name": "2.18.0"}, {"commit_sha": "0123456789ab"}])
def test_an_upgrade_of_the_server_replaces_a_schedule(stand_in, sent, nightly, upgrade):
    """It keeps the launcher and driver images of the day on which it was created."""
    stand_in.state.health.update(upgrade)
    upgraded = connect(Access(endpoint=stand_in.url, timeout=5))
    (before,) = schedule_statuses(upgraded)
    assert before.outdated == (
        "created for Kubeflow Pipelines 2.17.0 4a3592cb2dd0, whose launcher it keeps, but the server is "
        f"{upgraded.version}: apply it again"
    )
    assert "\n".join(schedule_lines(before)).endswith("apply it again")
    assert apply_schedule(upgraded, NIGHTLY, sent).action == "replaced"
    assert [schedule.outdated for schedule in schedule_statuses(upgraded)] == [None]
    assert apply_schedule(upgraded, NIGHTLY, sent).action == "unchanged"


def test_a_schedule_of_an_earlier_release_is_ours_and_is_replaced(cluster, stand_in, sent, nightly):
    """The recorded description, which names no server."""
    nightly["description"] = recorded("rest/recurring-run-get")["description"]
    (seen,) = schedule_statuses(cluster)
    assert seen.outdated.startswith("created for an earlier version of `wikigpt`")
    assert (apply_schedule(cluster, NIGHTLY, sent).action, len(stand_in.state.recurring)) == ("replaced", 1)


def test_a_change_that_fails_leaves_the_old_one(cluster, stand_in, sent, nightly):
    stand_in.faults.append(Fault("error", "CreateRecurringRun", times=9))
    with pytest.raises(Failure, match="answered 500"):
        apply_schedule(cluster, LATER, sent)
    assert stand_in.state.recurring == {nightly["recurring_run_id"]: nightly}
    assert nightly["status"] == "ENABLED"


def test_a_change_that_was_cut_off_in_the_middle_is_finished_by_the_next(cluster, stand_in, sent, nightly):
    stand_in.faults.append(Fault("error", "DisableRecurringRun", times=4))
    with pytest.raises(Failure):
        apply_schedule(cluster, LATER, sent)
    assert len(stand_in.state.recurring) == 2
    assert (apply_schedule(cluster, LATER, sent).retired, len(stand_in.state.recurring)) == (1, 1)


def test_an_answer_that_is_lost_makes_no_second_schedule(cluster, stand_in, sent):
    stand_in.faults.append(Fault("lost", "CreateRecurringRun"))
    assert apply_schedule(cluster, NIGHTLY, sent).action == "created"
    assert len(stand_in.state.recurring) == 1


def test_a_change_back_after_a_cut_leaves_an_enabled_schedule(cluster, stand_in, sent, nightly):
    stand_in.faults.append(Fault("error", "DeleteRecurringRun", times=4))
    with pytest.raises(Failure):
        apply_schedule(cluster, LATER, sent)
    assert nightly["status"] == "DISABLED"
    assert not apply_schedule(cluster, NIGHTLY, sent).paused
    assert list(stand_in.state.recurring.values()) == [nightly]
    assert nightly["status"] == "ENABLED"


@pytest.mark.parametrize("operation", ["DisableRecurringRun", "DeleteRecurringRun"])
def test_an_answer_that_is_lost_while_the_old_schedule_is_deleted(cluster, stand_in, sent, nightly, operation):
    stand_in.faults.append(Fault("lost", operation))
    assert apply_schedule(cluster, LATER, sent).action == "replaced"
    assert len(stand_in.state.recurring) == 1


@pytest.mark.parametrize("change", ["replace", "delete"])
def test_a_run_in_progress_survives_a_change_of_its_schedule(cluster, stand_in, sent, nightly, change):
    """Kubernetes deletes the Workflow of a run with its schedule, unless the Workflow is orphaned."""
    identity = nightly["recurring_run_id"]
    run_id = stand_in.state.add_run("running", "running", "succeeded", recurring_run_id=identity)["run_id"]
    assert get_status(cluster, run_id).state == "RUNNING"
    if change == "replace":
        assert apply_schedule(cluster, LATER, sent).action == "replaced"
    else:
        delete(cluster, "nightly")
    assert identity not in stand_in.state.recurring
    assert wait(cluster, run_id, poll_seconds=0.01, limit=5).state == "SUCCEEDED"


def test_a_deletion_that_does_not_orphan_would_be_noticed(cluster, stand_in, sent, nightly):
    """The default of the API: the status of the run then never changes again."""
    identity = nightly["recurring_run_id"]
    run_id = stand_in.state.add_run("running", "succeeded", recurring_run_id=identity)["run_id"]
    get_status(cluster, run_id)
    cluster.client.recurring_runs.recurring_run_service_delete_recurring_run(recurring_run_id=identity)
    with pytest.raises(Failure, match="The run is not over"):
        wait(cluster, run_id, poll_seconds=0.01, limit=0.1)


def test_a_paused_schedule_stays_paused(cluster, stand_in, sent, nightly):
    pause(cluster, "nightly")
    assert nightly["status"] == "DISABLED"
    assert apply_schedule(cluster, NIGHTLY, sent).paused
    assert apply_schedule(cluster, LATER, sent).paused
    (left,) = stand_in.state.recurring.values()
    assert left["status"] == "DISABLED"
    resume(cluster, "nightly")
    assert left["status"] == "ENABLED"


def test_a_recurring_run_that_somebody_made_by_hand_is_left_alone(cluster, stand_in, sent, nightly):
    by_hand = {**nightly, "recurring_run_id": "by-hand", "description": "mine"}
    stand_in.state.recurring["by-hand"] = by_hand
    apply_schedule(cluster, LATER, sent)
    delete(cluster, "nightly")
    assert stand_in.state.recurring == {"by-hand": by_hand}


def test_a_run_out_of_turn(cluster, stand_in, nightly):
    run = stand_in.state.runs[trigger(cluster, "nightly")]
    assert run["runtime_config"] == nightly["runtime_config"]
    assert run["pipeline_version_reference"] == nightly["pipeline_version_reference"]
    assert run["display_name"].startswith("nightly-")


@pytest.mark.parametrize("verb", [pause, resume, delete, trigger])
def test_an_unknown_schedule(cluster, stand_in, nightly, verb):
    before = len(stand_in.changes)
    with pytest.raises(Failure, match=r"There is no schedule 'nigthly' .*the schedules are nightly") as caught:
        verb(cluster, "nigthly")
    assert caught.value.exit_code is ExitCode.USAGE
    assert len(stand_in.changes) == before


def moment(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-{text}:00+00:00")


@pytest.mark.parametrize(
    ("since", "last", "now", "due"),
    [
        ("20T12:00", "22T02:00", "22T09:00", None),  # the run was started
        ("20T12:00", "21T02:00", "22T09:00", "22T02:00"),  # the last scheduled run did not start
        ("20T12:00", None, "22T09:00", "22T02:00"),  # no run ever started
        ("22T08:00", None, "22T09:00", None),  # none was due yet
        ("20T12:00", "21T02:00", "22T02:10", None),  # late, within the grace
        ("20T12:00", "21T02:00", "22T02:20", "22T02:00"),
    ],
)
def test_overdue(since, last, now, due):
    seen = overdue(NIGHTLY.cron, moment(since), moment(last) if last else None, moment(now))
    assert seen == (moment(due) if due else None)


@pytest.fixture
def recorded_schedule(stand_in) -> dict:
    """A recorded schedule, due every second minute, with recorded runs, of which one is its own and continues."""
    (schedule,) = recorded("rest/recurring-runs-list-after-replace")["recurringRuns"]
    runs = recorded("rest/list-runs")["runs"]
    (own,) = [run for run in runs if "recurring_run_id" in run]
    schedule["recurring_run_id"] = own["recurring_run_id"]
    stand_in.state.recurring[own["recurring_run_id"]] = schedule
    stand_in.state.runs = {run["run_id"]: run for run in runs}
    stand_in.state.experiments = {
        entry["experiment_id"]: entry for entry in recorded("rest/experiments")["experiments"]
    }
    return own


def test_a_recorded_schedule_becomes_overdue(cluster, recorded_schedule):
    """The run of 02:10 continued; with one run at a time, that of 02:12 does not start."""
    assert recorded_schedule["created_at"] == "2026-11-27T02:10:05Z"
    in_time, late = (datetime(2026, 11, 27, 2, minute, 30, tzinfo=UTC) for minute in (24, 27))
    (schedule,) = schedule_statuses(cluster, in_time)
    assert (schedule.name, schedule.last_run, schedule.overdue) == ("tiny", recorded_schedule["run_id"], None)
    (schedule,) = schedule_statuses(cluster, late)
    assert schedule.overdue == (
        "no run started at 2026-11-27 02:12 UTC, since the previous run is still in progress: "
        f"{recorded_schedule['run_id']}"
    )
    recorded_schedule.update(state="SUCCEEDED", finished_at="2026-11-27T02:11:00Z")
    (schedule,) = schedule_statuses(cluster, late)
    assert schedule.overdue == "no run started at 2026-11-27 02:12 UTC; see the log of ml-pipeline-scheduledworkflow"


def test_a_paused_recorded_schedule_is_never_overdue(cluster, stand_in, recorded_schedule):
    schedule = stand_in.state.recurring[recorded_schedule["recurring_run_id"]]
    disabled = recorded("rest/recurring-run-get-disabled")
    schedule.update(mode=disabled["mode"], status=disabled["status"])
    (schedule,) = schedule_statuses(cluster, datetime(2026, 11, 28, tzinfo=UTC))
    assert (schedule.paused, schedule.overdue) == (True, None)


def test_the_status_of_the_schedules(cluster, stand_in, nightly):
    nightly["created_at"] = "2026-11-20T12:00:00Z"
    (schedule,) = schedule_statuses(cluster, moment("22T01:00"))
    assert [f"{time:%d %H:%M}" for time in schedule.next_times] == ["22 02:00", "23 02:00", "24 02:00"]
    assert schedule.overdue.startswith("no run started at 2026-11-21 02:00 UTC; see")

    run = stand_in.state.add_run(
        recurring_run_id=nightly["recurring_run_id"],
        experiment_id=nightly["experiment_id"],
        created_at="2026-11-21T02:00:05Z",
        state="SUCCEEDED",
    )
    (schedule,) = schedule_statuses(cluster, moment("22T01:00"))
    assert (schedule.last_run, schedule.last_state, schedule.overdue) == (run["run_id"], "SUCCEEDED", None)

    run["state"] = "RUNNING"
    (schedule,) = schedule_statuses(cluster, moment("22T09:00"))
    assert schedule.overdue == (
        f"no run started at 2026-11-22 02:00 UTC, since the previous run is still in progress: {run['run_id']}"
    )
    pause(cluster, "nightly")
    (schedule,) = schedule_statuses(cluster, datetime.now(UTC) + timedelta(days=9))
    assert (schedule.paused, schedule.next_times, schedule.overdue) == (True, [], None)


def test_a_server_without_schedules(cluster):
    assert schedule_statuses(cluster) == []
