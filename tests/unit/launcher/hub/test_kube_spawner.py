from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api
from kubespawner.objects import make_owner_reference
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from launcher.container import STOP_SECONDS
from launcher.hub.kube_spawner import VouchedKubeSpawner
from launcher.hub.spawner import VouchedMixin
from launcher.hub.vouching import Voucher
from tests.unit.launcher.hub.test_vouching import KEYS, REQUEST
from tests.unit.launcher.records import htcondor_pool

if TYPE_CHECKING:
    from pathlib import Path

    from launcher.hub.vouching import LaunchRequest

VERSION = "1.30"
CLUSTER = """
apiVersion: v1
kind: Config
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: none, user: {}}]
"""


class _Server:
    base_url = "/user/agc-0a1b2c3d/"


def pod_and_secret(directory: Path, mode: str, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the pod and the Secret that the API server is asked to make for a request."""
    pod, secret, _ = pod_and_more(directory, mode, **settings)
    return pod, secret


def pod_and_more(
    directory: Path, mode: str, request: LaunchRequest = REQUEST, **settings: Any
) -> tuple[dict[str, Any], ...]:
    """Return what the API server is asked to make for a request: pod, Secret and, where there is one, Service."""
    secret = directory / "secret"
    secret.write_text(KEYS.secret.hex() + "\n")
    secret.chmod(0o600)

    async def make() -> tuple[Any, ...]:
        spawner = VouchedKubeSpawner(_mock=True, secret_file=str(secret), mode=mode, **settings)
        spawner.server = _Server()
        spawner._request = replace(request, mode="anonymous" if mode == "anonymous" else "login")
        spawner.prepare(spawner._request)
        pod = await spawner.get_pod_manifest()
        owner = make_owner_reference(spawner.pod_name, "a-uid")
        made = [pod, spawner.secret(owner)]
        if spawner.services_enabled:
            made.append(spawner.get_service_manifest(owner, spawner.port))
        async with ApiClient() as client:
            return tuple(client.sanitize_for_serialization(one) for one in made)

    made = asyncio.run(make())
    kinds = ("Pod", "Secret", "Service")[: len(made)]
    documents = [{"apiVersion": "v1", "kind": kind, **one} for kind, one in zip(kinds, made, strict=True)]
    return (*documents, {}) if len(made) == 2 else tuple(documents)


@pytest.fixture(autouse=True)
def _own_voucher_and_no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """KubeSpawner reads the configuration of a cluster when it is made, though nothing is asked of it here."""
    monkeypatch.setattr(VouchedMixin, "_voucher", None)
    (tmp_path / "config").write_text(CLUSTER)
    monkeypatch.setattr("kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))


def test_a_temporary_servers_pod_is_unprivileged_and_its_token_a_file(tmp_path: Path) -> None:
    pod, secret = pod_and_secret(tmp_path, "anonymous")
    kubernetes_validate.validate(pod, VERSION, strict=True)
    kubernetes_validate.validate(secret, VERSION, strict=True)
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert container["image"] == REQUEST.image
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsGroup": 1000,
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["resources"]["limits"] == {"cpu": 1.5, "memory": 2**30}
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert not [name for name in environment if name.startswith(("JUPYTERHUB", "JPY"))]
    token = Voucher(KEYS).token(REQUEST.id)
    assert token not in str(pod)
    assert secret["stringData"] == {"token": token}
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "a-uid"
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/run/casabinder/token"]["subPath"] == "token"
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["casabinder-token"]["secret"] == {"secretName": secret["metadata"]["name"], "defaultMode": 0o440}
    assert volumes["casabinder-secrets"]["emptyDir"]["medium"] == "Memory"
    assert pod["metadata"]["labels"]["org.casabinder.env-id"] == REQUEST.env_id
    assert pod["metadata"]["annotations"]["org.casabinder.digest"] == REQUEST.digest
    assert "--ServerApp.base_url=/user/agc-0a1b2c3d/" in container["args"]


def test_a_pod_has_time_to_give_its_workers_back(tmp_path: Path) -> None:
    pod, _ = pod_and_secret(tmp_path, "anonymous")
    assert pod["spec"]["terminationGracePeriodSeconds"] == STOP_SECONDS
    pod, _ = pod_and_secret(tmp_path, "anonymous", delete_grace_period=90)
    assert pod["spec"]["terminationGracePeriodSeconds"] == 90
    kubernetes_validate.validate(pod, VERSION, strict=True)


def test_a_pod_for_cuda_asks_for_gpus_where_the_site_says(tmp_path: Path) -> None:
    nodes = {"node_selector": {"accelerator": "nvidia"}, "extra_pod_config": {"runtimeClassName": "nvidia"}}
    pod, *_ = pod_and_more(
        tmp_path, "anonymous", replace(REQUEST, gpus=1), **nodes, extra_resource_limits={"example.org/fpga": "1"}
    )
    kubernetes_validate.validate(pod, VERSION, strict=True)
    (container,) = pod["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert limits == {"cpu": 1.5, "memory": 2**30, "example.org/fpga": "1", "nvidia.com/gpu": "1"}
    assert pod["spec"]["runtimeClassName"] == "nvidia"
    assert pod["spec"]["nodeSelector"] == {"accelerator": "nvidia"}


def test_a_persons_pod_has_a_home_and_no_token_of_ours(tmp_path: Path) -> None:
    claim = {"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}
    mount = {"name": "home", "mountPath": "/home/jovyan"}
    pod, _ = pod_and_secret(tmp_path, "login", volumes=[claim], volume_mounts=[mount])
    kubernetes_validate.validate(pod, VERSION, strict=True)
    (container,) = pod["spec"]["containers"]
    assert container["args"] == ["jupyterhub-singleuser"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/home/jovyan", "/run/casabinder"]
    assert "JUPYTER_TOKEN_FILE" not in {entry["name"] for entry in container["env"]}


def test_a_pods_workers_are_jobs_and_its_token_for_them_a_directory_of_files(tmp_path: Path) -> None:
    key = tmp_path / "POOL"
    key.write_bytes(b"k" * 64)
    key.chmod(0o600)
    settings = htcondor_pool(user="facility", signing_key=str(key)).model_dump(mode="json", exclude_defaults=True)
    pod, secret = pod_and_secret(tmp_path, "anonymous", pool=settings, pool_seconds=600)
    kubernetes_validate.validate(pod, VERSION, strict=True)
    kubernetes_validate.validate(secret, VERSION, strict=True)
    (container,) = pod["spec"]["containers"]
    names = [entry["name"] for entry in container["env"]]
    environment = {entry["name"]: entry for entry in container["env"]}
    # Kubernetes puts the address in where the variable comes before.
    assert names.index("POD_IP") < names.index("CASABINDER_POOL")
    assert environment["POD_IP"]["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    told = json.loads(environment["CASABINDER_POOL"]["value"])
    assert (told["kind"], told["address"], "contact" in told) == ("htcondor", "$(POD_IP)", False)
    token = secret["stringData"]["pool-token"]
    assert (len(token.split(".")), token in str(pod)) == (3, False)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/run/casabinder/condor"] == {
        "name": "casabinder-pool",
        "mountPath": "/run/casabinder/condor",
        "readOnly": True,
    }
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["casabinder-pool"]["secret"] == {
        "secretName": secret["metadata"]["name"],
        "defaultMode": 0o440,
        "items": [{"key": "pool-token", "path": "token"}],
    }


def test_a_pods_workers_ask_for_gpus_if_its_image_is_for_cuda(tmp_path: Path) -> None:
    key = tmp_path / "POOL"
    key.write_bytes(b"k" * 64)
    key.chmod(0o600)
    pool = htcondor_pool(user="facility", signing_key=str(key), gpus=2)
    settings = pool.model_dump(mode="json", exclude_defaults=True)
    cuda = {"org.casabinder.cuda": "12.9", "org.casabinder.cuda-driver": "12.0"}
    for labels, wanted in ((cuda, (1, "12.0")), ({}, (0, ""))):
        pod, *_ = pod_and_more(tmp_path, "anonymous", replace(REQUEST, cuda=labels), pool=settings, pool_seconds=600)
        environment = {entry["name"]: entry for entry in pod["spec"]["containers"][0]["env"]}
        told = json.loads(environment["CASABINDER_POOL"]["value"])
        assert (told["gpus"], told["cuda_driver"]) == wanted


def test_a_pod_behind_the_sites_proxy_is_reached_by_its_name(tmp_path: Path) -> None:
    key = tmp_path / "POOL"
    key.write_bytes(b"k" * 64)
    key.chmod(0o600)
    pool = htcondor_pool(user="facility", signing_key=str(key), exposure="sni", domain="dask.example.org:443")
    settings = pool.model_dump(mode="json", exclude_defaults=True)
    pod, _, service = pod_and_more(tmp_path, "anonymous", pool=settings)
    kubernetes_validate.validate(service, VERSION, strict=True)
    environment = {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]}
    name = pod["metadata"]["name"]
    assert service["metadata"]["name"] == name
    assert [port["port"] for port in service["spec"]["ports"]] == [8888, 8786]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert json.loads(environment["CASABINDER_POOL"])["contact"] == f"tls://{name}.dask.example.org:443"


class _SecretHandler(RequestHandler):
    """Stands for the API server: takes what is changed in a Secret."""

    def initialize(self, taken: list[tuple[str, str, Any]], status: int) -> None:
        self.taken, self.answer = taken, status

    def patch(self) -> None:
        content = self.request.headers["Content-Type"]
        self.taken.append((self.request.path, content, json.loads(self.request.body)))
        self.set_status(self.answer)
        self.finish({"apiVersion": "v1", "kind": "Secret", "metadata": {}})


@pytest.mark.parametrize(("status", "due"), [(200, False), (403, True)])
def test_a_renewed_token_comes_into_the_secret(tmp_path: Path, status: int, due: bool) -> None:
    key = tmp_path / "POOL"
    key.write_bytes(b"k" * 64)
    key.chmod(0o600)
    settings = htcondor_pool(user="facility", signing_key=str(key)).model_dump(mode="json", exclude_defaults=True)
    taken: list[tuple[str, str, Any]] = []

    async def renew() -> VouchedKubeSpawner:
        server = HTTPServer(Application([(".*", _SecretHandler, {"taken": taken, "status": status})]))
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        spawner = VouchedKubeSpawner(_mock=True, mode="anonymous", pool=settings, namespace="jupyter")
        configuration = Configuration(host=f"http://127.0.0.1:{sockets[0].getsockname()[1]}")
        async with ApiClient(configuration) as client:
            spawner.api = CoreV1Api(client)
            assert spawner.pool_token_is_due
            await spawner.renew_pool_token()
        server.stop()
        return spawner

    spawner = asyncio.run(renew())
    ((path, content, changed),) = taken
    assert path == f"/api/v1/namespaces/jupyter/secrets/{spawner.pod_name}"
    assert content == "application/strategic-merge-patch+json"
    assert len(changed["stringData"]["pool-token"].split(".")) == 3
    assert spawner.pool_token_is_due is due
