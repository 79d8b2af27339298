"""Snakemake with the status poll of remote executors capped at FASTPOLL seconds; for tests, by `DFGS_SNAKEMAKE`.

The slurm plugin waits 10 s longer after each poll in which no job ended, up to 180 s, and no option turns that off.
"""

import os
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

CAP = float(os.environ.get("FASTPOLL", "1"))
planned = RemoteExecutor.next_seconds_between_status_checks
RemoteExecutor.next_seconds_between_status_checks = property(lambda self: min(planned.fget(self), CAP), planned.fset)

if __name__ == "__main__":
    sys.exit(main())
