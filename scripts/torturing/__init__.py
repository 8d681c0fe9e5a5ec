"""Torture: the daemon killed, starved and lied to at every step, and a checker that believes neither it nor its ledger."""
