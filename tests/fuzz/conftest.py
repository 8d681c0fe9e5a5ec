"""Properties that hold of the same examples every time: a red run can be had again."""

from __future__ import annotations

import resource
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("stable", derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("stable")


@pytest.fixture(autouse=True)
def _one_gigabyte() -> Iterator[None]:
    """A random pickle asks for any amount of memory; here it gets one gigabyte more than is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30), hard))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch and zipfile warn of what we make on purpose
        yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
