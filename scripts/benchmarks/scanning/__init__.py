"""The parts of scripts/bench scanners."""
