"""`--plan` prints the changes that the command applies, in every state of the registry and the store."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import Failure
from components.shared.reuse.trained import publish_model
from components.shared.reuse.training_lock import training_lock
from components.shared.runtime.liveness import end_heartbeat, heartbeat
from components.shared.storage.manifest import write_manifest
from components.shared.storage.store import Store, open_store
from components.shared.tracking import registry
from components.shared.tracking.announcement import ANNOUNCED
from pipelines.planned_changes import Refused, apply_changes, descriptions
from pipelines.registry import gc
from pipelines.registry.gc import DAY, Garbage, Removal, plan_gc
from pipelines.registry.promotion import plan_promotion, plan_rollback, promote, rollback
from tests.interleavings.fake_registry import FakeRegistry, _Version
from tests.pipelines.registry.test_gc import age, publish

HERE, THERE = "wikigpt", "wikigpt-prod"
WRITES = ("copy_", "create_", "delete_", "set_", "update_")


class CopyingRegistry(FakeRegistry):
    """The registry in memory, which also copies versions and counts writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def copy_model_version(self, address: str, to: str) -> Any:
        _, name, number = address.split("/")
        if to not in self.models:
            self.create_registered_model(to)
        tags = self._version(name, number).tags
        return self.create_model_version(to, address, tags=tags)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(WRITES):
            self.writes += 1
        return super().__getattribute__(name)


def registry_of(seed: int) -> CopyingRegistry:
    """A registry with random aliases, tags and announced moves, also with states that no command of ours creates."""
    draw, made = random.Random(seed), CopyingRegistry()
    made.create_registered_model(HERE)
    count = draw.randint(1, 4)
    numbers = [str(number + 1) for number in range(count)]
    for number in numbers:
        tags = {
            registry.WEIGHTS_DIGEST: f"weights {number}",
            registry.score_tag("validation", "bits_per_byte"): draw.choice(["1.5", "1.5", "1.5", "nan"]),
        }
        if draw.random() < 0.5:
            tags[registry.CHAMPION_BEFORE] = draw.choice(numbers)
        if draw.random() < 0.2:
            tags[registry.ROLLED_BACK] = "long ago"
        made.create_model_version(HERE, f"runs:/{number}", tags=tags)
    model = made.models[HERE]
    if draw.random() < 0.8:
        model.aliases["champion"] = draw.choice(numbers)
    if draw.random() < 0.5:
        model.aliases["challenger"] = draw.choice(numbers)
    if draw.random() < 0.6:
        model.tags[registry.LAST_CHAMPION] = draw.choice(numbers)
    if draw.random() < 0.5:
        model.tags[ANNOUNCED] = f"{draw.choice(['', *numbers])}:{draw.choice([*numbers, '9'])}"
    if draw.random() < 0.5:
        made.create_registered_model(THERE)
        if draw.random() < 0.7:
            number = draw.choice(numbers)
            made.models[THERE].versions["1"] = _Version(
                {registry.WEIGHTS_DIGEST: f"weights {number}", **draw.choice([{}, {"wikigpt.copied_from": "x"}])},
                f"models:/{HERE}/{number}",
                None,
            )
            made.models[THERE].made = 1
            if draw.random() < 0.5:
                made.models[THERE].aliases["champion"] = "1"
    made.writes = 0
    return made


def outcome(act: Callable[[], object]) -> str | None:
    """The message of the failure of a call."""
    try:
        act()
    except Failure as failure:
        return str(failure)
    return None


@pytest.mark.parametrize("command", ["promote", "promote --to", "rollback"])
def test_what_a_command_of_the_registry_plans_is_what_it_applies(command: str) -> None:
    seen = set()
    for seed in range(400):
        fake = registry_of(seed)
        client = cast(MlflowClient, fake)
        number = random.Random(-seed).choice(sorted(fake.models[HERE].versions))
        asked: dict[str, Any] = {"reason": "a test", "model": HERE, **({"to": THERE} if "--to" in command else {})}
        if command == "rollback":
            plan, act = plan_rollback, rollback
        else:
            plan, act = _with(plan_promotion, number), _with(promote, number)  # type: ignore[assignment]
        before = copy.deepcopy(fake.models)
        planned: list[str] = []
        refusal = outcome(lambda: planned.extend(descriptions(plan(client, **asked))))  # noqa: B023
        assert fake.models == before and fake.writes == 0, f"seed {seed}: planning changes nothing"
        applied: list[str] = []
        assert outcome(lambda: act(client, **asked, report=applied.append)) == refusal, f"seed {seed}"  # noqa: B023
        assert applied == planned, f"seed {seed}"
        assert (fake.models != before) == bool(planned), f"seed {seed}: it plans something exactly if something changes"
        if command != "rollback" and refusal is None:
            assert plan(client, **asked) == [], f"seed {seed}: promoted twice, it changes nothing"
        seen.add(tuple(line.split(" of ")[0] for line in planned))
    assert len(seen) >= 4, "the states lead to plans of different kinds"


def _with(act: Callable[..., Any], reference: str) -> Callable[..., Any]:
    return lambda client, **options: act(client, reference, **options)


