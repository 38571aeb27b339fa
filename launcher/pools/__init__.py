"""Batch pools as the launcher sees them: what a session is told, the user's token, and whether all of it works.

::

    site.yaml `pool` --BatchPool--> CASABINDER_POOL of a launch, and an IDTOKEN for its secrets
                     --image_source-> where nodes take the image from, and whether it is there
                     --prepull----> jobs that bring an image to nodes, and how many have it
                     --doctor-----> findings, a sentence each
"""
