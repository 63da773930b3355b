"""The container deployment agrees with the Compose specification, our settings and our metrics."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from streams import telemetry
from streams.evaluation import recent
from streams.settings import PREFIX, Settings
from workers.devstack.cache import JARS

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "docker-compose.yml"
OPS = ROOT / "ops"
DASHBOARD = OPS / "grafana" / "dashboards" / "driftloop.json"
PROMETHEUS = OPS / "prometheus" / "prometheus.yml"
ALERTS = OPS / "prometheus" / "alerts.yml"
TELEMETRY = ROOT / "streams" / "telemetry.py"

STATEFUL = ("score", "label", "trainer")
"""Workers that use a directory."""
WORKERS = (*STATEFUL, "evaluate", "shadow")
RUN_AS_ROOT: dict[str, str] = {}
"""Services that run as root, each with its reason: none does."""


def compose_schema() -> Path:
    """The schema that check-jsonschema carries, found without importing its command line."""
    package = metadata.distribution("check-jsonschema")
    (schema,) = [f for f in package.files or () if f.name == "compose-spec.json"]
    return Path(str(package.locate_file(schema)))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = load(COMPOSE)
    return content


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def test_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    schema = json.loads(compose_schema().read_text())
    Draft7Validator.check_schema(schema)
    errors = [f"{e.json_path}: {e.message}" for e in Draft7Validator(schema).iter_errors(compose)]
    assert errors == []


RELEASE = r"v?\d+\.\d+(\.\d+)?(-[\w.]+)?"
DIGEST = r"@sha256:[0-9a-f]{64}"
BY_TAG = {"driftloop", "tritonserver"}
"""Ours is built here; of Triton's the operator's registry says the digest."""


def test_every_image_is_pinned_to_a_release(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        image, _, tag = service["image"].rpartition("/")[2].partition(":")
        assert re.fullmatch(RELEASE if image in BY_TAG else RELEASE + DIGEST, tag), name


def test_kafka_is_the_one_of_the_embedded_stack(services: dict[str, dict[str, Any]]) -> None:
    pinned = [line.split()[0].split(":") for line in JARS.read_text().splitlines()]
    versions = {version for group, _, version in pinned if group == "org.apache.kafka"}
    images = {service["image"].partition("@")[0] for service in services.values()}
    assert {image for image in images if "kafka:" in image} == {
        f"apache/kafka:{version}" for version in versions
    }


def test_base_image_is_pinned_and_of_a_python_that_we_support() -> None:
    dockerfile = (OPS / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    found = [re.fullmatch(rf"python:3\.(\d+)\.\d+(-slim)?-bookworm{DIGEST}", one) for one in stages]
    minors = [int(one[1]) for one in found if one]
    assert len(minors) == len(stages) == 2
    assert 11 <= minors[0] == minors[1] <= 13


def test_every_service_has_a_healthcheck(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        check = service["healthcheck"]
        assert check["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert {"interval", "timeout", "retries", "start_period"} <= check.keys(), name


def test_no_service_runs_as_root(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        user = service.get("user", "root").partition(":")[0]
        assert (user in {"root", "0"}) == (name in RUN_AS_ROOT), name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
    assert re.search(r"^USER 1000:1000$", (OPS / "Dockerfile").read_text(), re.MULTILINE)


def test_state_lives_in_named_volumes(compose: dict[str, Any]) -> None:
    used = set()
    for name, service in compose["services"].items():
        for volume in service.get("volumes", ()):
            source, _, target = volume.partition(":")
            if source.startswith("."):
                assert (ROOT / source).is_dir(), name
                assert target.endswith(":ro"), f"{name}: state in the working tree"
            else:
                used.add(source)
    assert used == compose["volumes"].keys()


def test_only_the_trainer_writes_the_model_repository(services: dict[str, dict[str, Any]]) -> None:
    mounts = {
        name: volume
        for name, service in services.items()
        for volume in service.get("volumes", ())
        if volume.startswith("model_repo:")
    }
    assert mounts.pop("trainer") == "model_repo:/models"
    assert mounts.keys() == {"triton", "triton-gpu", "score", "label"}
    assert set(mounts.values()) == {"model_repo:/models:ro"}


def test_ports_are_published_on_loopback_only(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name


def test_restarts_and_waits_for_healthy_servers(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert service["restart"] == "unless-stopped"
        for dependency, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            assert dependency in services
    for worker in WORKERS:
        waits_for = services[worker]["depends_on"].keys()
        assert waits_for == {"kafka", "redis", "triton", "triton-gpu"}


def test_one_triton_runs_whatever_the_profile(services: dict[str, dict[str, Any]]) -> None:
    """`.env` chooses the profile; both servers answer to the same name on the network."""
    assert "COMPOSE_PROFILES=cpu" in (ROOT / ".env").read_text().splitlines()
    by_profile = {s["profiles"][0]: s for s in services.values() if "profiles" in s}
    assert by_profile.keys() == {"cpu", "gpu"}
    for service in by_profile.values():
        assert service["networks"]["default"]["aliases"] == ["triton"]
        assert "--model-control-mode=explicit" in service["command"]
    same = {k: v for k, v in by_profile["gpu"].items() if k not in {"deploy", "profiles"}}
    assert same == {k: v for k, v in by_profile["cpu"].items() if k != "profiles"}
    for worker in WORKERS:
        assert not services[worker]["depends_on"]["triton"]["required"]
        assert not services[worker]["depends_on"]["triton-gpu"]["required"]


def test_kafka_is_reached_from_containers_and_from_the_host(
    services: dict[str, dict[str, Any]],
) -> None:
    environment = services["kafka"]["environment"]
    advertised = environment["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert advertised == ["INTERNAL://kafka:19092", "HOST://localhost:9092"]
    assert services["kafka"]["ports"] == ["127.0.0.1:9092:9092"]
    for worker in WORKERS:
        assert f"INTERNAL://{services[worker]['environment']['DRIFTLOOP_KAFKA']}" in advertised


@pytest.mark.parametrize("worker", WORKERS)
def test_workers_get_settings_that_exist_and_parse(
    services: dict[str, dict[str, Any]], worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: dict[str, Any] = services[worker]["environment"]
    ours = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    assert all(isinstance(value, str) for value in ours.values()), "quote it in the YAML"
    unknown = {name.removeprefix(PREFIX).lower() for name in ours} - Settings.model_fields.keys()
    assert unknown == set()
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.kafka == "kafka:19092"
    assert settings.triton == "triton:8001"
    assert settings.triton_instances == 2
    assert settings.redis.get_secret_value() == "redis://redis:6379/0"
    assert settings.pipeline == services[worker]["command"][2]
    mounted = {volume.split(":")[1] for volume in services[worker].get("volumes", ())}
    assert ({str(settings.model_repository), str(settings.state_dir)} <= mounted) == (
        worker in STATEFUL
    )


def test_image_sets_only_settings_that_exist_and_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = dict(re.findall(rf"\b{PREFIX}(\w+)=(\S+)", (OPS / "Dockerfile").read_text()))
    assert pairs
    assert {name.lower() for name in pairs} <= Settings.model_fields.keys()
    for name, value in pairs.items():
        monkeypatch.setenv(PREFIX + name, value)
    Settings()


def test_workers_run_the_image_that_the_dockerfile_builds(
    services: dict[str, dict[str, Any]],
) -> None:
    for worker in WORKERS:
        service = services[worker]
        assert service["build"] == {"context": ".", "dockerfile": "ops/Dockerfile"}
        assert service["command"][:2] == ["driftloop", worker]
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (OPS / "Dockerfile").read_text(), re.MULTILINE)
    copied += re.findall(r"^COPY (ops/\S+) ", (OPS / "Dockerfile").read_text(), re.MULTILINE)
    allowed = (OPS / "Dockerfile.dockerignore").read_text().splitlines()
    for source in {name for line in copied for name in line.split()}:
        assert f"!{source}" in allowed, source


def test_prometheus_scrapes_every_worker_and_triton(services: dict[str, dict[str, Any]]) -> None:
    config = load(PROMETHEUS)
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for worker in WORKERS:
        (discovery,) = jobs[worker]["dns_sd_configs"]
        assert discovery["names"] == [worker]
        assert str(discovery["port"]) == services[worker]["environment"]["DRIFTLOOP_METRICS_PORT"]
    assert jobs["triton"]["static_configs"] == [{"targets": ["triton:8002"]}]
    assert all((PROMETHEUS.parent / name).is_file() for name in config["rule_files"])


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    rules = [rule for group in load(ALERTS)["groups"] for rule in group["rules"]]
    names = [rule["alert"] for rule in rules]
    assert len(names) == len(set(names))
    runbook = (OPS / "README.md").read_text()
    for rule in rules:
        assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "action"}
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert f"`{rule['alert']}`" in runbook, "describe it in ops/README.md"


def test_grafana_finds_its_datasource_and_dashboard(services: dict[str, dict[str, Any]]) -> None:
    provisioning = OPS / "grafana" / "provisioning"
    (source,) = load(provisioning / "datasources" / "prometheus.yml")["datasources"]
    (provider,) = load(provisioning / "dashboards" / "driftloop.yml")["providers"]
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert source["url"] == "http://prometheus:9090"
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert {t["datasource"]["uid"] for t in panel["targets"]} == {source["uid"]}
    mounted = dict(volume.split(":")[:2][::-1] for volume in services["grafana"]["volumes"])
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (ROOT / mounted[str(home.parent)] / home.name) == DASHBOARD


def mentioned_metrics() -> Iterator[tuple[str, str]]:
    """Each `driftloop_*` metric that a dashboard or an alert asks for, with its place."""
    for path in (DASHBOARD, ALERTS):
        for name in re.findall(r"driftloop_[a-z_]+", path.read_text()):
            yield re.sub(r"_(bucket|sum|count)$", "", name), path.name


def test_dashboards_and_alerts_ask_for_metrics_that_exist() -> None:
    text = TELEMETRY.read_text()
    ast.parse(text)
    exported = set(re.findall(r"driftloop_[a-z_]+", text))
    missing = {
        (name, place)
        for name, place in mentioned_metrics()
        if name not in exported and name.removesuffix("_total") not in exported
    }
    assert missing == set()
    assert len({name for name, _ in mentioned_metrics()}) >= 14


def test_grafana_shows_live_quality_and_the_shadow() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = "".join(target["expr"] for panel in panels for target in panel.get("targets", ()))
    (gauge,) = telemetry.LIVE_QUALITY.describe()
    for measure in recent.MEASURES:
        assert f'measure="{measure}"' in asked, measure
        assert measure in gauge.documentation
    for name in ("live_events", "shadowed_total", "challenger_version"):
        assert f"driftloop_{name}" in asked
    said = "".join(panel.get("description", "") for panel in panels)
    assert f"last {recent.BUCKETS} complete buckets" in said
    places = [tuple(panel["gridPos"].values()) for panel in panels]
    cells = [(x + i, y + j) for x, y, w, h in places for i in range(w) for j in range(h)]
    assert len(set(cells)) == len(cells), "panels lie on one another"


def test_every_panel_of_ours_follows_the_chosen_pipeline() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    (variable,) = dashboard["templating"]["list"]
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            if "driftloop_" in target["expr"]:
                assert f'pipeline=~"${variable["name"]}"' in target["expr"], panel["title"]
