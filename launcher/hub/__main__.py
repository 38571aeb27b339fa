"""``python -m launcher.hub``: JupyterHub, started in half the time, and with an eye on its services.

jsonschema imports the grammar of internationalised addresses if it is installed, and that takes as long as all the
rest of JupyterHub. No schema of the hub has such a format; without the module jsonschema does not check it.
"""

import signal
import sys

sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # importing it fails

# A script's background processes ignore SIGINT, with which JupyterHub ends its services.
signal.signal(signal.SIGINT, signal.default_int_handler)

from jupyterhub.app import main  # noqa: E402

from launcher.hub.quick_services import watch_closely  # noqa: E402

watch_closely()
main()
