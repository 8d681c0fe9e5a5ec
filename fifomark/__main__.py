"""`python -m fifomark`: the command, where no script of that name is on the path."""

import sys

from fifomark.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
