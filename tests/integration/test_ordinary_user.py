"""Whole clouds once more as an ordinary user without any capability, when the tests run as root."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ORDINARY = "54321"


@pytest.mark.skipif(os.getuid() != 0, reason="the tests run as an ordinary user already")
def test_whole_clouds_without_root():
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        user = ("setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups")
        pytest_command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={place}/t")
        command = (*user, "--inh-caps=-all", "--bounding-set=-all", *pytest_command, "-m", "not slow")
        env = {"PATH": os.environ["PATH"], "HOME": place, "TMPDIR": place, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*command, str(HERE / "cloud" / "test_up_and_down.py")],
            env=env, cwd=HERE.parents[1], capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert "passed" in done.stdout
        assert "skipped" not in done.stdout
