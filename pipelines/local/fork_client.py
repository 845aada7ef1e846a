"""Runs `-m MODULE ARGUMENTS` in a process that `pipelines.local.fork_server` forks; without the server, in a new one.

An interpreter runs this file without `site`, as `python -IS fork_client.py SOCKET -m MODULE ARGUMENTS`, because it must
start in milliseconds.
"""

import os
import pickle
import signal
import socket
import sys


def main() -> int:
    """Returns the exit code of the module; 128 and the number of a signal that ended it."""
    address, *arguments = sys.argv[1:]
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except OSError:
        os.execv(sys.executable, [sys.executable, *arguments])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the step receives it too, and may need time to end
    socket.send_fds(connection, [b"\0"], [0, 1, 2])
    connection.sendall(pickle.dumps(([*map(os.fsencode, arguments)], dict(os.environb))))
    code = connection.makefile().read()
    if not code:
        return 128 + signal.SIGKILL  # the process that would have sent it was killed
    return int(code) if int(code) >= 0 else 128 - int(code)


if __name__ == "__main__":
    sys.exit(main())
