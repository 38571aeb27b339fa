"""Wheels from source: directories of a repository, git repositories, archives and the index's source distributions."""
