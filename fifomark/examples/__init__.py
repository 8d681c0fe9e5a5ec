"""Rubrics to start from, with their data: package data, copied into a new spool."""
