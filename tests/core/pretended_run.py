"""`python pretended_run.py CONFIG KEY=VALUE ...` trains on the pretended device; `train` starts it.

In a process of its own, because torch asks for the devices once, before the first gradient.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def train(config: str, words: list[str]) -> None:
    done = subprocess.run([sys.executable, __file__, config, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and int(done.stdout.split()[-1]) > 0, done.stderr[-3000:]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from hunyuan_foley_core.train import command
    from tests.pretend_device import NAME, pretend_device

    with pretend_device() as crossed:
        command.run(sys.argv[1], [*sys.argv[2:], f"device={NAME}"])
    print(crossed["to device"])
