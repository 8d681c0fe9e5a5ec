"""One loop that turns: admit, reap, dispatch, expire, commit; recovery after a crash; signals."""
