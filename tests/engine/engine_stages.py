"""Stages for other processes, apart from the methods so that those processes need no torch."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from torchspectral.errors import BadInput


@dataclass
class Square:
    """A stage that takes longer for early items."""

    die_at: int = -1
    fail_at: int = -1

    def read(self, item):
        return item

    def compute(self, loaded):
        time.sleep(0.02 if loaded % 3 == 0 else 0)
        if loaded == self.fail_at:
            raise BadInput(f"item {loaded}")
        if loaded == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return loaded**2

    def write(self, done):
        return done