def fill(store: Store, client: MlflowClient, root: Path, seed: int) -> None:
    """Fills a store and a registry with needed and unneeded things."""
    draw = random.Random(seed)
    tags = client.get_model_version("wikigpt-sample", "1").tags
    keys = [tags["wikigpt.weights_digest"], tags["wikigpt.tokens_key"], *(str(digit) * 32 for digit in (1, 8, 9))]
    for kind in ("checkpoint", "model", "tokens", "evaluation", "corpus"):
        for key in draw.sample(keys, draw.randint(0, 4)):
            name = f"{key}/1" if kind in ("checkpoint", "evaluation") else key
            publish(store, root / f"{seed}" / kind / key, kind, name)
    for number in range(draw.randint(0, 2)):
        folder = root / f"{seed}" / f"model-{number}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(f"{number} {seed}")
        publish_model(store, folder, write_manifest(folder, "model", {"numerics": {}}), f"reuse key {number}")
    for run in draw.sample(["run-1", "run-2", "run-3"], draw.randint(0, 3)):
        end_heartbeat(store, run)
    if draw.random() < 0.5:
        training_lock(store, draw.choice(keys)).acquire("a run that died")
    if draw.random() < 0.5:
        store.claim("versions/wikigpt/x", {"run": "of an earlier wikigpt"})
    experiment = client.get_experiment_by_name("wikigpt").experiment_id
    for number in range(draw.randint(0, 3)):
        run = client.create_run(experiment, start_time=0, tags={"wikigpt.pipeline_run": f"failed-{number}"})
        client.set_terminated(run.info.run_id, "FAILED", end_time=draw.choice([1, 4_000_000_000_000]))
    age(store, days=draw.choice([0, 2, 30]))


def contents(store: Store, client: MlflowClient) -> tuple[dict[str, float], set[str]]:
    """The objects of the store, and the MLflow runs."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return (
        {entry.key: entry.changed for entry in store.objects.entries("")},
        {run.info.run_id for run in client.search_runs(experiments)},
    )


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 12))])
def test_what_gc_plans_is_what_it_removes(filled: MlflowClient, tmp_path: Path, seed: int) -> None:
    store = open_store(str(tmp_path / "planned"))
    fill(store, filled, tmp_path, seed)
    alive = random.Random(seed).random() < 0.3
    if alive:
        with heartbeat(store, "run-1"):
            _plan_and_remove(store, filled)
    else:
        _plan_and_remove(store, filled)


def _plan_and_remove(store: Store, client: MlflowClient) -> None:
    objects, runs = contents(store, client)
    garbage = plan_gc(store, client)
    planned = descriptions(garbage.removals)
    assert contents(store, client)[1] == runs and contents(store, client)[0].keys() == objects.keys()
    assert plan_gc(store, client) == garbage, "planning twice gives one plan"
    assert descriptions(apply_changes(plan_gc(store, client).removals).applied) == planned
    left, runs_left = contents(store, client)
    keys = {
        "blob": lambda name: name,
        "record": lambda name: f"claims/{name}.json",
        **{kind: _manifest(kind) for kind in ("checkpoint", "model", "tokens", "evaluation")},
    }
    removed = [(removal.kind, removal.name) for removal in garbage.removals]
    assert objects.keys() - left.keys() == {keys[kind](name) for kind, name in removed if kind != "MLflow run"}
    assert runs - runs_left == {name for kind, name in removed if kind == "MLflow run"}
    assert {removal.kind for removal in plan_gc(store, client, keep_for=7 * DAY).removals} <= {"blob"}


def _manifest(kind: str) -> Callable[[str], str]:
    return lambda name: f"manifests/{kind}/{name}.json"


def test_a_stage_that_is_refused_is_not_recorded_and_does_not_stop_the_others() -> None:
    class Planned:
        def __init__(self, description: str, refusal: str | None = None):
            self.description, self.refusal = description, refusal

        def apply(self) -> None:
            if self.refusal:
                raise Refused(self.refusal)

    said: list[str] = []
    done = apply_changes([Planned("a"), Planned("b", "Not b."), Planned("c", "Not b."), Planned("d")], said.append)
    assert (descriptions(done.applied), done.refused) == (["a", "d"], ("Not b.",))
    assert said == ["a", "d"]


def test_the_commands_print_the_plan_that_they_then_apply(
    filled: MlflowClient, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    home = ("--home", tmp_path / "home", "--store", tmp_path / "store")
    publish(open_store(str(tmp_path / "store")), tmp_path / "left", "checkpoint", "1" * 32 + "/00000010")
    for arguments in (("promote", "2", "--model", "wikigpt-sample"), ("rollback", "--model", "wikigpt-sample")):
        before = filled.get_registered_model("wikigpt-sample").aliases
        code, planned, err = command(*arguments, *home, "--plan")
        assert (code, err, filled.get_registered_model("wikigpt-sample").aliases) == (0, "", before)
        code, _, applied = command(*arguments, *home)
        assert (code, applied) == (0, planned)
        assert filled.get_registered_model("wikigpt-sample").aliases != before
    _, planned, _ = command("gc", "--days", "0", *home)
    assert command("gc", "--days", "0", *home, "--plan")[1] == planned, "the plan is the default"
    assert "remove checkpoint" in planned
    _, applied, _ = command("gc", "--days", "0", *home, "--apply")
    changes = [line for line in planned.splitlines() if line.startswith("remove ")]
    assert [line for line in applied.splitlines() if line.startswith("remove ")] == changes
    assert "There is nothing to change." in command("gc", "--days", "0", *home)[1]


def test_gc_counts_only_what_it_removed(
    filled: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., tuple[int, str, str]]
) -> None:
    def refuse() -> None:
        raise Refused("It stays.")

    removals = tuple(
        Removal("blob", name, 1 << 20, "it is old", remove) for name, remove in (("a", str), ("b", refuse))
    )
    monkeypatch.setattr(gc, "plan_gc", lambda *_, **__: Garbage(removals, ()))
    home = ("--home", tmp_path / "home", "--store", tmp_path / "store")
    assert "To be removed by --apply: 2 things of 2.0 MiB." in command("gc", *home)[1]
    assert command("gc", "--apply", *home)[1].splitlines()[1:] == ["It stays.", "Removed: 1 things of 1.0 MiB."]
