"""A small engine with the API of OpenAI, which continues every prompt in one way: `stand_in_engine.py FOLDER PORT`.

It starts in a tenth of a second. Files in the folder above that of the model change what it does: `dies` ends it when
it is asked, `slow` holds the seconds that an answer takes, and with `silent` it never answers.
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME, PORT = sys.argv[1], int(sys.argv[2])
BESIDE = Path(NAME).resolve().parent


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if (BESIDE / "dies").exists():
            os._exit(3)
        if (BESIDE / "slow").exists():
            time.sleep(float((BESIDE / "slow").read_text()))
        known = body["model"] == NAME and not (BESIDE / "silent").exists()
        answer = {"model": NAME, "choices": [{"text": f" after {body['prompt']}"}]} if known else {"detail": "unknown"}
        content = json.dumps(answer).encode()
        self.send_response(200 if known else 400)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


if __name__ == "__main__":
    assert (BESIDE / NAME / "config.json").is_file(), "the model is in the working folder"
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
