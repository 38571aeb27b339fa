"""JupyterHub: its configuration, the spawner that starts only what the launch service vouches for, and its client."""
