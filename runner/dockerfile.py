"""
A Dockerfile as the runner lets it be built: read, checked, and written anew, so that what was checked is what is built.

The engine sees one line an instruction, without comments and continuations; every image that it builds upon or copies
from stands there by its id, so that it fetches none itself. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from runner.errors import Refused

_KNOWN = frozenset({"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
                    "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"})  # fmt: skip
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_ARG = re.compile(r"([A-Za-z_]\w*)(?:=(?:\"([^\"\\]*)\"|'([^'\\]*)'|([^\s\"'\\]*)))?", re.ASCII)
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}$]*))?\})", re.ASCII)
_IMAGE = re.compile(r"[\w./:@+-]+", re.ASCII)
_STAGE = re.compile(r"[a-z][a-z0-9._-]*")
_OPTION = re.compile(r"--(from|chown|chmod)=([\w./:@+-]+)", re.ASCII)
_EMPTY = "scratch"
LABEL = "gpu-runner.build"
"""On every container and image of a build; its value keeps builds of other queues out of the engine's own cache."""


class Line(msgspec.Struct, frozen=True):
    """One instruction: its number in the file, its keyword in capitals, and all behind it."""

    number: int
    keyword: str
    rest: str


class Recipe(msgspec.Struct, frozen=True):
    """
    A Dockerfile that may be built. ``images`` are those that it needs, by name, each once.

    ``lines`` has ``{name}`` of an image in place of it where ``refers`` says so, by the line's place.
    """

    lines: tuple[Line, ...]
    images: tuple[str, ...]
    refers: dict[int, str]
    escape: str = "\\"

    def written(self, ids: Mapping[str, str], labels: Mapping[str, str]) -> str:
        """Return what the engine is to build, with images by their ids, every stage marked by labels."""
        lines = [f"# escape={self.escape}"]
        for place, line in enumerate(self.lines):
            name = self.refers.get(place)
            rest = line.rest if name is None else line.rest.replace("\0", ids[name])
            lines.append(f"{line.keyword} {rest}")
            if line.keyword == "FROM":
                lines.append(" ".join(("LABEL", *(f'{key}="{value}"' for key, value in labels.items()))))
        return "\n".join(lines) + "\n"


def read_dockerfile(text: str) -> Recipe:
    """
    Read and check a Dockerfile.

    Raises:
        Refused: it holds what is not built here, or what cannot be read; names the line.
    """
    if "\0" in text:
        raise Refused("the Dockerfile is no text")
    physical = text.removeprefix("\ufeff").split("\n")
    escape = _escape(physical)
    lines = tuple(_instructions(physical, escape))
    if not any(line.keyword == "FROM" for line in lines):
        raise Refused("the Dockerfile has no FROM: say which image to build upon")
    for line in lines:
        check_instruction(line)
    return _resolved(lines, escape)


def _escape(physical: Sequence[str]) -> str:
    """Return the character that continues a line, which directives at the top may change."""
    for line in physical:
        found = _DIRECTIVE.fullmatch(line.strip())
        if found is None or found[1].lower() not in {"escape", "syntax"}:
            return "\\"
        if found[1].lower() == "escape":
            if found[2] not in {"\\", "`"}:
                raise Refused(f"the Dockerfile has escape={found[2]}: it may be \\ or `")
            return found[2]
    return "\\"


def _instructions(physical: Sequence[str], escape: str) -> Iterator[Line]:
    """Join continued lines, without comments and empty lines between."""
    continued = re.compile(re.escape(escape) + r"[ \t]*$")
    pending, began = "", 0
    for number, raw in enumerate(physical, 1):
        line = raw.rstrip("\r")
        if line.lstrip().startswith("#") or not line.strip():
            continue
        line = line if pending else line.lstrip()
        began = began if pending else number
        if continued.search(line):
            pending += continued.sub("", line) or " "
            continue
        yield _instruction(began, pending + line, escape)
        pending = ""
    if pending.strip():
        yield _instruction(began, pending, escape)


def _instruction(number: int, text: str, escape: str) -> Line:
    keyword, _, rest = text.strip().replace("\t", " ").partition(" ")
    rest = rest.strip()
    if keyword.upper() not in _KNOWN:
        raise Refused(f"Dockerfile line {number}: {keyword[:40]!r} is no instruction")
    if rest.endswith(escape) or not rest:
        raise Refused(f"Dockerfile line {number}: {keyword.upper()} breaks off")
    return Line(number, keyword.upper(), rest)


def check_instruction(line: Line) -> None:
    """
    Let only what is built inside: the engine itself would fetch what ADD names, outside of the build's network.

    Raises:
        Refused: the instruction may not stand there.
    """
    where, rest = f"Dockerfile line {line.number}", line.rest
    if line.keyword in {"ADD", "COPY"}:
        _options(line)
    match line.keyword:
        case "ADD" if any(sign in rest for sign in ("://", "$", "\\", "`", "git@")):
            raise Refused(f"{where}: ADD takes plain paths of the context: fetch the rest as inputs of the job")
        case "RUN" if rest.startswith("--"):
            raise Refused(f"{where}: RUN takes no options here")
        case "LABEL" if "gpu-runner." in rest:
            raise Refused(f"{where}: labels of gpu-runner.* are the runner's own")
        case "ONBUILD":
            _check_later(line)
        case _:
            pass


