"""Starts vouched images as pods of a Kubernetes cluster.

What is tested here is what is asked of the API server: the pod and the secret, validated against Kubernetes' schemas.
Nothing of it has run in a cluster with this launch service yet.

The directory of secrets is in the node's memory, and the server's token in it comes from a Secret of this one server,
which the cluster removes with the pod.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from jupyterhub.utils import exponential_backoff
from kubernetes_asyncio.client.models import V1ObjectMeta, V1OwnerReference, V1Secret
from kubespawner import KubeSpawner
from kubespawner.objects import make_owner_reference

from launcher.container import LABEL, PORT, SECRETS, TOKEN_FILE, USER
from launcher.hub.spawner import LAUNCH, StartError, VouchedMixin
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncIterator, Mapping

    from launcher.hub.vouching import LaunchRequest

_DIRECTORY, _TOKEN = "casabinder-secrets", "casabinder-token"
_DIRECTORY_SIZE = "16Mi"

UNPRIVILEGED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


class VouchedKubeSpawner(VouchedMixin, KubeSpawner):
    """KubeSpawner for requests of the launch service."""

    args: list[str]
    extra_labels: dict[str, str]
    volumes: Any
    volume_mounts: Any

    def start(self) -> Future[Any]:
        """Start the pod of a vouched request; the future has the server's URL."""
        try:
            self.prepare(self.vouched())
        except CasabinderError as error:
            raise StartError(str(error)) from error
        future: Future[Any] = KubeSpawner.start(self)
        return future

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of the pod."""
        async for event in KubeSpawner.progress(self):
            yield event

    def prepare(self, request: LaunchRequest) -> None:
        """Set everything that the pod follows from."""
        self.image, self.image_pull_policy = request.image, "IfNotPresent"
        self.cmd, self.args, self.port = self.command(), [], PORT
        self.cpu_limit, self.mem_limit = request.cpus, request.memory
        self.uid = self.gid = self.fs_gid = USER
        self.privileged = self.allow_privilege_escalation = self.automount_service_account_token = False
        self.container_security_context = UNPRIVILEGED
        self.pod_security_context = {
            "fsGroup": USER,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        ids = {LAUNCH: request.id, f"{LABEL}.env-id": request.env_id, f"{LABEL}.image-id": request.image_id}
        self.extra_labels = {**self.extra_labels, **ids}
        self.extra_annotations = {f"{LABEL}.digest": request.digest, f"{LABEL}.commit": request.commit}
        self._mount_secrets(self.token(request))

    def secret(self, owner: V1OwnerReference) -> V1Secret:
        """Return the Secret with the server's token, which goes with its owner, the pod."""
        labels = self._build_common_labels(self._expand_all(self.extra_labels))
        metadata = V1ObjectMeta(name=self.pod_name, labels=labels, owner_references=[owner])
        token = {TOKEN_FILE.rpartition("/")[2]: self.token(self._vouched_request)}
        return V1Secret(metadata=metadata, type="Opaque", string_data=token)

    @property
    def _vouched_request(self) -> LaunchRequest:
        assert self._request is not None  # noqa: S101 - by construction: a pod is made of a request
        return self._request

    def _mount_secrets(self, token: str) -> None:
        volumes: list[dict[str, Any]] = [
            {"name": _DIRECTORY, "emptyDir": {"medium": "Memory", "sizeLimit": _DIRECTORY_SIZE}}
        ]
        mounts: list[dict[str, Any]] = [{"name": _DIRECTORY, "mountPath": SECRETS}]
        if token:
            file = TOKEN_FILE.rpartition("/")[2]
            volumes.append({"name": _TOKEN, "secret": {"secretName": self.pod_name, "defaultMode": 0o440}})
            mounts.append({"name": _TOKEN, "mountPath": TOKEN_FILE, "subPath": file, "readOnly": True})
            self.after_pod_created_hook = VouchedKubeSpawner._put_secret
        ours = (_DIRECTORY, _TOKEN)
        self.volumes = [*_others(self._sorted_dict_values(self.volumes), ours), *volumes]
        self.volume_mounts = [*_others(self._sorted_dict_values(self.volume_mounts), ours), *mounts]

    async def _put_secret(self, pod: Mapping[str, Any]) -> None:
        """Make the Secret that the pod waits for, and which is removed with it."""
        secret = self.secret(make_owner_reference(self.pod_name, pod["metadata"]["uid"]))
        gone = partial(self._ensure_not_exists, "secret", self.pod_name)
        await exponential_backoff(gone, f"the secret {self.pod_name} of an earlier server can't be removed")
        made = partial(self._make_create_resource_request, "secret", secret)
        await exponential_backoff(made, f"the secret {self.pod_name} can't be made")


def _others(entries: list[dict[str, Any]], ours: tuple[str, ...]) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry["name"] not in ours]
