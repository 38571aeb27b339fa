"""Facility bases kept fresh: their locks, their state, their releases."""
