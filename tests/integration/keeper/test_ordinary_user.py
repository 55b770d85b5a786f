"""All of this folder once more as an ordinary user, when the tests run as root."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ORDINARY = "54321"
SLOW = "not beyond_its_window and not what_was_declared"


@pytest.mark.skipif(os.getuid() != 0, reason="the tests run as an ordinary user already")
def test_the_same_without_root():
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        user = ("setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups")
        pytest_command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={place}/t")
        command = (*user, "--inh-caps=-all", "--bounding-set=-all", *pytest_command, "-k", SLOW, str(HERE))
        env = {"PATH": os.environ["PATH"], "HOME": place, "TMPDIR": place, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=env, cwd=HERE.parents[2], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        print(done.stdout.splitlines()[-1])