def _check_later(line: Line) -> None:
    keyword, _, rest = line.rest.partition(" ")
    later = Line(line.number, keyword.upper(), rest.strip())
    if later.keyword not in _KNOWN - {"FROM", "MAINTAINER", "ONBUILD"}:
        raise Refused(f"Dockerfile line {line.number}: ONBUILD {later.keyword[:40]} is not built here")
    check_instruction(later)
    if later.keyword == "COPY" and "from" in _options(later)[0]:
        raise Refused(f"Dockerfile line {line.number}: ONBUILD COPY takes no --from here")


def _options(line: Line) -> tuple[dict[str, str], str]:
    """
    Part the options of ADD and COPY from what is behind them.

    Raises:
        Refused: one is written in a way that the engine might read otherwise.
    """
    options, rest = dict[str, str](), line.rest
    while rest.startswith("--"):
        word, _, rest = rest.partition(" ")
        rest = rest.lstrip()
        found = _OPTION.fullmatch(word)
        if found is None or found[1] in options or (found[1] == "from" and line.keyword != "COPY"):
            raise Refused(f"Dockerfile line {line.number}: {line.keyword} takes --chown=, --chmod=, COPY one --from=")
        options[found[1]] = found[2]
    return options, rest


def check_triggers(name: str, on_build: Sequence[str]) -> None:
    """
    Check what the makers of an image left for builds upon it.

    Raises:
        Refused: it is what no Dockerfile may say either.
    """
    for trigger in on_build:
        try:
            _check_later(Line(0, "ONBUILD", " ".join(trigger.split())))
        except Refused as error:
            raise Refused(f"image {name} is not built upon: of its ONBUILD instructions, {error}") from error


def _resolved(lines: Sequence[Line], escape: str) -> Recipe:
    """Find the images that are meant, and put a mark in place of each."""
    arguments, stages, refers = dict[str, str | None](), list[str](), dict[int, str]()
    found = list[Line]()
    for line in lines:
        name = ""
        match line.keyword:
            case "ARG" if not stages:
                _learn(line, arguments)
            case "FROM":
                line, name, stage = _base(line, arguments, stages)  # noqa: PLW2901 - the line as it is to be
                stages.append(stage)
            case "COPY":
                line, name = _copied(line, stages)  # noqa: PLW2901 - the line as it is to be
            case _:
                pass
        if name:
            refers[len(found)] = name
        found.append(line)
    return Recipe(tuple(found), tuple(dict.fromkeys(refers.values())), refers, escape)


def _learn(line: Line, arguments: dict[str, str | None]) -> None:
    """Take in the defaults of arguments before the first FROM; None for one that cannot be read."""
    for word in line.rest.split():
        found = _ARG.fullmatch(word)
        if found is None:
            raise Refused(f"Dockerfile line {line.number}: ARG before FROM takes NAME=VALUE")
        value = next((part for part in found.groups()[1:] if part is not None), None)
        arguments[found[1]] = None if value is None else _expanded(value, arguments, line)


def _expanded(text: str, arguments: Mapping[str, str | None], line: Line) -> str:
    def value(found: re.Match[str]) -> str:
        known = arguments.get(found[1] or found[2])
        if not known and found[3] is None:
            raise Refused(f"Dockerfile line {line.number}: {found[0]} has no default: give its ARG one")
        return known or found[3]

    return _VARIABLE.sub(value, text)


def _base(line: Line, arguments: Mapping[str, str | None], stages: Sequence[str]) -> tuple[Line, str, str]:
    """Return a FROM as it is to be, the image that it names ("" for an earlier stage), and its own stage's name."""
    words = line.rest.split()
    stage = ""
    if len(words) == 3 and words[1].lower() == "as" and _STAGE.fullmatch(words[2].lower()):  # noqa: PLR2004 - X as Y
        stage = words[2].lower()
    elif len(words) != 1:
        raise Refused(f"Dockerfile line {line.number}: FROM takes IMAGE, or IMAGE AS STAGE")
    image = _expanded(words[0], arguments, line)
    behind = f" AS {stage}" if stage else ""
    if image.lower() in stages or image == _EMPTY:
        return Line(line.number, "FROM", f"{image.lower()}{behind}"), "", stage
    if not _IMAGE.fullmatch(image):
        raise Refused(f"Dockerfile line {line.number}: {image[:80]!r} names no image")
    return Line(line.number, "FROM", f"\0{behind}"), image, stage


def _copied(line: Line, stages: Sequence[str]) -> tuple[Line, str]:
    """Return a COPY as it is to be, and the image that it copies from, "" for none."""
    options, rest = _options(line)
    source = options.get("from", "")
    if not source or source.lower() in stages or (source.isdigit() and int(source) < len(stages)):
        return line, ""
    options["from"] = "\0"
    words = (f"--{name}={value}" for name, value in options.items())
    return Line(line.number, "COPY", " ".join((*words, rest))), source
