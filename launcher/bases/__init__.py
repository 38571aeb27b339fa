"""Releases of facility bases: the smoke test, dated tags, channels, the way back."""
