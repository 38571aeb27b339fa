"""From what a repository asks for to a lock: which packages the image has, and how they differ from the base's.

``lock`` is the way through::

    EnvironmentSpec + Base --lock.lock--> Lock
      satisfied by the base as it is      closure
      a lock file of the repository       stated (pylock), pins (formats without addresses)
      requirements                        union: resolver (uv) with the base's requirements and preferences
      checked                             check: protected packages, Python, what stays of the base is consistent

``pylock`` is the exchange format, ``refusal`` turns the resolver's proof into one sentence, ``report`` says what comes
from the base, what is added and what replaces, ``made_wheels`` is what is expected of whoever builds from source.
"""
