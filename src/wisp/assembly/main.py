"""The ``wisp`` program: hands the machine's facade to the command line, and turns errors into exit statuses."""

import sys

import click

from wisp.assembly.machine import Machine
from wisp.assembly.planning import InfeasibleError
from wisp.assembly.settings import Settings
from wisp.interfaces.cli.echo import cli
from wisp.primitives.errors import DescriptionError, MissingPrerequisite, WispError

FAILED, WRONG, LACKING, INFEASIBLE, INTERRUPTED = 1, 2, 3, 4, 130


def main() -> None:
    """Run the command line."""
    try:
        status = cli.main(obj=Machine(Settings.from_environment()), standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = WRONG
    except (click.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        status = FAILED
    except WispError as error:
        click.echo(_message(error), err=True)
        status = exit_status(error)
    sys.exit(status)


def exit_status(error: WispError) -> int:
    """Give the exit status that stands for an error."""
    match error:
        case DescriptionError():
            return WRONG
        case MissingPrerequisite():
            return LACKING
        case InfeasibleError():
            return INFEASIBLE
        case _:
            return FAILED


def _message(error: WispError) -> str:
    if isinstance(error, DescriptionError):
        count = len(error.problems)
        return f"{error}\n{count} problem{'s' if count != 1 else ''}; nothing was changed"
    return f"wisp: {error}"
