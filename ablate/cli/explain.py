"""Mistakes of a command line in one line with the remedy, where Hydra, OmegaConf and argparse have texts of their own.

The form of an override is looked at before Hydra reads it, its name after Hydra has refused it: then the overrides are
gone through as Hydra goes through them, so that nothing here depends on the words of its messages.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationResolutionError, MissingMandatoryValue
from omegaconf.errors import OmegaConfBaseException as OmegaConfError

from ablate.cli.overrides import shell_word
from ablate.project import CONF
from ablate.recipe.build import meant, unknown_key
from ablate.records import UserError
from ablate.terminal import one_line

ALONE = ("run", "multirun", "cfg", "info", "shell_completion")
"""Options of which one command has at most one."""
BRACKETS = {"(": ")", "[": "]", "{": "}"}
OF_LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm")
"""Launchers that an extra of this package brings."""
LONGEST = 60
"""Characters of what was given that a line repeats."""


class Places:
    """Where configuration is looked for: in `conf/`, where plugins say, and where the command line says."""

    def __init__(self, overrides: Sequence[str] = (), config_dir: str | None = None) -> None:
        """Overrides count that name places of their own (`hydra.searchpath`)."""
        self._given = [text for text in overrides if text.lstrip("+").startswith("hydra.searchpath=")]
        self._config_dir = config_dir

    @functools.cached_property
    def _loader(self) -> ConfigLoaderImpl:
        places = create_config_search_path(str(CONF))
        if self._config_dir is not None:
            own = f"file://{Path(self._config_dir).absolute()}"
            places.prepend("command-line", own, SearchPathQuery(provider="schema"))
        return ConfigLoaderImpl(places)

    def options(self, group: str) -> list[str]:
        """Return the files of a group; none when it is no group."""
        return sorted(self._loader.get_group_options(group, overrides=self._given))

    @functools.cached_property
    def groups(self) -> list[str]:
        """The groups that a person chooses from."""
        names = self._loader.get_group_options("", ObjectType.GROUP, overrides=self._given)
        return sorted(group for group in names if group != "hydra")

    def composed(self, overrides: Sequence[str]) -> DictConfig:
        """Return the configuration under overrides."""
        return self._loader.load_configuration("config", [*self._given, *overrides], RunMode.RUN)

    @functools.cached_property
    def plain(self) -> DictConfig:
        """The configuration without any override."""
        return self.composed([])

    def top(self, base: DictConfig) -> list[str]:
        """Return what may stand first in a key: parts of a configuration, and groups."""
        return sorted({*map(str, base), *self.groups} - {"hydra"})

    def chosen(self, group: str, option: str) -> str:
        """Return a choice as the command line takes it: with a plus where nothing is chosen so far."""
        return f"{'' if group in self.plain.hydra.runtime.choices else '+'}{group}={option}"


def explained(program: Callable[[], Any]) -> Callable[[], None]:
    """Return a program of Hydra that ends with one line and exit code 2 for every mistake of its command line."""

    @functools.wraps(program)
    def main() -> None:
        try:
            overrides, config_dir = check_command_line(sys.argv[1:])
            with in_words(overrides, config_dir), _errors_raised():
                program()
        except UserError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            raise SystemExit(2) from None

    return main


@contextlib.contextmanager
def in_words(overrides: Sequence[str] = (), config_dir: str | None = None) -> Iterator[None]:
    """Raise UserError in the place of what Hydra, OmegaConf and YAML raise while a configuration is composed."""
    try:
        yield
    except (HydraException, OmegaConfError, yaml.YAMLError) as error:
        raise UserError(explain(error, overrides, Places(overrides, config_dir))) from error
    except ValueError as error:  # bare ones of Python's and of Hydra's
        if "integer string conversion" in str(error):
            raise UserError("a whole number in the configuration has more than 4300 digits; shorten it") from error
        if "Config group override must be" in str(error):
            wrong = [text for text in overrides if re.fullmatch(r"\+*[\w/]+=([\d.+-]+|null)", text, re.I)]
            groups = [*Places(overrides, config_dir).groups, "hydra"]
            choices = [text for text in wrong if text.lstrip("+").partition("=")[0] in groups]
            raise UserError(
                f"{', '.join(choices or wrong)}: the choice of a group is the name of a file, no number and not null"
            ) from error
        raise


@contextlib.contextmanager
def _errors_raised() -> Iterator[None]:
    """Let Hydra raise what it would print."""
    name = "HYDRA_FULL_ERROR"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def check_command_line(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return overrides and `--config-dir` of a program of Hydra; raises UserError for arguments that make no sense."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; python -m ablate.run --help shows what there is")

    parser.error = refuse  # type: ignore[method-assign]
    given, rest = parser.parse_known_args(list(arguments))
    for word in rest:
        if word.startswith("-"):
            options = [option for action in parser._actions for option in action.option_strings]
            raise UserError(
                f"{word} is no option; values are given as key=value, and options are: "
                f"{', '.join(options)}{meant(word, options)}"
            )
    if rest:
        flags = [word for word in arguments if word.startswith("-")]
        raise UserError(
            f"{rest[0]} is cut off from the other values by {flags[0]}; write options first, then all "
            f"values: {' '.join([*flags, *given.overrides, *rest])}"
        )
    asked = [f"--{name.replace('_', '-')}" for name in ALONE if getattr(given, name)]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)} exclude each other; leave one of them out")
    if given.resolve and not given.cfg and not given.help:
        raise UserError("--resolve goes with --cfg job; add that, or leave --resolve out")
    if given.config_dir is not None and not Path(given.config_dir).is_dir():
        raise UserError(f"--config-dir {given.config_dir} is no folder; correct the path")
    places = Places(given.overrides, given.config_dir)
    many = given.multirun or any(text.startswith("hydra.mode=") for text in given.overrides)
    for text in given.overrides:
        check_form(text, places, many=many)
    return list(given.overrides), given.config_dir


def check_form(text: str, places: Places, *, many: bool) -> None:
    """Raise UserError for an override that cannot be read, has no key, or is a sweep without `-m`."""
    key, equals, value = text.partition("=")
    shown, name = _short(text), key.lstrip("+~")
    if not equals and not key.startswith("~"):
        choices = [places.chosen(group, text) for group in places.groups if text in places.options(group)]
        arms = f"; did you mean {' or '.join(choices)}?" if choices else ""
        raise UserError(f"{shown!r} is no key=value (both, without spaces around =){arms}")
    if not re.match(r"[\w$]", name):
        raise UserError(f"{shown!r} has no key before =; write key=value")
    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError, RecursionError) as error:
        raise UserError(_malformed(key, value, error)) from error
    if override.is_sweep_override() and not many:
        raise UserError(
            f"{shown} is a list of values, one for each run: write -m before it (python -m ablate.run -m "
            f"{shown}); one value that is a list has brackets: {_short(f'{key}=[{value}]')}; as one text: "
            f"{_short(shell_word(key, value))}"
        )
    if "." in name or "@" in name or override.is_sweep_override():
        return
    is_text = isinstance(override.value(), (str, list, type(None))) or override._value is None
    added = override.is_add() or override.is_force_add()
    if (added or not is_text) and (options := places.options(name)):
        if not is_text:
            raise UserError(
                f"{shown}: {name} is a group, whose values are files: {', '.join(options)}; its keys are "
                f"set one by one: {name}.KEY=…"
            )
    elif added and "/" not in name and name not in places.plain:
        raise UserError(unknown_key(name, places.top(places.plain)))


def _malformed(key: str, value: str, error: BaseException) -> str:
    """Return what is wrong with the form of an override."""
    shown = _short(f"{key}={value}")
    if "integer string conversion" in str(error):
        return f"{shown} is a number of {len(value)} digits; shorten it"
    if isinstance(error, RecursionError):
        return f"{shown} has brackets in brackets, too deep to be read; flatten it"
    if not re.fullmatch(r"[+~]{0,2}[\w./@:$-]+", key):
        return f"{shown}: {_short(key)!r} is no key; write key=value, with a dot between the parts of a key"
    if value.startswith("="):
        return f"{shown} has two =; write {_short(key + '=' + value.lstrip('='))}"
    if re.fullmatch(r"(choice|range|interval|tag|int|float|shuffle|sort|glob)\(.*\)", value):
        return f"{shown} cannot be read; there are choice(a, b), range(start, stop, step), interval(low, high)"
    quoted = f"as one text: {_short(shell_word(key, value))}"
    for quote in ("'", '"'):
        if value.count(quote) % 2:
            return f"{shown}: the quotation mark {quote} is not closed; close it, or {quoted}"
    open_brackets = []
    for sign in re.sub(r"'[^']*'|\"[^\"]*\"", "", value):
        if sign in BRACKETS:
            open_brackets.append(sign)
        elif sign in BRACKETS.values() and (not open_brackets or BRACKETS[open_brackets.pop()] != sign):
            return f"{shown}: {sign} closes what is not open; leave it out, or {quoted}"
    if open_brackets:
        return f"{shown}: {open_brackets[-1]} is not closed by {BRACKETS[open_brackets[-1]]}; close it, or {quoted}"
    if value.endswith(",") or value.startswith(",") or ",," in value:
        return f"{shown}: a comma has no value beside it; leave it out"
    return f"{shown} holds characters with a meaning of their own; {quoted}"


def explain(error: Exception, overrides: Sequence[str], places: Places) -> str:
    """Return what is wrong with a configuration that Hydra, OmegaConf or YAML refused, in one line."""
    if isinstance(error, MissingConfigException):
        return _missing_file(error, overrides, places)
    if isinstance(error, ConfigCompositionException):
        words = _wrong_name(overrides, places)
        if words is not None:
            return words
    if isinstance(error, OmegaConfError):
        return _wrong_value(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}:{mark.line + 1}: {error.problem or error.context}; correct the YAML"
    texts = [str(part).strip().splitlines()[0] for part in (error, error.__cause__) if str(part or "").strip()]
    return ": ".join(texts)


def _missing_file(error: MissingConfigException, overrides: Sequence[str], places: Places) -> str:
    """Return which choice of a group does not exist, and which ones do."""
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return f"{choice or 'a configuration'} is not found in {CONF}; leave --config-name and --config-path out"
    options = sorted(error.options or places.options(group))
    given = [text for text in overrides if text.lstrip("+") == f"{group}={choice}"]
    elsewhere = [other for other in places.groups if other != group and choice in places.options(other)]
    text = f"{given[0] if given else f'{group}={choice}'}: there is no {choice!r} in {group}"
    if choice in OF_LAUNCHERS and group == "hydra/launcher":
        return f'{text}: it comes with the extra `launchers`: pip install -e ".[launchers]"'
    if elsewhere:
        text += f", but {places.chosen(elsewhere[0], choice)}"
    return f"{text}; there are: {', '.join(options) or 'none'}{meant(choice, options)}"


def _wrong_name(overrides: Sequence[str], places: Places) -> str | None:
    """Return which override names what is not there, or what is there already; None when it is none of them."""
    parsed = [OverridesParser.create().parse_override(text) for text in overrides]
    chosen, groups = set(places.plain.hydra.runtime.choices), list[Override]()
    for override in parsed:
        name, value = override.key_or_group, str(override.input_line).partition("=")[2]
        if not places.options(name):
            if override.package is not None:
                return f"{override.input_line}: {name} is no group; there are: {', '.join(places.groups)}"
            continue
        if name in {other.key_or_group for other in groups} and override.is_add():
            return f"{override.input_line}: {name} is given twice; leave one of them out"
        if override.is_add() and name in chosen:
            return f"{override.input_line}: there is one {name} already, which is changed without +: {name}={value}"
        if override.is_delete() and name not in chosen:
            return f"{override.input_line}: no {name} is chosen, so that there is nothing to leave out"
        if not override.is_add() and not override.is_delete() and name not in chosen:
            return f"{override.input_line}: no {name} is chosen so far, so it is added with +: +{name}={value}"
        chosen.add(name)
        groups.append(override)
    chosen_once = [str(override.input_line) for override in groups if not override.is_sweep_override()]
    try:
        base = places.composed(chosen_once)
    except (HydraException, OmegaConfError):
        return None
    for override in parsed:
        if override not in groups:
            words = _wrong_key(override, base, places, groups)
            if words is not None:
                return words
    return None


def _wrong_key(override: Override, base: DictConfig, places: Places, groups: Sequence[Override]) -> str | None:
    """Return what is wrong with the key of an override; adds it to the configuration when it is a new one."""
    key, text = override.key_or_group, str(override.input_line)
    node: Any = base
    path: list[str] = []
    for part in key.split("."):
        if not isinstance(node, DictConfig):
            if OmegaConf.is_list(node):
                return f"{text}: {'.'.join(path)} is a list, which is given as a whole: {'.'.join(path)}=[…]"
            return f"{text}: {'.'.join(path)} is a value and has no keys; write {'.'.join(path)}=…"
        if part not in [str(name) for name in node]:
            if override.is_add() or override.is_force_add():
                OmegaConf.update(base, key, None, force_add=True)
                return None
            taken = [str(other.input_line) for other in groups if not path and other.key_or_group == part]
            if taken:
                return f"{taken[-1]}: {part} is a group of keys, and {text} is one of them; leave {taken[-1]} out"
            everywhere = _ending_in(base, part) if not path else []
            known = [str(name) for name in node if name != "_target_"] if path else places.top(base)
            words = unknown_key(part, known, ".".join(path))
            return f"{words}; did you mean {' or '.join(everywhere)}?" if everywhere else words
        path.append(part)
        node = node._get_node(part)
    if override.is_add() and not isinstance(override.value(), (dict, list)):
        return f"{text}: {key} is there already and is changed without +: {text.lstrip('+')}"
    return None


def _ending_in(base: DictConfig, name: str) -> list[str]:
    """Return the dotted keys below the top whose last part is a name."""
    keys = []
    for top in base:
        node = base._get_node(top)
        if top != "hydra" and isinstance(node, DictConfig) and name in [str(key) for key in node]:
            keys.append(f"{top!s}.{name}")
    return keys


def _wrong_value(error: OmegaConfError) -> str:
    """Return which value cannot be resolved, and why."""
    place = error.full_key or str(error.key or "") or "the configuration"
    text = str(error.msg or error).strip().splitlines()[0]
    if isinstance(error, MissingMandatoryValue):
        return f"{place} has no value and needs one: add {place}=…"
    variable = re.search(r"Environment variable '(.*)' not found", text)
    if variable:
        return f"{place}: the environment variable {variable[1]} is not set; set it, or give the value itself"
    missing = re.search(r"key '(.*)' not found", text)
    if isinstance(error, InterpolationKeyError) and missing:
        return (
            f"{place}: ${{{missing[1]}}} refers to a key that is not there; give the value itself, or correct the key"
        )
    if isinstance(error, InterpolationResolutionError):
        return f"{place}: {text}; give the value itself, or correct what stands in ${{…}}"
    return f"{place}: {text}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
