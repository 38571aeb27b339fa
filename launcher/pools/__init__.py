"""Batch pools as the launcher sees them: what a session is told, the user's token, and whether all of it works.

::

    site.yaml `pool` --BatchPool--> CASABINDER_POOL of a launch, and an IDTOKEN for its secrets
                     --doctor-----> findings, a sentence each
"""
