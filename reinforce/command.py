"""From a config dataclass to a click command: options, help texts, one-line errors and JSON output of every verb.

A config is a frozen, keyword-only dataclass whose fields carry a docstring (the string under the field); the option's
name, type, default and help are made from it, so that a verb's command line and its Python function cannot drift apart.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import json
import os
import signal
import sys
import textwrap
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from reinforce.allocator import keep_freed_memory
from reinforce.completion import completer_of
from reinforce.decoding_workers import crowd
from reinforce.errors import NO_ROOM, ReinforceError, StoppedError, UnknownNameError, UsageError
from reinforce.printable import printable

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]  # generic only in newer releases of click
else:
    ParamType = click.ParamType

POSITIONAL = {"positional": True}
"""Field metadata of what stands on the command line without an option's name."""
REPEATED = {"repeated": True}
"""Field metadata of an option that is typed once for each of its values."""
BEFORE = "before"
"""Key of the metadata of an option that came later: what runs did before it, where that is not its default."""
DEFAULTS = "defaults"
"""Key of the metadata of a field whose value gives defaults to others: a function of the config class and the value, to
a mapping of field names. The config class itself applies them; here they only count as given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TalkOptions:
    json: bool = False
    """Print exactly one JSON object on stdout."""
    quiet: bool = False
    """No progress."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonOptions(TalkOptions):
    seed: int = 0
    """Seed of everything that is drawn."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    workers: int = -1
    """Decoding processes per device; 0 decodes in the main process, -1 chooses."""

    def __post_init__(self) -> None:
        if self.workers < -1:
            raise UsageError(f"--workers is {self.workers}: type a number of processes, or -1 to choose")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputOptions(CommonOptions):
    overwrite: bool = False
    """Replace an existing output."""
    resume: bool = False
    """Continue exactly where an earlier run stopped; start where there is none."""
    dry_run: bool = False
    """Say what would be done, and stop."""


class LazyGroup(click.Group):
    """Verbs in pipeline order, each imported when it is called: `--help` stays quick."""

    def __init__(self, *args: Any, verbs: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        """`verbs`: name -> ("module:function", one line of help)."""
        super().__init__(*args, **kwargs)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Without importing the verbs for their line of help."""
        verbs = [CompletionItem(name, help=line) for name, (_, line) in self.verbs.items()]
        return [*(verb for verb in verbs if verb.value.startswith(incomplete)),
                *click.Command.shell_complete(self, ctx, incomplete)]  # fmt: skip

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] not in self.verbs and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise UnknownNameError("verb", args[0], self.verbs)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.verbs:
            return None
        target, _ = self.verbs[name]
        module, function = target.split(":")
        return make_command(name, getattr(importlib.import_module(module), function))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.verbs.items()])


