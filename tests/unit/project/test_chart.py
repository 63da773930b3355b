"""The Helm chart as it is rendered: Kubernetes would take it, and it agrees with our image.

Without Helm: what it made is committed, and begins with the digest of what it was made from.
"""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from streams.settings import PREFIX, Settings
from streams.telemetry import WANTED_WORKERS
from workers.roles import Role

ROOT = Path(__file__).parents[3]
CHART = ROOT / "ops" / "chart"
SCHEMAS = Path(__file__).parent / "schemas"
VARIANTS = ("gpu", "production", "small")
HEALTH = ["python", "/opt/driftloop/healthcheck.py"]

Object = dict[str, Any]


def rendering() -> Any:
    """`ops/chart/render.py`."""
    spec = importlib.util.spec_from_file_location("render_chart", CHART / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schemas() -> dict[str, Object]:
    """A schema by kind."""
    found = {}
    for path in SCHEMAS.glob("*.json"):
        definitions = json.loads(path.read_text())["definitions"]
        for kind in definitions:
            if kind[0].isupper():
                found[kind] = {"$ref": f"#/definitions/{kind}", "definitions": definitions}
    return found


def objects(variant: str) -> list[Object]:
    text = (CHART / "rendered" / f"{variant}.yaml").read_text()
    return [one for one in yaml.safe_load_all(text) if one]


def of_kind(variant: str, *kinds: str) -> dict[str, Object]:
    """By name."""
    return {o["metadata"]["name"]: o for o in objects(variant) if o["kind"] in kinds}


def pods(variant: str) -> dict[str, Object]:
    """What each workload runs, by the workload's name."""
    found = of_kind(variant, "Deployment", "StatefulSet")
    return {name: one["spec"]["template"] for name, one in found.items()}


def environment(template: Object) -> dict[str, Object]:
    [container] = template["spec"]["containers"]
    return {one["name"]: one for one in container.get("env", [])}


def covers(selector: Object, labels: Object) -> bool:
    return bool(selector["matchLabels"].items() <= labels.items())


def test_there_is_a_rendering_for_each_values_file() -> None:
    assert tuple(rendering().variants()) == VARIANTS
    assert {path.stem for path in (CHART / "rendered").iterdir()} == set(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_rendering_is_of_the_chart_as_it_is(variant: str) -> None:
    first, *_ = (CHART / "rendered" / f"{variant}.yaml").read_text().splitlines(keepends=True)
    assert first == rendering().head(variant), "run `python ops/chart/render.py`, with Helm 3"


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_object_is_what_its_kind_takes(variant: str) -> None:
    known = schemas()
    for one in objects(variant):
        errors = [e.message for e in Draft7Validator(known[one["kind"]]).iter_errors(one)]
        assert errors == [], (one["kind"], one["metadata"]["name"])


def test_a_field_that_no_kind_has_is_found() -> None:
    [score] = [one for one in objects("small") if one["metadata"]["name"].endswith("-score")]
    wrong = copy.deepcopy(score)
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    validator = Draft7Validator(schemas()["Deployment"])
    assert not validator.is_valid(wrong)
    assert validator.is_valid(score)


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_are_unique_and_selectors_find_their_pods(variant: str) -> None:
    found = objects(variant)
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names))
    labels = [template["metadata"]["labels"] for template in pods(variant).values()]
    for one in of_kind(variant, "Deployment", "StatefulSet", "PodDisruptionBudget").values():
        assert sum(covers(one["spec"]["selector"], own) for own in labels) == 1
    for one in of_kind(variant, "Service").values():
        assert any(one["spec"]["selector"].items() <= own.items() for own in labels)


