"""What `wikigpt check` looks at: whether the run that was asked for could begin."""

from __future__ import annotations

from pathlib import Path

from components.download.corpora import KNOWN, SAMPLE
from components.download.corpus import check
from components.download.splits import find_splits
from components.shared.failure import ExitCode
from pipelines import doctor
from pipelines.doctor import Finding
from pipelines.home import Home, tracking_uri
from pipelines.run import pin_numerics
from pipelines.settings import RunSettings


def check_run(settings: RunSettings, home: Home, store: str) -> list[Finding]:
    """The settings were checked when they were read; here are the corpus and the surroundings that they need."""
    pinned = pin_numerics(settings)
    train = pinned.train
    numerics = f"{train.device}, {train.precision}, {train.threads} threads, compile {'on' if train.compile else 'off'}"
    return [
        Finding("Settings", True, f"profile {settings.profile}: {settings.description}"),
        Finding("Numerics", True, numerics),
        corpus(settings),
        doctor.gpu(needed=True) if "cuda" in (train.device, settings.evaluate.device) else doctor.cores(),
        doctor.compiler(needed=train.compile),
        doctor.disk(home.root),
        doctor.store(store),
        doctor.tracking(tracking_uri(home)),
    ]


def corpus(settings: RunSettings) -> Finding:
    """Whether the corpus is there; one behind the network is asked for only by the run itself."""
    name = settings.download.corpus
    if name == SAMPLE:
        return Finding("Corpus", True, "sample, made by the project")
    if name in KNOWN:
        hub = doctor.hub()
        fallback = settings.download.fall_back_to_sample
        seen = f"{name} from the Hub" if hub.ok else f"{name}: {hub.seen}"
        if not hub.ok and fallback:
            return Finding("Corpus", True, f"{seen}; the run would fall back to sample")
        remedy = "; name a folder by --corpus or WIKIGPT_CORPUS"
        return Finding("Corpus", hub.ok, seen if hub.ok else seen + remedy, "the run", exit_code=ExitCode.UNREACHABLE)
    if "://" in name:
        return Finding("Corpus", True, f"{name}, fetched by the run")
    return _folder(Path(name))


def _folder(folder: Path) -> Finding:
    def read() -> str:
        files = find_splits(folder, str(folder))
        check(files, str(folder))
        return f"{folder}: {', '.join(path.name for path in files.values())}"

    return doctor.tried("Corpus", read, "the run")
