"""The `fifomark` command with slots that mark without torch: a daemon that is up in a third of a second, to be killed often."""

from __future__ import annotations

import sys

from fifomark.cli.main import main
from fifomark.daemon import service
from torturing.judges import serve_marking

if __name__ == "__main__":
    service.serve_marking, service.MARKING = serve_marking, serve_marking.__module__
    sys.exit(main())
