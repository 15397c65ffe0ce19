"""Settings from text and plain values: dotted keys, the kinds of values, and rebuilding nested dataclasses."""

import difflib
import math
import tomllib
import types
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from clustercl.errors import UsageError

T = TypeVar("T")
NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def flatten(content: dict, prefix: str = "") -> dict[str, Any]:
    """{"data": {"size": 1}} to {"data.size": 1}."""
    flat = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nested(flat: dict[str, Any]) -> dict:
    """The inverse of `flatten`. UsageError where a key is both a value and a section."""
    content: dict = {}
    for key, value in flat.items():
        *sections, last = key.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UsageError(f"{key}: {section} is a value, not a section")
        if isinstance(place.get(last), dict):
            raise UsageError(f"{key}: is a section, set one of its keys: {', '.join(place[last])}")
        place[last] = value
    return content


def plain(value):
    """Tuples to lists, inside dicts as well: what JSON would give back."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def parse_assignment(text: str) -> tuple[str, Any]:
    """Key and value of "KEY=VALUE". The value is read as TOML, else as a comma list of it, else taken as text."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise UsageError(f"--set {text}: wanted KEY=VALUE, as in --set data.size=128")
    for attempt in (value, f"[{value}]" if "," in value else value):
        try:
            return key, tomllib.loads(f"value = {attempt}")["value"]
        except tomllib.TOMLDecodeError:
            continue
    return key, value


def rebuild(kind: type[T], content: dict, prefix: str = "", known: Sequence[str] = ()) -> T:
    """A dataclass from plain values. UsageError naming the dotted key, and for an unknown one the nearest of `known`,
    by default those of this dataclass."""
    hints, known = get_type_hints(kind), known or known_keys(kind, prefix)
    values = {}
    for key, value in content.items():
        if key not in hints:
            # Of a section that does not exist its first key, as that tells which one was meant.
            raise _unknown(next(iter(flatten({prefix + key: value})), prefix + key), known)
        values[key] = coerce(value, hints[key], prefix + key, known)
    return kind(**values)


def _unknown(key: str, known: Sequence[str]) -> UsageError:
    # A key given without its section, or in the wrong one, is nearer than any misspelling.
    called_so = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
    near = difflib.get_close_matches(key, called_so or known, n=1, cutoff=0.0 if called_so else 0.4)
    section = [name for name in known if name.startswith(key.rpartition(".")[0] + ".")]
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(section or known)}"
    return UsageError(f"there is no setting {key}: {hint}")


def known_keys(kind: type, prefix: str = "") -> list[str]:
    """Dotted names of all settings of a nested dataclass."""
    hints, names = get_type_hints(kind), []
    for item in fields(kind):
        hint = hints[item.name]
        names += known_keys(hint, f"{prefix}{item.name}.") if is_dataclass(hint) else [prefix + item.name]
    return names


def require_known(kind: type, key: str) -> None:
    """UsageError, with the nearest one, where a nested dataclass has no setting of this dotted name."""
    known = known_keys(kind)
    if key not in known:
        raise _unknown(key, known)


def coerce(value, hint, key: str, known: Sequence[str] = ()):
    """`value` as the kind that `hint` asks for. UsageError where it is of another."""
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise UsageError(f"{key}: is a section, set one of its keys: {', '.join(known_keys(hint, key + '.'))}")
        return rebuild(hint, value, key + ".", known)
    if get_origin(hint) in (Union, types.UnionType):
        for option in get_args(hint):
            try:
                return coerce(value, option, key)
            except UsageError:
                continue
        raise UsageError(f"{key}: wanted {' or '.join(NAMES[option] for option in get_args(hint))}, got {value!r}")
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        items = value if isinstance(value, list | tuple) else [value]
        wanted = len(items) if kinds[-1] is Ellipsis else len(kinds)
        if len(items) != wanted or isinstance(value, str):
            raise UsageError(f"{key}: wanted a list of {wanted} values, got {value!r}")
        return tuple(coerce(item, kinds[0], key) for item in items)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UsageError(f"{key}: wanted {NAMES[hint]}, got {value!r}")
    if hint is float and not math.isfinite(value):
        raise UsageError(f"{key}: wanted a finite number, got {value}")
    return value
