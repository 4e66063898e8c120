"""Commands in a network namespace that has nothing but loopback."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys

# Brings up loopback in the new network namespace, and runs the commands in it one after another.
INSIDE = """
import fcntl, os, socket, struct, subprocess, sys
UP, SIOCSIFFLAGS = 1, 0x8914
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), SIOCSIFFLAGS,
            struct.pack("16sh14x", b"lo", UP))
assert [name for _, name in socket.if_nameindex()] == ["lo"], socket.if_nameindex()
try:
    socket.create_connection(("192.0.2.1", 80), 2)
    sys.exit("there is a network")
except OSError:
    pass
sys.exit(subprocess.call(["sh", "-e", "-c", sys.argv[1]]))
"""


@functools.cache
def offline() -> list[str]:
    """Return the words before a line for the shell that runs it without a network.

    [] where there are no such namespaces.
    """
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return []
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    words = ["unshare", *user, "--net", sys.executable, "-c", INSIDE]
    return [] if subprocess.run([*words, "true"], capture_output=True).returncode else words
