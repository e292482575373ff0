"""``python -m hub_compat``: the command line, where no script is on PATH."""

from hub_compat.cli import run

run()
