"""Break things on purpose and count what was lost: `python benchmarks/faults.py CAMPAIGN`.

Each campaign is a module `faults_<name>.py` beside this one with a click command `run`; it prints its figures and ends
with status 1 when one of them is not as promised.
"""

import importlib
from pathlib import Path

import click

HERE = Path(__file__).parent


class Campaigns(click.Group):
    """The campaigns beside this file, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(path.stem.removeprefix("faults_") for path in HERE.glob("faults_*.py"))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"faults_{name}").run
        return command


@click.group(cls=Campaigns)
def main() -> None:
    """Break things on purpose and count what was lost."""


if __name__ == "__main__":
    main()
