"""The data set of a rubric: read without pickle and without torch, tied to its hash, and checked before any model sees it."""

from fifomark.marking.data.loading import Data, Split, check_data, load_data

__all__ = ["Data", "Split", "check_data", "load_data"]