@pytest.mark.parametrize("variant", VARIANTS)
def test_workers_run_roles_of_the_image_with_settings_that_there_are(variant: str) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    more = {"scale"} if variant == "production" else set()
    roles = set(Role) | more if more else set(Role) - {Role.SHADOW}
    workers = {name: one for name, one in pods(variant).items() if not name.endswith("-triton")}
    assert set(workers) == {f"driftloop-{role}" for role in roles}
    for name, template in workers.items():
        [container] = template["spec"]["containers"]
        assert container["args"][:2] == ["driftloop", name.removeprefix("driftloop-")]
        assert environment(template).keys() <= known
        assert {"DRIFTLOOP_RESERVED_CPUS", "DRIFTLOOP_RESERVED_GIB"} <= environment(template).keys()
        for probe in ("startupProbe", "livenessProbe"):
            assert container[probe]["exec"]["command"] == HEALTH
    assert "healthcheck.py /opt/driftloop/healthcheck.py" in (ROOT / "ops/Dockerfile").read_text()


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_told_as_reserved_is_requested(variant: str) -> None:
    for template in pods(variant).values():
        [container] = template["spec"]["containers"]
        told, asked = environment(template), container["resources"]["requests"]
        if told:
            cpus = float(told["DRIFTLOOP_RESERVED_CPUS"]["value"])
            gib = float(told["DRIFTLOOP_RESERVED_GIB"]["value"])
            assert asked == {"cpu": f"{cpus * 1000:.0f}m", "memory": f"{gib * 1024:.0f}Mi"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_pod_has_more_rights_than_it_needs(variant: str) -> None:
    for name, template in pods(variant).items():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            writes = [m for m in container["volumeMounts"] if m["name"] == "models"]
            may_write = [not m.get("readOnly") for m in writes]
            assert may_write in ([], [name == "driftloop-trainer"])
            mounted = {m["name"] for m in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_triton_is_named_and_one_trainer_runs(variant: str) -> None:
    """A version is loaded into each of them: one name for several would load it into one."""
    [triton] = of_kind(variant, "StatefulSet").values()
    name, many = triton["metadata"]["name"], triton["spec"]["replicas"]
    assert of_kind(variant, "Service")[triton["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
    told = environment(pods(variant)["driftloop-score"])["DRIFTLOOP_TRITON"]["value"]
    assert told.split(",") == [f"{name}-{n}.{name}:8001" for n in range(many)]
    trainer = of_kind(variant, "Deployment")["driftloop-trainer"]["spec"]
    assert (trainer["replicas"], trainer["strategy"]) == (1, {"type": "Recreate"})


def test_workers_are_as_many_as_the_scaler_says_within_bounds() -> None:
    scaled = of_kind("production", "ScaledObject")
    workers = {f"driftloop-{role}" for role in ("score", "label", "evaluate", "shadow")}
    assert set(scaled) == workers
    deployments, services = of_kind("production", "Deployment"), of_kind("production", "Service")
    told = environment(pods("production")["driftloop-scale"])["DRIFTLOOP_WORKERS"]["value"]
    for name, one in scaled.items():
        spec, role = one["spec"], name.removeprefix("driftloop-")
        target = deployments[spec["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"], "two would set it"
        [trigger] = spec["triggers"]
        [gauge] = WANTED_WORKERS.describe()
        assert (
            f'{gauge.name}{{namespace="driftloop",role="{role}"}}' in trigger["metadata"]["query"]
        )
        assert trigger["metadata"]["threshold"] == "1"
        partitions = environment(target["spec"]["template"])["DRIFTLOOP_PARTITIONS"]["value"]
        assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= int(partitions)
        found = services[told.format(role=role).partition(":")[0]]["spec"]
        labels = target["spec"]["template"]["metadata"]["labels"]
        assert found["clusterIP"] == "None"
        assert found["selector"].items() <= labels.items()
    assert of_kind("small", "ScaledObject") == {}
    assert "driftloop-scale" not in pods("small")


def test_production_keeps_secrets_out_and_survives_a_node() -> None:
    for template in pods("production").values():
        for one in environment(template).values():
            secret = one["name"] in ("DRIFTLOOP_KAFKA_PASSWORD", "DRIFTLOOP_REDIS")
            assert ("valueFrom" in one) is secret
    guarded = set(of_kind("production", "PodDisruptionBudget"))
    assert guarded == {f"driftloop-{r}" for r in ("score", "label", "evaluate", "shadow", "triton")}
    assert set(of_kind("production", "NetworkPolicy")) == {"driftloop-workers", "driftloop-triton"}


def test_gpus_go_to_triton_and_training() -> None:
    held = {
        name: template["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu", 0)
        for name, template in pods("gpu").items()
    }
    assert {name for name, gpus in held.items() if gpus} == {
        "driftloop-triton",
        "driftloop-trainer",
    }
