"""Starts vouched images as pods of a Kubernetes cluster.

What is tested here is what is asked of the API server: the pod and the secret, validated against Kubernetes' schemas.
Nothing of it has run in a cluster with this launch service yet.

The directory of secrets is in the node's memory, and the tokens in it come from a Secret of this one server, which the
cluster removes with the pod. That for a batch pool is a directory of its own, in which a renewed one appears by itself.
Its workers reach a pod's scheduler at the pod's address, or by its name through the site's proxy.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import ClientError
from jupyterhub.utils import exponential_backoff
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.client.models import V1ObjectMeta, V1OwnerReference, V1Secret, V1Service, V1ServicePort
from kubespawner import KubeSpawner
from kubespawner.objects import make_owner_reference
from traitlets import Integer

from launcher.container import LABEL, POOL_TOKEN_FILE, PORT, SCHEDULER_PORT, SECRETS, STOP_SECONDS, TOKEN_FILE, USER
from launcher.hub.spawner import LAUNCH, StartError, VouchedMixin
from launcher.pools.exposure import POD_IP, kubernetes_exposure
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncIterator, Mapping

    from launcher.container import PoolDocument
    from launcher.hub.vouching import LaunchRequest
    from launcher.site_config import Exposure

_DIRECTORY, _TOKEN, _POOL = "casabinder-secrets", "casabinder-token", "casabinder-pool"
_POOL_KEY = "pool-token"  # in the Secret
_DIRECTORY_SIZE = "16Mi"
GPU_RESOURCE = "nvidia.com/gpu"  # what NVIDIA's device plugin offers

UNPRIVILEGED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


class VouchedKubeSpawner(VouchedMixin, KubeSpawner):
    """KubeSpawner for requests of the launch service."""

    delete_grace_period = Integer(STOP_SECONDS, config=True, help="Seconds that a pod has to end.")

    args: list[str]
    extra_labels: dict[str, str]
    extra_pod_config: dict[str, Any]
    extra_resource_limits: dict[str, str]
    volumes: Any
    volume_mounts: Any

    _pool_token = ""

    @property
    def exposure(self) -> Exposure:
        """How workers reach the scheduler of a pod."""
        return kubernetes_exposure(self.site_pool)

    @property
    def server_label(self) -> str:
        """The pod's name: the site's proxy finds the Service of this name."""
        return str(self.pod_name)

    def workers_pool(self, request: LaunchRequest) -> PoolDocument | dict[str, str | int]:
        """Return the Dask workers of a request; Kubernetes puts the pod's address in."""
        document = super().workers_pool(request)
        return {**document, "address": f"$({POD_IP})"} if "address" in document else document

    def get_env(self) -> dict[str, Any]:
        """Return the server's environment; with workers in a pool it has the pod's own address."""
        environment: dict[str, Any] = super().get_env()
        if self._pool_token:
            environment[POD_IP] = {"name": POD_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        return environment

    def start(self) -> Future[Any]:
        """Start the pod of a vouched request; the future has the server's URL."""
        try:
            self.prepare(self.vouched())
        except CasabinderError as error:
            raise StartError(str(error)) from error
        future: Future[Any] = KubeSpawner.start(self)
        return future

    async def poll(self) -> Any:
        """Return nothing while the pod runs, whose token for the pool is then renewed when that is due."""
        ended = await KubeSpawner.poll(self)
        if ended is None and self.pool_token_is_due and self._in_a_pool():
            await self.renew_pool_token()
        return ended

    async def renew_pool_token(self) -> None:
        """Put a new token for the pool into the server's Secret, whence it comes into the pod; if that fails, the next
        poll tries again."""
        try:
            renewed = {"stringData": {_POOL_KEY: self.pool_token()}}
            await self.api.patch_namespaced_secret(self.pod_name, self.namespace, renewed)
        except (ApiException, CasabinderError, ClientError, OSError):
            self.log.exception("the token of %s for the pool could not be renewed", self.pod_name)
            self._renewal = 0.0

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of the pod."""
        async for event in KubeSpawner.progress(self):
            yield event

    def prepare(self, request: LaunchRequest) -> None:
        """Set everything that the pod follows from."""
        self.image, self.image_pull_policy = request.image, "IfNotPresent"
        self.cmd, self.args, self.port = self.command(), [], PORT
        self.cpu_limit, self.mem_limit = request.cpus, request.memory
        batch = self.batch() if request.workers else None
        if batch is not None:
            self._pool_of_image = batch.with_gpus(None, request.cuda)
        self.extra_pod_config = {"terminationGracePeriodSeconds": self.delete_grace_period, **self.extra_pod_config}
        if request.gpus:
            self.extra_resource_limits = {**self.extra_resource_limits, GPU_RESOURCE: str(request.gpus)}
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
        self._pool_token = self.pool_token() if request.workers else ""
        if self._pool_token and self.exposure == "sni":
            self.services_enabled = True
        self._mount_secrets(self.token(request))

    def get_service_manifest(self, owner_reference: V1OwnerReference, port: int) -> V1Service:
        """Return the Service of the pod, by whose name the site's proxy finds server and scheduler."""
        service: V1Service = super().get_service_manifest(owner_reference, port)
        if self._pool_token:
            dask = V1ServicePort(name="dask", port=SCHEDULER_PORT, target_port=SCHEDULER_PORT)
            service.spec.ports = [*service.spec.ports, dask]
        return service

    def secret(self, owner: V1OwnerReference) -> V1Secret:
        """Return the Secret with the server's tokens, which goes with its owner, the pod."""
        labels = self._build_common_labels(self._expand_all(self.extra_labels))
        metadata = V1ObjectMeta(name=self.pod_name, labels=labels, owner_references=[owner])
        tokens = {TOKEN_FILE.rpartition("/")[2]: self.token(self._vouched_request), _POOL_KEY: self._pool_token}
        present = {name: token for name, token in tokens.items() if token}
        return V1Secret(metadata=metadata, type="Opaque", string_data=present)

    def _in_a_pool(self) -> bool:
        """Whether the pod, as the cluster knows it, has a token for a pool."""
        pod = self.pod_reflector.pods.get(f"{self.namespace}/{self.pod_name}") or {"spec": {}}
        return any(volume["name"] == _POOL for volume in pod["spec"].get("volumes") or ())

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
        if self._pool_token:
            directory, _, file = POOL_TOKEN_FILE.rpartition("/")
            items = [{"key": _POOL_KEY, "path": file}]
            secret = {"secretName": self.pod_name, "defaultMode": 0o440, "items": items}
            volumes.append({"name": _POOL, "secret": secret})
            # Not by ``subPath``: such a file is never renewed.
            mounts.append({"name": _POOL, "mountPath": directory, "readOnly": True})
        if token or self._pool_token:
            self.after_pod_created_hook = VouchedKubeSpawner._put_secret
        ours = (_DIRECTORY, _TOKEN, _POOL)
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
