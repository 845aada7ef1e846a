"""The readiness of a server: it completes a text. Every engine's image has a Python that can run this file.

It ends with 0 if the server of this pod answers a completion, and with 1 and one line if it does not. The argument is
the time to wait in seconds, which has to be less than the time-out of the probe.
"""

import json
import sys
import urllib.request

ADDRESS = "http://127.0.0.1:8000/v1/completions"
REQUEST = {"model": "wikigpt", "prompt": "The", "max_tokens": 1, "temperature": 0}


def main(seconds: float) -> None:
    asked = urllib.request.Request(ADDRESS, json.dumps(REQUEST).encode(), {"Content-Type": "application/json"})
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with without_proxy.open(asked, timeout=seconds) as answer:
            text = json.load(answer)["choices"][0]["text"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        sys.exit(f"The server does not complete a text: {error!r}")
    if not isinstance(text, str):
        sys.exit(f"The server answers {text!r} instead of a text")


if __name__ == "__main__":
    main(float(sys.argv[1]))
