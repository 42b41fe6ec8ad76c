"""Asks the real docker-compose about each file that stdin names: `docker-compose -f <file> config`, many times in one process."""

import contextlib
import io
import sys

from compose.cli import main as compose_main

refused = []
files = [line.strip() for line in sys.stdin if line.strip()]
for file in files:
    sys.argv = ["docker-compose", "--no-ansi", "-f", file, "config", "--quiet"]
    said = io.StringIO()
    code = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            compose_main.main()
        except SystemExit as end:
            code = end.code or 0
    if code:
        refused.append(f"{file}: {said.getvalue()}")
if refused:
    print("\n".join(refused))
    sys.exit(1)
print(f"{len(files)} files are accepted")
