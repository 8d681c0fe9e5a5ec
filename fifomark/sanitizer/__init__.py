"""Judge 1: from the bytes of a submission to findings and a clean file. Nothing that was submitted is loaded or run."""
