"""Any YAML document as a typed model, or errors that name line, field and value."""

import copy
import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
import yaml

from monitor.config.durations import Duration, parse_duration

Path = tuple[str | int, ...]
Model = TypeVar("Model")


class Finding(NamedTuple):
    """Something wrong at a path of the document."""

    path: Path
    wrong: str
    right: str


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration file; ``line`` counts from 1."""

    line: int
    field: str
    value: str
    wrong: str
    right: str

    def __str__(self) -> str:
        """One line for a terminal, without the file's name."""
        shown = f" = {self.value}" if self.value else ""
        return f"line {self.line}: {self.field}{shown}: {self.wrong}; allowed: {self.right}"


class ConfigError(ValueError):
    """The configuration cannot be used. ``problems`` is never empty."""

    def __init__(self, problems: list[Problem], file: str = "") -> None:
        """Keep the problems and the file's name for the message."""
        self.problems = problems
        self.file = file
        super().__init__("\n".join(f"{file}: {p}" if file else str(p) for p in problems))


class _Document:
    """Plain data of a YAML document, with the line of every path."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {(): 1}
        self.problems: list[Problem] = []
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = mark.line + 1 if mark else 1
            problem = Problem(line, "(file)", "", f"not YAML: {error.problem}", "a YAML mapping")
            raise ConfigError([problem]) from error
        except yaml.YAMLError as error:
            raise ConfigError([Problem(1, "(file)", "", f"not YAML: {error}", "a YAML mapping")]) from error
        except RecursionError:
            raise _endless() from None
        self._loader = yaml.SafeLoader("")
        try:
            self.data: Any = {} if node is None else self._plain(node, ())
        except RecursionError:
            raise _endless() from None

    def _plain(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value)
                inner = (*path, key)
                self.lines[inner] = key_node.start_mark.line + 1
                if key in found:
                    line = self.lines[inner]
                    self.problems.append(Problem(line, dotted(inner), "", "given twice", "each field once"))
                found[key] = self._plain(value_node, inner)
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(each, (*path, index)) for index, each in enumerate(node.value)]
        if node.tag == "tag:yaml.org,2002:timestamp":
            return str(node.value)
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            wrong = f"not a value of {node.tag}"
            self.problems.append(Problem(self.lines[path], dotted(path), repr(node.value), wrong, "no tag"))
            return None

    def line(self, path: Path) -> int:
        """Line of the path, or of the nearest enclosing one that is in the file."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]

    def value(self, path: Path) -> Any:
        """What stands at the path, or None."""
        return _value_at(self.data, path)


def _endless() -> ConfigError:
    return ConfigError([Problem(1, "(file)", "", "nested without end", "a YAML mapping")])


def _value_at(data: Any, path: Path) -> Any:
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def parse_document(
    text: str, kind: type[Model], check: Callable[[Model], Iterable[Finding]], file: str = ""
) -> Model:
    """Parse a YAML document into ``kind``, then run ``check`` for what types cannot say.

    Raises:
        ConfigError: with every problem found, each with line, field, value and what is allowed.
    """
    try:
        return _checked(_Document(text), kind, check)
    except ConfigError as error:
        raise ConfigError(error.problems, file) from None


def _checked(document: _Document, kind: type[Model], check: Callable[[Model], Iterable[Finding]]) -> Model:
    if document.problems:
        raise ConfigError(document.problems)
    model = _convert(document, kind)
    findings = list(check(model))
    if findings:
        raise ConfigError([_located(document, finding) for finding in findings])
    return model


def _convert(document: _Document, kind: type[Model]) -> Model:
    try:
        return msgspec.convert(document.data, kind, dec_hook=decode_custom)
    except msgspec.ValidationError as error:
        raise ConfigError([_explain(document, kind, str(error))]) from None


def decode_custom(kind: type, value: Any) -> Any:
    """Hook of msgspec for the types that it does not know (:class:`Duration`)."""
    if kind is Duration:
        if not isinstance(value, str):
            raise ValueError("Expected a duration: a whole number followed by ms, s, m, h or d")
        return parse_duration(value)
    raise TypeError(f"no decoder for {kind!r}")


