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
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationResolutionError, MissingMandatoryValue
from omegaconf.errors import OmegaConfBaseException as OmegaConfError

from ablate.config import meant, unknown_key
from ablate.records import UserError

CONF = Path(__file__).resolve().parent.parent / "conf"
ALONE = ("run", "multirun", "cfg", "info", "shell_completion")
"""Options of which one command has at most one."""
BRACKETS = {"(": ")", "[": "]", "{": "}"}
OF_LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm")
"""Launchers that an extra of this package brings."""
LONGEST = 60
"""Characters of what was given that a line repeats."""


def explained(program: Callable[[], Any]) -> Callable[[], None]:
    """Return a program of Hydra that ends with one line and exit code 2 for every mistake of its command line."""

    @functools.wraps(program)
    def main() -> None:
        try:
            overrides = check_command_line(sys.argv[1:])
            with in_words(overrides), _errors_raised():
                program()
        except UserError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            raise SystemExit(2) from None

    return main


@contextlib.contextmanager
def in_words(overrides: Sequence[str] = (), loader: Any = None) -> Iterator[None]:
    """Raise UserError in the place of what Hydra, OmegaConf and YAML raise while a configuration is composed."""
    try:
        yield
    except (HydraException, OmegaConfError, yaml.YAMLError) as error:
        raise UserError(explain(error, overrides, loader)) from error
    except ValueError as error:
        if "integer string conversion" not in str(error):
            raise
        raise UserError("a whole number in the configuration has more than 4300 digits; shorten it") from error


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