class Verb(click.Command):
    """Its usage line shows what has to be typed."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        options = [param for param in self.params if isinstance(param, click.Option) and param.required]
        return [*(f"{param.opts[0]} {param.human_readable_name.upper()}" for param in options),
                *super().collect_usage_pieces(ctx)]  # fmt: skip


def make_command(name: str, verb: Callable[[Any], Any]) -> click.Command:
    """The click command of a verb: a function of one argument, annotated with its config class."""
    (hint,) = [h for key, h in typing.get_type_hints(verb).items() if key != "return"]
    config_class: type = hint

    def callback(**values: Any) -> int:
        return _call(verb, config_class, {name: value for name, value in values.items() if _is_typed(name)})

    docs = field_docs(config_class)
    hints = typing.get_type_hints(config_class)
    params = [_parameter(field, hints[field.name], docs.get(field.name, "")) for field in _ordered(config_class)]
    for field, param in zip(_ordered(config_class), params, strict=True):
        if (defaults := field.metadata.get(DEFAULTS)) is not None:
            param.is_eager, param.callback = True, functools.partial(_take_defaults, config_class, defaults)
    return Verb(name, callback=callback, params=params, help=inspect.getdoc(verb))


def _take_defaults(config_class: type, defaults: Callable[[type, Any], Mapping[str, Any]], ctx: click.Context,
                   param: click.Parameter, value: Any) -> Any:  # fmt: skip
    if value is not None:
        ctx.default_map = dict(defaults(config_class, value))
    return value


def _is_typed(name: str) -> bool:
    """Whether an option's value is not just a default: those of the config class are the same."""
    source = click.get_current_context().get_parameter_source(name)
    return source not in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def run_group(group: click.Group, argv: Sequence[str] | None = None, *, tells_stops: bool = True) -> int:
    """Run a command line; returns its exit status. Every failure is one line on stderr (`--debug`: the traceback).

    `tells_stops`: whether also Ctrl-C and SIGTERM are, which may reach several processes of one command.
    """
    args, is_stop = list(sys.argv[1:] if argv is None else argv), False
    signal.signal(signal.SIGTERM, _interrupt)
    keep_freed_memory()
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # see `crowd`
    try:
        status = group.main(args=args, prog_name=group.name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        status, line, is_stop = 130, "interrupted", True
    except click.exceptions.Exit as error:
        return error.exit_code
    except Exception as error:
        if "--debug" in args:
            raise
        (status, line), is_stop = _explain(error), isinstance(error, StoppedError)
    else:
        return status if isinstance(status, int) else 0
    if tells_stops or not is_stop:
        click.echo(f"{group.name}: {line}", err=True)
    return status


def _interrupt(signum: int, frame: object) -> None:
    """SIGTERM stops a verb as Ctrl-C does: resumable, and saying how."""
    raise KeyboardInterrupt


def _explain(error: Exception) -> tuple[int, str]:
    """Exit status and the one line of an error."""
    if isinstance(error, click.MissingParameter) and error.ctx is not None:
        pieces = error.ctx.command.collect_usage_pieces(error.ctx)
        message = " ".join(error.format_message().split()).removesuffix(".")
        return error.exit_code, f"{message}: type {' '.join([error.ctx.command_path, *pieces])}"
    if isinstance(error, click.ClickException):
        return error.exit_code, " ".join(error.format_message().split())
    if isinstance(error, ReinforceError):
        return error.exit_code, str(error)
    if isinstance(error, OSError) and (reason := _refused(error)) is not None:
        return 1, reason
    line = " ".join(str(error).split())[:300]
    return 1, f"{type(error).__name__}: {line} (--debug shows the traceback)"


def _refused(error: OSError) -> str | None:
    """What the system did not let us do; None where it does not say what with."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno in NO_ROOM:
        return f"{error.strerror}: free some, then type the same command again"
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return "the working folder is not there any more: cd into one that is, then type the same command again"
    return None


@functools.cache
def field_docs(config_class: type) -> dict[str, str]:
    """The string literal under each field of a dataclass and of its bases: field name -> text."""
    docs: dict[str, str] = {}
    for owner in reversed(config_class.__mro__):
        if dataclasses.is_dataclass(owner):
            body = _class_body(owner)
            for field, text in itertools.pairwise(body):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_string(text):
                    docs[field.target.id] = inspect.cleandoc(text.value.value)  # type: ignore[attr-defined]
    return docs


def _class_body(owner: type) -> list[ast.stmt]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(tree, ast.ClassDef)
    return tree.body


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _ordered(config_class: type) -> list[dataclasses.Field[Any]]:
    """What has to be typed first, then other fields of its own; those that every verb has last."""
    common = {field.name for field in dataclasses.fields(OutputOptions)}
    return sorted(dataclasses.fields(config_class), key=lambda field: (field.name in common, not _is_required(field)))


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _parameter(field: dataclasses.Field[Any], hint: Any, text: str) -> click.Parameter:
    required = _is_required(field)
    option = "--" + field.name.replace("_", "-")
    if hint is bool:
        return click.Option([option, field.name], is_flag=True, default=field.default, help=text)
    kind, many = _click_type(hint)
    completion: dict[str, Any] = {"shell_complete": completer_of(field.name)}
    if field.metadata.get("positional"):
        return click.Argument([field.name], type=kind, required=required, nargs=-1 if many else 1, **completion)
    if field.metadata.get("repeated"):
        return click.Option([option, field.name], type=kind, multiple=True, required=required, help=text, **completion)
    # `required` holds only where no default is given at all: None would be one
    settings: dict[str, Any] = {"required": True} if required else {"default": field.default}
    if many and not required and field.default is not None:
        settings["default"] = ",".join(str(value) for value in field.default)  # type: ignore[union-attr]
    settings["show_default"] = not required and field.default not in (None, "", (), -1)
    kind = _CommaList(kind) if many else kind
    return click.Option([option, field.name], type=kind, help=text, **completion, **settings)


def _click_type(hint: Any) -> tuple[ParamType, bool]:
    """click's type of a field and whether it holds several values."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is tuple:
        return _click_type(typing.get_args(hint)[0])[0], True
    if typing.get_origin(hint) is typing.Literal:
        return click.Choice([str(value) for value in typing.get_args(hint)]), False
    return {str: click.STRING, int: click.INT, float: click.FLOAT}[hint], False


class _CommaList(ParamType):
    name = "list"

    def __init__(self, item: ParamType) -> None:
        self.item = item
        self.name = f"{item.name},..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(self.item.convert(str(part).strip(), param, ctx) for part in parts if str(part).strip())


def _call(verb: Callable[[Any], Any], config_class: type, values: dict[str, Any]) -> int:
    """Run the verb by what was typed and print what it returns: JSON, or its text.

    Its `exit_code`, where it has one, is the status.
    """
    config = config_class(**values)
    if line := crowd(config):
        click.echo(f"warning: {line}", err=True)
    try:
        outcome = verb(config)
    except KeyboardInterrupt:
        if not hasattr(config, "resume") or getattr(config, "dry_run", False):
            raise
        how = "--resume instead of --overwrite" if getattr(config, "overwrite", False) else "--resume"
        raise StoppedError(f"stopped: type the same command with {how} to continue") from None
    if config.json:
        data = outcome if isinstance(outcome, Mapping) else outcome.to_json()
        click.echo(json.dumps(data))
    elif isinstance(outcome, Mapping):
        click.echo(printable("\n".join(f"{key}: {value}" for key, value in outcome.items()), keep="\n"))
    else:
        click.echo(printable(str(outcome), keep="\n\t"))
    return int(getattr(outcome, "exit_code", 0))
