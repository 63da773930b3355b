"""What a server of the embedded stack makes is its owner's alone, whatever it asks for."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from workers.devstack.stack import GUARD

CODE = """
import os, sys
made = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o666)
os.fchmod(made, int(sys.argv[2], 8))
"""


@pytest.mark.parametrize(
    ("wanted", "made"), [("644", 0o600), ("660", 0o600), ("606", 0o600), ("400", 0o400)]
)
def test_fchmod_opens_a_file_to_nobody_else(tmp_path: Path, wanted: str, made: int) -> None:
    path = tmp_path / "shared"
    program = [sys.executable, "-c", CODE, str(path), wanted]
    guarded = [sys.executable, "-IS", str(GUARD), str(os.getpid()), *program]
    subprocess.run(guarded, check=True, timeout=20)
    assert stat.S_IMODE(path.stat().st_mode) == made
