"""WHERE a judge runs: slots, the pool interface and its engines, and the main of a worker process."""
