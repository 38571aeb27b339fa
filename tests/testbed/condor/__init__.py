"""Parts of a real HTCondor pool in containers; ``tests.testbed.pool`` puts them together."""