def check_command_line(arguments: Sequence[str]) -> list[str]:
    """Return the overrides among the arguments of a program of Hydra; raises UserError for what has no sense."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; python -m ablate.run --help shows what there is")

    parser.error = refuse  # type: ignore[method-assign]
    given, rest = parser.parse_known_args(list(arguments))
    for word in rest:
        if word.startswith("-"):
            options = [option for action in parser._actions for option in action.option_strings]
            raise UserError(f"{word} is no option; values are given as key=value, and options are: "
                            f"{', '.join(options)}{meant(word, options)}")  # fmt: skip
    if rest:
        flags = [word for word in arguments if word.startswith("-")]
        raise UserError(f"{rest[0]} is cut off from the other values by {flags[0]}; write options first, then all "
                        f"values: {' '.join([*flags, *given.overrides, *rest])}")  # fmt: skip
    asked = [f"--{name.replace('_', '-')}" for name in ALONE if getattr(given, name)]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)} exclude each other; leave one of them out")
    if given.resolve and not given.cfg and not given.help:
        raise UserError("--resolve goes with --cfg job; add that, or leave --resolve out")
    if given.config_dir is not None and not Path(given.config_dir).is_dir():
        raise UserError(f"--config-dir {given.config_dir} is no folder; correct the path")
    loader = functools.cache(functools.partial(_loader, given.config_dir))
    many = given.multirun or any(text.startswith("hydra.mode=") for text in given.overrides)
    for text in given.overrides:
        check_form(text, loader, many=many)
    return list(given.overrides)


def check_form(text: str, loader: Callable[[], Any], *, many: bool) -> None:
    """Raise UserError for an override that cannot be read, has no key, or is a sweep without `-m`."""
    key, equals, value = text.partition("=")
    shown, name = _short(text), key.lstrip("+~")
    if not equals and not key.startswith("~"):
        found = [group for group in _groups(loader()) if text in loader().get_group_options(group)]
        arms = "; did you mean " + " or ".join(f"{_chosen(loader(), group)}={text}" for group in found) + "?"
        raise UserError(f"{shown!r} is no key=value (both, without spaces around =){arms if found else ''}")
    if not re.match(r"[\w$]", name):
        raise UserError(f"{shown!r} has no key before =; write key=value")
    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError, RecursionError) as error:
        raise UserError(_malformed(key, value, error)) from error
    if override.is_sweep_override() and not many:
        raise UserError(f"{shown} is a list of values, one for each run: write -m before it (python -m ablate.run -m "
                        f"{shown}); one value that is a list has brackets: {_short(f'{key}=[{value}]')}")  # fmt: skip
    if "." in name or "@" in name or override.is_sweep_override():
        return
    is_text = isinstance(override.value(), (str, list, type(None))) or override._value is None
    added = override.is_add() or override.is_force_add()
    if (not is_text or added) and loader().get_group_options(name):
        if not is_text:
            options = ", ".join(loader().get_group_options(name))
            raise UserError(f"{shown}: {name} is a group, whose values are files: {options}; its keys are set one by "
                            f"one: {name}.KEY=…")  # fmt: skip
    elif added and "/" not in name and name not in _plain(loader()):
        raise UserError(unknown_key(name, _top(_plain(loader()), loader())))


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
    quoted = f"quote a value with special characters twice: {_quoted(key, value)}"
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
    return f"{shown} cannot be read; {quoted}"


def _quoted(key: str, value: str) -> str:
    """Return an override as a shell passes it on with its special characters."""
    return f"'{key}=\"{_short(value.strip(chr(34) + chr(39)))}\"'"


def explain(error: Exception, overrides: Sequence[str] = (), loader: Any = None) -> str:
    """Return what is wrong with a configuration that Hydra, OmegaConf or YAML refused, in one line."""
    if isinstance(error, MissingConfigException):
        return _missing_file(error, overrides, loader or _loader())
    if isinstance(error, ConfigCompositionException):
        words = _wrong_name(overrides, loader or _loader())
        if words is not None:
            return words
    if isinstance(error, OmegaConfError):
        return _wrong_value(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}:{mark.line + 1}: {error.problem or error.context}; correct the YAML"
    texts = [str(part).strip().splitlines()[0] for part in (error, error.__cause__) if str(part or "").strip()]
    return ": ".join(texts)


def _missing_file(error: MissingConfigException, overrides: Sequence[str], loader: Any) -> str:
    """Return which choice of a group does not exist, and which ones do."""
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return f"{choice or 'a configuration'} is not found in {CONF}; leave --config-name and --config-path out"
    options = sorted(error.options or loader.get_group_options(group, overrides=_search_paths(overrides)))
    given = [text for text in overrides if text.lstrip("+") == f"{group}={choice}"]
    elsewhere = [other for other in _groups(loader) if other != group and choice in loader.get_group_options(other)]
    text = f"{given[0] if given else f'{group}={choice}'}: there is no {choice!r} in {group}"
    if choice in OF_LAUNCHERS and group == "hydra/launcher":
        return f'{text}: it comes with the extra `launchers`: pip install -e ".[launchers]"'
    if elsewhere:
        text += f", but {_chosen(loader, elsewhere[0])}={choice}"
    return f"{text}; there are: {', '.join(options) or 'none'}{meant(choice, options)}"


def _wrong_name(overrides: Sequence[str], loader: Any) -> str | None:
    """Return which override names what is not there, or what is there already; None when it is none of them."""
    parsed = [OverridesParser.create().parse_override(text) for text in overrides]
    chosen, groups = set(_plain(loader).hydra.runtime.choices), []
    for override in parsed:
        name, value = override.key_or_group, str(override.input_line).partition("=")[2]
        if not loader.get_group_options(name, overrides=_search_paths(overrides)):
            if override.package is not None:
                return f"{override.input_line}: {name} is no group; there are: {', '.join(_groups(loader))}"
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
        base = loader.load_configuration("config", [*_search_paths(overrides), *chosen_once], RunMode.RUN)
    except (HydraException, OmegaConfError):
        return None
    for override in parsed:
        if override not in groups:
            words = _wrong_key(override, base, loader)
            if words is not None:
                return words
    return None


def _wrong_key(override: Override, base: DictConfig, loader: Any) -> str | None:
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
            everywhere = _ending_in(base, part) if not path else []
            known = [str(name) for name in node if name != "_target_"] if path else _top(base, loader)
            words = unknown_key(part, known, ".".join(path))
            return f"{words}; did you mean {' or '.join(everywhere)}?" if everywhere else words
        path.append(part)
        node = node._get_node(part)
    if override.is_add() and not isinstance(override.value(), (dict, list)):
        return f"{text}: {key} is there already and is changed without +: {text.lstrip('+')}"
    return None


def _ending_in(base: DictConfig, name: str) -> list[str]:
    """Return the dotted keys below the top whose last part is a name."""
    found = []
    for top in base:
        node = base._get_node(top)
        if top != "hydra" and isinstance(node, DictConfig) and name in [str(key) for key in node]:
            found.append(f"{top}.{name}")
    return found


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
        return f"{place}: ${{{missing[1]}}} refers to a key that is not there; give the value itself, or correct the key"
    if isinstance(error, InterpolationResolutionError):
        return f"{place}: {text}; give the value itself, or correct what stands in ${{…}}"
    return f"{place}: {text}"


def _loader(config_dir: str | None = None) -> Any:
    """Return a reader of `conf/` with what plugins and the command line put beside it."""
    search_path = create_config_search_path(str(CONF))
    if config_dir is not None:
        search_path.prepend("command-line", f"file://{Path(config_dir).absolute()}", SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(search_path)


def _plain(loader: Any) -> DictConfig:
    """Return the configuration without any override."""
    return loader.load_configuration("config", [], RunMode.RUN)


def _top(base: DictConfig, loader: Any) -> list[str]:
    """Return what may stand first in a key: parts of the configuration, and groups."""
    return sorted({*map(str, base), *_groups(loader)} - {"hydra"})


def _groups(loader: Any) -> list[str]:
    """Return the groups that a person chooses from."""
    return [group for group in loader.list_groups("") if group != "hydra"]


def _chosen(loader: Any, group: str) -> str:
    """Return a group as the command line names it: with a plus where the plain configuration has no choice of it."""
    return group if group in _plain(loader).hydra.runtime.choices else f"+{group}"


def _search_paths(overrides: Sequence[str]) -> list[str]:
    return [text for text in overrides if text.lstrip("+").startswith("hydra.searchpath=")]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
