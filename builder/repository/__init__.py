"""From an address and a ref to the files of one commit, as a git tree in a local bare cache.

``spec`` is what is asked for, ``fetching`` what is allowed, ``checkout`` the way through::

    RepoSpec --checkout.resolve_ref--> Commit --checkout.checkout--> Tree

git itself is called in one place (``git``), towards one server at a time (``remote``, which checks ``addresses`` and
hands over a ``credential``), and writes into ``cache``. ``submodules`` and ``lfs`` become files of the same ``tree``.
``web`` fetches what is no git repository by the same rules.
"""
