"""The words that every part shares: states, findings, records, outcomes, the report, errors. Standard library and msgspec only."""
