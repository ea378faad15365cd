"""What every launcher takes, and which ends of `paligax train` it starts again."""

import argparse
import re
import shlex

SAVED, LOST, STALLED = 75, 76, 79  # of paligax.training.stopping
RESTARTABLE = (SAVED, LOST, STALLED)
FINAL = (1, 2)  # an error with its message, a mistake in words or configuration: the next start would end the same way

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")


def is_restartable(code: int) -> bool:
    """Whether a process that ended so is worth another start: asked to stop, lost, stalled, or killed by a signal."""
    return code in RESTARTABLE or code < 0 or code > 128


def add_arguments(parser: argparse.ArgumentParser, named: bool = True) -> None:
    """--dry_run, --restarts, the words after -- and, of a job with a name, --name and --env."""
    parser.add_argument("--dry_run", action="store_true", help="print what would be done and do nothing")
    if named:
        parser.add_argument("--name", required=True, help="of the job: lower-case letters, digits and -, at most 40")
        parser.add_argument(
            "--env", action="append", default=[], metavar="NAME=VALUE", help="a variable of every process; repeatable"
        )
    parser.add_argument("command", nargs="+", metavar="-- VERB …", help="what `paligax` is given")


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends with a message (exit code 2) for a name, variable or number that can't be meant."""
    if not _NAME.fullmatch(arguments.name):
        parser.error(
            f"--name={arguments.name!r}: expected lower-case letters, digits and -, a letter first, at most 40 in all"
        )
    for text in arguments.env:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", text, re.DOTALL):
            parser.error(f"--env={text!r}: expected NAME=VALUE")
        if text.startswith("PALIGAX_") and text.partition("=")[0] in ("PALIGAX_COORDINATOR", "PALIGAX_PROCESS_ID"):
            parser.error(f"--env={text!r}: the launcher sets it")
    positive(parser, arguments, "restarts", least=0)


def positive(parser: argparse.ArgumentParser, arguments: argparse.Namespace, *names: str, least: int = 1) -> None:
    """Ends with a message where one of these whole numbers is too small."""
    for name in names:
        if (value := getattr(arguments, name)) < least:
            parser.error(f"--{name} must be at least {least}, got {value}")


def variables(arguments: argparse.Namespace) -> dict[str, str]:
    """Of every process, from --env."""
    return {name: value for name, _, value in (text.partition("=") for text in arguments.env)}


def words(command: list[str], slices: int = 1) -> list[str]:
    """What `paligax` is given; `train` on several slices learns how many there are."""
    if slices > 1 and command[0] == "train" and not any(w.startswith("--gin.Partitioner.slices") for w in command):
        return [*command, f"--gin.Partitioner.slices={slices}"]
    return list(command)


def shell(command: list[str]) -> str:
    return shlex.join(command)
