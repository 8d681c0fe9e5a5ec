"""The findings on bytes without a process, a clean file or a name: the parser, then the rules. The one place that knows what they are."""

from __future__ import annotations

import os

from fifomark.core.findings import Finding
from fifomark.core.policy import Limits, Policy
from fifomark.sanitizer.judgement import judge
from fifomark.torchfile.describe import describe
from fifomark.torchfile.description import decode
from fifomark.torchfile.source import ParseLimits

_FILE = os.memfd_create("judged")


def findings(body: bytes) -> list[Finding]:
    os.ftruncate(_FILE, 0)
    os.pwrite(_FILE, body, 0)
    description = decode(describe(_FILE, ParseLimits()))
    return judge(description, len(body), Policy(), Limits()).findings