def encode_custom(value: Any) -> Any:
    """Inverse of :func:`decode_custom`."""
    if isinstance(value, Duration):
        return str(value)
    raise TypeError(f"no encoder for {type(value)!r}")


def _explain(document: _Document, kind: type, message: str) -> Problem:
    """A message of msgspec (``what - at `$.path```) as a :class:`Problem`."""
    what = message.partition(" - at `")[0]
    path = _path_of(document, kind, message)
    unknown = re.match(r"Object contains unknown field `(.*)`", what)
    if unknown:
        inner = (*path, unknown[1])
        allowed = _fields_at(kind, path)
        close = difflib.get_close_matches(unknown[1], allowed, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return Problem(
            document.line(inner), dotted(inner), "", "unknown field", hint + "one of " + ", ".join(allowed)
        )
    missing = re.match(r"Object missing required field `(.*)`", what)
    if missing:
        inner = (*path, missing[1])
        return Problem(document.line(path), dotted(inner), "", "missing", "this field is required")
    value = document.value(path)
    enum = _enum_at(kind, path)
    if enum is not None:
        right = "one of " + ", ".join(enum)
        return Problem(document.line(path), dotted(path), repr(value), "not one of the choices", right)
    right = what.removeprefix("Expected ")
    return Problem(document.line(path), dotted(path), _short(value), "not an allowed value", right)


def _path_of(document: _Document, kind: type, message: str) -> Path:
    """``... at `$.rules[0].window``` as ``("rules", 0, "window")``; ``[...]`` is a key that is found out."""
    steps: list[str | int] = []
    where = message.partition(" - at `")[2].rstrip("`")
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", where):
        if name:
            steps.append(name)
        elif index == "...":
            steps.append(_culprit(document, kind, tuple(steps), message))
        else:
            steps.append(int(index))
    return tuple(steps)


def _culprit(document: _Document, kind: type, path: Path, message: str) -> str:
    """The key of the mapping at ``path`` that by itself gives the same message."""
    data = copy.deepcopy(document.data)
    mapping = _value_at(data, path)
    for key, value in list(mapping.items()):
        mapping.clear()
        mapping[key] = value
        try:
            msgspec.convert(data, kind, dec_hook=decode_custom)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return str(key)
    return "..."


def dotted(path: Iterable[str | int]) -> str:
    """``("rules", 0, "window")`` as ``rules[0].window``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "(file)"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _type_at(kind: type, path: Path) -> Any:
    """The msgspec type description at a path, or None."""
    here: Any = msgspec.inspect.type_info(kind)
    for step in path:
        here = _unwrap(here)
        if isinstance(here, msgspec.inspect.StructType):
            fields = {f.encode_name: f.type for f in here.fields}
            here = fields.get(str(step))
        elif isinstance(here, msgspec.inspect.ListType):
            here = here.item_type
        elif isinstance(here, msgspec.inspect.DictType):
            here = here.value_type
        else:
            return None
    return _unwrap(here)


def _unwrap(info: Any) -> Any:
    """Look through Optional and metadata."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _unwrap(info.type)
    if isinstance(info, msgspec.inspect.UnionType):
        rest = [t for t in info.types if not isinstance(t, msgspec.inspect.NoneType)]
        return _unwrap(rest[0]) if len(rest) == 1 else info
    return info


def _fields_at(kind: type, path: Path) -> list[str]:
    info = _type_at(kind, path)
    return [f.encode_name for f in info.fields] if isinstance(info, msgspec.inspect.StructType) else []


def _enum_at(kind: type, path: Path) -> list[str] | None:
    info = _type_at(kind, path)
    if isinstance(info, msgspec.inspect.EnumType):
        return [member.value for member in cast(type[StrEnum], info.cls)]
    return None


def _located(document: _Document, finding: Finding) -> Problem:
    value = document.value(finding.path)
    shown = "" if value is None or isinstance(value, (dict, list)) else repr(value)
    return Problem(document.line(finding.path), dotted(finding.path), shown, finding.wrong, finding.right)
