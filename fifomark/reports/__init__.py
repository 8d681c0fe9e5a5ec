"""Renderings of the report: JSON, tables, rankings. Everything shown is computed from reports and the ledger."""
