"""Dockerfiles as they may be built: what the engine would fetch by itself, or read otherwise than we do, is refused."""

from __future__ import annotations

import pytest

from runner.dockerfile import check_triggers, read_dockerfile
from runner.errors import Refused

WHOLE = """\ufeff# syntax=docker/dockerfile:1
# escape=`
ARG VERSION=3.12 OTHER="x y-z"
ARG IMAGE=python:${VERSION}-slim
from ${IMAGE} AS Build
RUN echo a `\r
  # a comment, and an empty line

  && echo b
FROM scratch
COPY --from=build /x /y
COPY --from=0 --chown=1:1 /x /y
COPY --from=busybox:1 /x /y
ADD --chown=1 local.tar ["/y"]
FROM build as last
ONBUILD RUN make
CMD ["x"]"""
WRITTEN = """# escape=`
ARG VERSION=3.12 OTHER="x y-z"
ARG IMAGE=python:${VERSION}-slim
FROM sha256:python:3.12-slim AS build
LABEL a="1" b="2"
RUN echo a   && echo b
FROM scratch
LABEL a="1" b="2"
COPY --from=build /x /y
COPY --from=0 --chown=1:1 /x /y
COPY --from=sha256:busybox:1 /x /y
ADD --chown=1 local.tar ["/y"]
FROM build AS last
LABEL a="1" b="2"
ONBUILD RUN make
CMD ["x"]
"""


def test_what_is_built_is_what_was_checked() -> None:
    """One line an instruction, and every image by the id that it was resolved to, so that the engine fetches none."""
    recipe = read_dockerfile(WHOLE.replace('OTHER="x y-z"', 'OTHER="x"'))
    assert recipe.images == ("python:3.12-slim", "busybox:1")
    written = recipe.written({name: f"sha256:{name}" for name in recipe.images}, {"a": "1", "b": "2"})
    assert WRITTEN.replace('OTHER="x y-z"', 'OTHER="x"') == written
    assert read_dockerfile(written).images == ("sha256:python:3.12-slim", "sha256:busybox:1")


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("FROM a\nFROM 0", ("a", "0")),
        ("FROM a\nCOPY --from=0 x y\nCOPY --from=1 x y", ("a", "1")),
        ("ARG A\nFROM ${A:-b}", ("b",)),
        ("ARG A=x\nARG B=$A/y\nFROM $B:1", ("x/y:1",)),
        ("FROM a AS Python\nFROM python", ("a",)),
        ("FROM a\nARG A=evil\nRUN x", ("a",)),
    ],
)
def test_the_images_that_it_needs_are_known_by_name(text: str, images: tuple[str, ...]) -> None:
    """Those are pulled as the queue's file says, and must be on its list."""
    assert images == read_dockerfile(text).images


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no FROM"),
        ("RUN x", "no FROM"),
        ("FROM a\0", "is no text"),
        ("FROM", "breaks off"),
        ("FROM a b", "FROM takes"),
        ("FROM --platform=x a", "FROM takes"),
        ("FROM a AS b c", "FROM takes"),
        ("FROM a AS -x", "FROM takes"),
        ("FROM $A", "has no default"),
        ("ARG A\nFROM $A", "has no default"),
        ("FROM a$(b)", "names no image"),
        ('ARG A="x y"\nFROM $A', "ARG before FROM"),
        ("# escape=x\nFROM a", "escape=x"),
        ("FROM a\nFOO x", "'FOO' is no instruction"),
        ("FROM a\nRUN <<EOF\necho\nEOF", "'echo' is no instruction"),
        ("FROM a\nRUN x \\\\\n", "breaks off"),
        ("FROM a\nRUN --mount=type=bind,from=b x", "RUN takes no options"),
        ("FROM a\nADD http://169.254.169.254/ /x", "line 2: ADD takes plain"),
        ("FROM a\nadd ht\\\n# comment\n\ntp://x /", "line 2: ADD takes plain"),
        ('FROM a\nADD ["http:\\u002f/x", "/"]', "ADD takes plain"),
        ("FROM a\nENV A=http://x\nADD $A /", "line 3: ADD takes plain"),
        ("FROM a\nADD git@x:y.git /", "ADD takes plain"),
        ("# escape=`\nFROM a\nADD htt`\np://x /", "ADD takes plain"),
        ("FROM a\nONBUILD ADD https://x /", "ADD takes plain"),
        ("FROM a\nONBUILD COPY --from=b x y", "ONBUILD COPY takes no"),
        ("FROM a\nONBUILD FROM b", "ONBUILD FROM is not"),
        ("FROM a\nCOPY --from=$A x y", "COPY takes --chown"),
        ("FROM a\nCOPY --fr\\om=b x y", "COPY takes --chown"),
        ('FROM a\nCOPY --"from"=b x y', "COPY takes --chown"),
        ("FROM a\nCOPY --from=b --from=c x y", "COPY takes --chown"),
        ("FROM a\nCOPY -- --from=b x y", "COPY takes --chown"),
        ("FROM a\nADD --from=b x y", "ADD takes --chown"),
        ("FROM a\nLABEL gpu-runner.box=1", "the runner's own"),
    ],
)
def test_what_the_engine_might_fetch_or_read_otherwise_is_refused(text: str, words: str) -> None:
    with pytest.raises(Refused) as told:
        read_dockerfile(text)
    assert words in str(told.value)


def test_triggers_of_an_image_are_held_to_the_same_rules() -> None:
    check_triggers("a", ("RUN make", "COPY . /src", 'CMD ["x"]'))
    for trigger in ("ADD http://x /", "COPY --from=b x y", "ONBUILD RUN x", "add\thttp://x /", "EVIL x"):
        with pytest.raises(Refused, match="image a is not built upon"):
            check_triggers("a", ("RUN make", trigger))
