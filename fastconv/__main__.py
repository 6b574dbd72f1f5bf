"""`python -m fastconv` is the command `fastconv`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
