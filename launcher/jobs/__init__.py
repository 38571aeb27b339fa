"""Builds as jobs: a key, a state, a durable log, any number of watchers.

::

    Asked --Desk--> Job (in the store) --Runner--> executor --> events (in the store) --Feed--> watchers

The same key is one job, across processes and replicas: the store's unique index sees to that. The store is the only
thing that replicas share; whatever a process holds in memory can be lost at any moment.
"""
