"""Python programs in processes of their own, with an environment of their own."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(program="", *, script=None, path=ROOT, timeout=180, flags=(), **environment):
    """The last line that a program, or the script in a file, prints; it must end well. `path`: PYTHONPATH, where it finds fastconv."""
    # two threads on any machine
    variables = {**os.environ, "NUMBA_NUM_THREADS": "2", "PYTHONPATH": str(path), **{name: str(value) for name, value in environment.items()}}
    command = [sys.executable, *flags, *((script,) if script else ("-c", program))]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout, cwd="/")
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip().rpartition("\n")[2]       # before it Numba may say that it could not stop its threads for a fork
