"""The throughput benchmark runs, and its report is complete."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.bench.throughput import Options, run


def test_a_run_measures_and_reports_our_worker(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    run(
        Options(
            workload=["stateless"],
            events=80_000,
            rounds=1,
            seconds=20.0,
            partitions=2,
            only=["ours"],
            json=file,
        )
    )
    report = msgspec.json.decode(file.read_bytes())
    assert report["machine"]["cpus"] >= 1
    assert report["versions"]["ours"]["aiokafka"]
    result = report["workloads"]["stateless"]["contenders"]["ours"]
    assert result["rounds"][0]["complete"]
    assert 1_000 < result["events_per_second"]["median"] < 10_000_000
    assert result["ours_over_this"] == result["agreement"] == 1.0
    cost = result["cpu_us_per_event"]
    assert cost["contender"] > 0
    assert cost["kafka"] > 0
    assert cost["triton"] > 0
