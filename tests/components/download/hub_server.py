"""The part of the Hugging Face Hub that `huggingface_hub` uses for one data set of Parquet files."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from json import dumps

import pyarrow as pa
import pyarrow.parquet as pq

from components.download.hub import REPOSITORY, REVISION
from tests.http_servers import serving

_API = f"/api/datasets/{REPOSITORY}"
_FILES = f"/datasets/{REPOSITORY}/resolve/{REVISION}/"


@dataclass
class Hub:
    """A Hub at `url` with the files of the data set.

    Attributes:
        refusal: a status, and the Hub's own code of the error, with which it answers everything but its own address.
        asked: the paths of the requests.
    """

    files: dict[str, bytes]
    refusal: tuple[int, str] | None = None
    url: str = ""
    asked: list[str] = field(default_factory=list)


def data_set(name: str, rows: dict[str, list[str]]) -> dict[str, bytes]:
    """The files of a configuration, named and described as on the Hub."""
    lines = ["---", "configs:", f"- config_name: {name}", "  data_files:"]
    files = {}
    for split, texts in rows.items():
        lines += [f"  - split: {split}", f"    path: {name}/{split}-*"]
        buffer = io.BytesIO()
        pq.write_table(pa.table({"text": texts}), buffer)
        files[f"{name}/{split}-00000-of-00001.parquet"] = buffer.getvalue()
    return {"README.md": "\n".join([*lines, "---", ""]).encode(), **files}


@contextmanager
def hub(files: dict[str, bytes], refusal: tuple[int, str] | None = None) -> Iterator[Hub]:
    """Serves until the block ends."""
    served = Hub(files, refusal)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            served.asked.append(path)
            if served.refusal and path != "/":
                status, code = served.refusal
                self._answer(status, b"{}", {"X-Error-Code": code})
            elif path.startswith(_FILES) and (content := files.get(path.removeprefix(_FILES))) is not None:
                tag = hashlib.sha256(content).hexdigest()
                self._answer(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": REVISION})
            elif path == f"{_API}/revision/{REVISION}":
                names = [{"rfilename": name} for name in files]
                self._answer(200, dumps({"id": REPOSITORY, "sha": REVISION, "siblings": names, "tags": []}).encode())
            elif path == f"{_API}/tree/{REVISION}":
                self._answer(200, dumps(_listing(files)).encode())
            else:
                self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": REVISION})

        def do_HEAD(self) -> None:
            self.do_GET()

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    with serving(Handler) as served.url:
        yield served


def _listing(files: dict[str, bytes]) -> list[dict]:
    """Every file, as the Hub lists a tree recursively."""
    return [
        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        for name, content in files.items()
    ]
