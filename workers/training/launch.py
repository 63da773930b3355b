"""Several processes that train one candidate: `python -m workers.training.launch HOME PROCESSES`.

torchrun's own launcher starts them, lets them meet on loopback, and ends all when one ends badly.
"""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from workers.devstack.servers import ended
from workers.processes.supervisor import PARENT, end_with_parent
from workers.training.job import CUT_OFF
from workers.training.launched import LOST


def main() -> None:
    """Run the job of a directory in so many processes."""
    end_with_parent()
    home, processes = Path(sys.argv[1]), int(sys.argv[2])
    os.environ[PARENT] = str(os.getpid())
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "workers.training.child", str(home))
    except ChildFailedError as error:
        rank, failure = min(
            error.failures.items(), key=lambda one: (one[1].exitcode == LOST, one[1].timestamp)
        )
        how = ended(failure.exitcode)
        said = f"rank {rank} of {processes} ended ({how}) - the trainer's log says more"
        (home / CUT_OFF).write_text(said)
    except SignalException as told:
        sys.exit(128 + told.sigval)


if __name__ == "__main__":
    main()
