"""A configuration as TOML with comments, which `resolve` reads back as the very same one."""

import inspect
import json
import textwrap
from dataclasses import fields, is_dataclass

from clustercl.methods import METHODS
from clustercl.training.config import Config
from clustercl.training.settings import StageSettings

WIDTH = 100
TOP = (
    "Settings of clustercl train: change what is to be changed, pass the file with --config.",
    "seed: of split, weights, order and augmentation. split_seed: of the cases that validate and test, -1 for seed. "
    f"method: one of {', '.join(METHODS)}. "
    "label_fraction: share of the training labels that may be used. fold: 2/5 tests on the second of five "
    "parts. deterministic: only deterministic algorithms. precision: auto, 32, 16 or bf16. "
    "compile: the networks, which takes minutes, for faster steps.",
)


def to_toml(config: Config) -> str:
    """Every setting with its value; above each section what its keys mean."""
    lines = [line for text in TOP for line in _comment(text)]
    sections = []
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            sections += ["", *_about(value), f"[{item.name}]"]
            sections += [f"{inner.name} = {_value(getattr(value, inner.name))}" for inner in fields(value)]
        else:
            lines.append(f"{item.name} = {_value(value)}")
    return "\n".join([*lines, *sections]) + "\n"


def _about(settings) -> list[str]:
    text = inspect.getdoc(settings)
    if isinstance(settings, StageSettings):
        text += " " + inspect.getdoc(StageSettings)
    return _comment(text.replace("`", ""))


def _comment(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent="# ", subsequent_indent="# ")


def _value(value) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool | str):
        return json.dumps(value)
    return repr(value)  # of a float the shortest that reads back as the same
