"""The `clustercl` command: finds the subcommands, turns errors into one sentence and an exit code."""

import gc
import os
import signal
import sys
import threading
from importlib import import_module

import click

# Every command sits in a module of its own, imported when it is asked for, so that --help stays instant.
COMMANDS = {
    "train": "train",
    "autoencode": "stages",
    "cluster": "stages",
    "pretrain": "stages",
    "finetune": "stages",
    "evaluate": "evaluate",
    "predict": "predict",
    "compare": "compare",
    "export": "export",
    "report": "report",
    "data": "data",
    "config": "config",
    "bench": "bench",
    "info": "info",
}


class LazyGroup(click.Group):
    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        if name not in COMMANDS:
            return None
        module = import_module(f"clustercl.cli.{COMMANDS[name]}")
        return getattr(module, name if COMMANDS[name] != name else "command")

    def resolve_command(self, ctx, args):
        if args and args[0] not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else "; clustercl --help lists the commands"
            raise click.UsageError(f"there is no command '{args[0]}'{hint}")
        return super().resolve_command(ctx, args)


def print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        from clustercl import __version__

        click.echo(f"clustercl {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=print_version, help="Show it.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; allowed anywhere on the line.")
def cli(debug: bool):
    """Learn from images that nobody labelled, then segment with the few that somebody did.

    \b
    Start here:
      clustercl train --task skin --preset tiny --out runs/first     (demo data, minutes on two cores)
      clustercl train --task heart --data MMWHS --gpus 4 --out runs/heart
    """


def main(argv: list[str] | None = None) -> None:
    """Entry point: exit 0, 1 on bad data or a failed run, 2 on bad usage, 130 on Ctrl-C, 143 on SIGTERM or a time
    limit."""
    open_closed_streams()
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    end_imports_at_once(argv)
    try:
        code = run(argv, debug)
        gc.freeze()  # at its end Python would look through all that is left, several times
        sys.exit(code)
    except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def say_stopped(argv: list[str]) -> None:
    goes_on = argv[:1] and argv[0] in ("train", "compare", "autoencode", "pretrain", "finetune")
    click.echo("clustercl: stopped" + "; the same command goes on where this one stopped" * bool(goes_on), err=True)


def end_imports_at_once(argv: list[str]) -> None:
    """Let Ctrl-C end the process while torch is imported, when nothing has begun: torch forgets what is raised while it
    imports numpy itself, and the command would go on with half of numpy."""

    def told(number, frame) -> None:
        torch = sys.modules.get("torch")
        if getattr(getattr(torch, "__spec__", None), "_initializing", False):
            say_stopped(argv)
            os._exit(130)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # nobody else gets signals
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the caller wants it ignored
        signal.signal(signal.SIGINT, told)


def open_closed_streams() -> None:
    """Give /dev/null to standard streams that the caller closed (2>&-): Python has None for them, which libraries do
    not expect, and a file of the run that got their number would take what is written to them."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            try:
                os.fstat(number)
            except OSError:
                os.dup2(null, number)
            setattr(sys, name, os.fdopen(null, "r" if number == 0 else "w"))


def say_usage(error: click.ClickException) -> None:
    """Click's own errors in the one shape that all others have; a group without a command shows its help."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.2
        error.show()
        return
    text = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    hint = "" if context is None or "id you mean" in text else f"; {context.command_path} --help tells more"
    click.echo(f"clustercl: {text}{hint}", err=True)


def run(argv: list[str], debug: bool = False) -> int:
    """Run one command line and return its exit code; `debug` lets exceptions through."""
    from clustercl.errors import ClusterclError
    from clustercl.launcher import started_rank

    try:
        return cli.main(argv, prog_name="clustercl", standalone_mode=False) or 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt) as stopped:
        if getattr(stopped, "told", False):  # by the first of several processes
            return 130
        say_stopped(argv)
        return 130
    except click.ClickException as error:
        if debug:
            raise
        if not started_rank():  # what is wrong with the command line, the first tells
            say_usage(error)
        return error.exit_code
    except BrokenPipeError:
        raise
    except ClusterclError as error:
        if debug:
            raise
        rank = started_rank()
        if not error.told and not (rank and error.joint):
            # Its own view of files and devices: another may have found nothing wrong.
            click.echo(f"clustercl: {f'process {rank}: ' * bool(rank)}{error}", err=True)
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        if not getattr(error, "told", False):
            text = " ".join(str(error).split()) or "no further word"
            click.echo(f"clustercl: {type(error).__name__}: {text} (--debug shows where)", err=True)
        return 1
