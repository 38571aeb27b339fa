"""The configuration of a pool: of its central manager with the schedd, of a node, and of a client outside.

Every daemon is reached through one port (HTCondor's shared port) on one loopback address. Intervals are short, so that
tests do not wait; a job whose node is lost is given up after :data:`LEASE_SECONDS`.
"""

from __future__ import annotations

from dataclasses import dataclass

TRUST_DOMAIN = "testbed"
SCHEDD = f"facility@{TRUST_DOMAIN}"  # with an '@' it is a name, not a host that is looked up
LEASE_SECONDS = 30  # twice as long as a session waits until a worker's node counts as lost (``partings``)
KEY_FILE = "/etc/condor/passwords.d/POOL"


@dataclass(frozen=True)
class Place:
    """Where the daemons of one container listen: a loopback address and a port."""

    address: str
    port: int

    def __str__(self) -> str:
        """Return it as HTCondor's clients take it."""
        return f"{self.address}:{self.port}"


@dataclass(frozen=True)
class NodeShape:
    """What a node offers: processor cores (more than there are, if one likes), memory, and scratch disk in MiB."""

    cores: int = 4
    memory: int = 8192
    disk: int | None = None  # of its own, in memory; else the engine's disk


def _common(collector: Place, own: Place) -> dict[str, str]:
    return {
        "CONDOR_HOST": collector.address,
        "COLLECTOR_HOST": str(collector),
        "NETWORK_INTERFACE": own.address,
        "BIND_ALL_INTERFACES": "False",
        "ENABLE_IPV6": "False",  # it would listen on the machine's other addresses too
        "USE_SHARED_PORT": "True",
        "SHARED_PORT_PORT": str(own.port),
        # The default is a name in the network's namespace, which all pools of this machine share.
        "DAEMON_SOCKET_DIR": "/run/condor/sockets",
        "RUN": "/run/condor",
        "LOCK": "/run/condor",
        "UID_DOMAIN": TRUST_DOMAIN,
        "TRUST_DOMAIN": TRUST_DOMAIN,
        "DEFAULT_DOMAIN_NAME": TRUST_DOMAIN,
        "TRUST_UID_DOMAIN": "True",
        "UPDATE_INTERVAL": "3",
        "CLASSAD_LIFETIME": "10",  # a node that is lost is forgotten
        "MASTER_UPDATE_INTERVAL": "3",
        "ENABLE_PROCESS_TRACKING_KERNEL_CONFIG": "False",
        # Daemons of all containers are condor@<trust domain>, by a token that each makes from the pool's key.
        "ALLOW_DAEMON": f"condor@{TRUST_DOMAIN}",
        "ALLOW_ADMINISTRATOR": f"root@{TRUST_DOMAIN} condor@{TRUST_DOMAIN}",
    }


def central_settings(collector: Place, first_cluster: int) -> str:
    """Return the configuration of the central manager with the schedd.

    Clusters are numbered from ``first_cluster``: the names of job containers in the engine that pools share have it.
    """
    return _text(
        _common(collector, collector)
        | {
            "DAEMON_LIST": "MASTER COLLECTOR NEGOTIATOR SCHEDD SHARED_PORT",
            "SCHEDD_NAME": SCHEDD,
            "SCHEDD_CLUSTER_INITIAL_VALUE": str(first_cluster),
            "FILESYSTEM_DOMAIN": TRUST_DOMAIN,
            "NEGOTIATOR_INTERVAL": "2",
            "NEGOTIATOR_CYCLE_DELAY": "2",
            "NEGOTIATOR_MIN_INTERVAL": "1",
            "SCHEDD_INTERVAL": "2",
            "SCHEDD_MIN_INTERVAL": "1",
            "NEGOTIATOR_UPDATE_INTERVAL": "3",
            "MASTER_BACKOFF_CEILING": "2",
            "JOB_TRANSFORM_NAMES": "Lease",
            "JOB_TRANSFORM_Lease": f"SET JobLeaseDuration {LEASE_SECONDS}",
            "SHADOW_QUEUE_UPDATE_INTERVAL": "2",
        }
    )


def node_settings(
    collector: Place, own: Place, name: str, execute: str, labels: dict[str, str], shape: NodeShape
) -> str:
    """Return the configuration of an execute node whose jobs' directories are below ``execute``.

    ``labels`` are put on the containers of its docker-universe jobs.
    """
    return _text(
        _common(collector, own)
        | {
            "DAEMON_LIST": "MASTER STARTD SHARED_PORT",
            "STARTD_NAME": f"{name}@{TRUST_DOMAIN}",
            "FILESYSTEM_DOMAIN": name,
            "EXECUTE": execute,
            "NUM_CPUS": str(shape.cores),
            "MEMORY": str(shape.memory),
            "NUM_SLOTS": "1",
            "NUM_SLOTS_TYPE_1": "1",
            "SLOT_TYPE_1": "100%",
            "SLOT_TYPE_1_PARTITIONABLE": "True",
            "START": "True",
            "RUNBENCHMARKS": "0",
            "STARTER_UPDATE_INTERVAL": "5",
            "STARTER_INITIAL_UPDATE_INTERVAL": "1",
            "MachineMaxVacateTime": "5",
            "DOCKER": "/usr/bin/docker",
            # Nodes that start at once would take the test's image from each other, and be without Docker (status 125).
            "DOCKER_PERFORM_TEST": "False",
            "DOCKER_EXTRA_ARGUMENTS": " ".join(f"--label={name}={value}" for name, value in labels.items()),
            "DOCKER_IMAGE_CACHE_SIZE": "100",  # HTCondor removes images beyond it, from an engine that others use too
            "SINGULARITY": "/usr/bin/apptainer",
            "HasSIF": "True",  # Debian leaves out the file with which HTCondor tries this
            "STARTD_ATTRS": "$(STARTD_ATTRS) HasSIF",
        }
    )


def client_settings(collector: Place) -> str:
    """Return the configuration of a client that has nothing but IDTOKENs."""
    return _text(
        {
            "CONDOR_HOST": collector.address,
            "COLLECTOR_HOST": str(collector),
            "NETWORK_INTERFACE": collector.address,
            "ENABLE_IPV6": "False",
            "DAEMON_LIST": "",
            "UID_DOMAIN": TRUST_DOMAIN,
            "TRUST_DOMAIN": TRUST_DOMAIN,
            "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
            "SEC_DEFAULT_AUTHENTICATION": "REQUIRED",
            "SEC_DEFAULT_ENCRYPTION": "REQUIRED",
            "SEC_DEFAULT_INTEGRITY": "REQUIRED",
        }
    )


def _text(settings: dict[str, str]) -> str:
    return "use security:recommended\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
