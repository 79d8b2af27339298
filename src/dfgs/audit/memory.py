"""How much a process grows while something runs."""

import resource
import sys
from pathlib import Path
from types import TracebackType

PROCESS = Path("/proc/self")


class PeakMemory:
    """Context manager: `growth` is by how many bytes the process's resident memory rose above its start at its highest.

    On Linux the kernel's own high-water mark, set back at the start; where it cannot be set back (macOS), the growth of
    the highest ever, so that a second block that needs less than a first shows 0. Memory that was freed and is still
    held by the process does not count again.
    """

    growth: float = 0.0

    def __enter__(self) -> "PeakMemory":
        try:
            (PROCESS / "clear_refs").write_text("5")
            self._start = _status("VmRSS")
            self._end = "VmHWM"
        except OSError:
            self._start, self._end = _highest_ever(), ""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        highest = _status(self._end) if self._end else _highest_ever()
        self.growth = max(0.0, highest - self._start)


def _status(name: str) -> float:
    """Bytes of a line of the process's status, which gives them in kB."""
    lines = (PROCESS / "status").read_text(encoding="utf-8").splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _highest_ever() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
