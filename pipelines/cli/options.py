"""Options of several commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.download.corpora import RESERVED
from components.shared.base.address import is_folder
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.nearest import nearest
from components.shared.base.ranges import safe_repr
from components.shared.signing.keys import is_uri
from pipelines.config.paths import absolute
from pipelines.local.home import Home, open_home

if TYPE_CHECKING:
    from pipelines.config.settings import RunSettings

Profile = Annotated[str, typer.Option("--profile", "-p", help="Named settings, or the path of a YAML file.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="K=V", help="Override a setting, as in `train.learning_rate=3e-4`. May be repeated."),
]
Corpus = Annotated[
    str | None,
    typer.Option(
        envvar="WIKIGPT_CORPUS",
        help="`wikitext-2-raw-v1`, `wikitext-2-v1`, `sample`, a folder, an https:// archive, an s3:// prefix, or hf://OWNER/NAME."
        " By default the profile's.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Train even if a version or a checkpoint exists.")]
HomeFolder = Annotated[
    Path, typer.Option("--home", envvar="WIKIGPT_HOME", help="The folder for runs, the store and MLflow's database.")
]
Store = Annotated[
    str | None,
    typer.Option(envvar="WIKIGPT_STORE", help="The store: a folder or s3://bucket/prefix. By default in the home."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and everything else on stderr.")]
Plan = Annotated[bool, typer.Option("--plan", help="Print the changes that the command would make, and make none.")]
DEFAULT_HOME = Path(".wikigpt")


def settings_of(profile: str, sets: list[str] | None, corpus: str | None) -> RunSettings:
    """Loads the settings that options name. Folders in them become absolute, since steps run in other folders."""
    from pipelines.config.settings import load

    settings = load(profile, sets or ())
    settings = settings.with_values("download", corpus=absolute_corpus(corpus or settings.download.corpus))
    tokenizer = _absolute(settings.tokenize.tokenizer, "tokenize.tokenizer")
    settings = settings.with_values("tokenize", tokenizer=tokenizer)
    key = settings.register.signing_key
    if key and not is_uri(key):
        settings = settings.with_values("register", signing_key=str(absolute(key, "register.signing_key")))
    pretrained = settings.train.pretrained and _absolute(settings.train.pretrained, "train.pretrained")
    return settings.with_values("train", pretrained=pretrained)


def absolute_corpus(corpus: str) -> str:
    """Returns a known name or an address as it is, and a folder as an absolute path.

    Raises:
        Failure: it is neither a known name nor an existing folder.
    """
    if corpus in RESERVED or "://" in corpus:
        return corpus
    folder = absolute(corpus, "--corpus")
    if "/" not in corpus and not folder.exists():
        meant = nearest(corpus, RESERVED, cutoff=0.5)
        raise Failure(
            f"There is no corpus {safe_repr(corpus)}, and no folder of that name",
            where="--corpus, WIKIGPT_CORPUS or download.corpus",
            remedy=f"{f'did you mean {meant}? ' if meant else ''}The names are {', '.join(RESERVED)}; a folder,"
            " an https:// archive, an s3:// prefix or hf://OWNER/NAME works too",
            exit_code=ExitCode.USAGE,
        )
    return str(folder)


def _absolute(address: str, setting: str) -> str:
    return str(absolute(address, setting)) if is_folder(address) else address


def home_and_store(home: Path, store: str | None) -> tuple[Home, str]:
    """Opens the home, and returns it with the address of the store, in which a folder is absolute."""
    opened = open_home(home)
    if store is None:
        return opened, str(opened.store)
    return opened, store if "://" in store else str(absolute(store, "--store"))
