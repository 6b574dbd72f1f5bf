"""Finds naive, the plain loops installed beside fastconv, and refuses a stranger of that common name."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

BESIDE = Path(__file__).resolve().parent.parent / "naive"


def naive() -> ModuleType:
    """The package naive of this installation.

    ImportError: there is none, or another module of that name comes first; the message says which file. That one is not run.
    """
    found = sys.modules.get("naive") or importlib.util.find_spec("naive")
    if found is None:
        raise ImportError(f"there is no package naive; wanted: the plain loops at {BESIDE}. Install fastconv again: they come with it")
    file = getattr(found, "__file__", None) or getattr(found, "origin", None)
    if file is None or Path(file).resolve().parent != BESIDE:
        raise ImportError(
            f"naive is {file or found}; wanted: the plain loops at {BESIDE}. Rename or move the other one: it comes first on the path"
        )
    return importlib.import_module("naive")
