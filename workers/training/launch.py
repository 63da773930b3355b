"""Several processes that train one candidate: `python -m workers.training.launch HOME PROCESSES`.

torchrun's own launcher starts them, and ends all when one ends badly. They meet by a file and talk
on loopback: torch's stores for several machines listen to the network, and let anybody in.
"""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from workers.processes.supervisor import PARENT, end_with_parent
from workers.training.job import CUT_OFF, how_ended
from workers.training.launched import LOST

_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


def main() -> None:
    """Run the job of a directory in so many processes."""
    end_with_parent()
    home, processes = Path(sys.argv[1]), int(sys.argv[2])
    starting, meeting = (home.resolve() / name for name in ("starting", "meeting"))
    for file in (starting, meeting):
        file.unlink(missing_ok=True)
    os.environ[PARENT] = str(os.getpid())
    for library in ("GLOO", "NCCL"):
        os.environ[f"{library}_SOCKET_IFNAME"] = _LOOPBACK
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=str(starting),
        rdzv_configs={"store_type": "file"},
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.1,
    )
    child = ("-m", "workers.training.child", str(home), str(meeting))
    try:
        elastic_launch(config, sys.executable)(*child)
    except ChildFailedError as error:
        rank, failure = min(
            error.failures.items(), key=lambda one: (one[1].exitcode == LOST, one[1].timestamp)
        )
        how = how_ended(failure.exitcode)
        said = f"rank {rank} of {processes} {how} - the trainer's log says more"
        (home / CUT_OFF).write_text(said)
    except SignalException as told:
        sys.exit(128 + told.sigval)


if __name__ == "__main__":
    main()
