"""Who asks, with which keys things are signed, and how much anybody may have."""
