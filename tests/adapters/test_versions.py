"""Versions are ordered as dpkg orders them, and a distribution's fix under an old number is known for one."""

from __future__ import annotations

import functools
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.escapes import ESCAPES, Part, verdict
from adapters.versions import compare, is_plain, program, series

RISING = [
    "1.0.0~rc6", "1.0.0~rc93", "1.0.0~rc93+ds1-5+deb11u3", "1.0.0~rc94+ds1-2", "1.0.0", "1.1.5", "1.1.5+ds1-1",
    "1.1.5+ds1-1+b4", "1.1.5+ds1-1+deb12u1", "1.1.5+ds1-1+deb12u1+b6", "1.1.5+ds1-1+deb12u2", "1.1.5+ds1-2",
    "1.1.12-0ubuntu2~22.04.1", "1.1.12-0ubuntu2", "1.10", "2.0.0~rc3-0ubuntu1.1", "2.0.0-1", "20.10.24+dfsg1-1",
    "1:0.1",
]  # fmt: skip
VERSIONS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "0:", "1:", "12:"]),
    st.from_regex(r"[0-9][0-9a-z.+~]{0,8}", fullmatch=True),
    st.one_of(st.just(""), st.from_regex(r"-[0-9a-z.+~]{1,8}", fullmatch=True)),
)


def test_versions_rise_as_their_makers_mean() -> None:
    assert sorted(RISING, key=functools.cmp_to_key(compare)) == RISING
    assert [compare(version, version) for version in RISING] == [0] * len(RISING)
    assert (compare("1.0", "1.0-0"), compare("0:1.0", "1.0"), compare("1.00", "1.0")) == (0, 0, 0)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_it_is_an_order(one: str, two: str, three: str) -> None:
    assert compare(one, two) == -compare(two, one)
    if compare(one, two) <= 0 and compare(two, three) <= 0:
        assert compare(one, three) <= 0


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("dpkg") is None, reason="no dpkg to ask")
@settings(max_examples=60)
@given(VERSIONS, VERSIONS)
def test_dpkg_says_the_same(one: str, two: str) -> None:
    words = "eq" if compare(one, two) == 0 else ("lt" if compare(one, two) < 0 else "gt")
    assert subprocess.run(["dpkg", "--compare-versions", one, words, two], check=False).returncode == 0


@pytest.mark.parametrize(
    ("version", "own"),
    [
        ("v1.4.0-rc.3", "1.4.0~rc3"), ("1.0.0-rc93", "1.0.0~rc93"), ("1.1.5+ds1-1+deb12u1", "1.1.5"),
        ("1.6.20~ds1-1+deb12u3", "1.6.20"), ("20.10.24+dfsg1", "20.10.24"), ("1.1.12-0ubuntu2~22.04.1", "1.1.12"),
        ("1.0.0~rc93+ds1-5+deb11u3", "1.0.0~rc93"), ("5:24.0.7-1~ubuntu.22.04~jammy", "24.0.7"), ("1.17.8-1", "1.17.8"),
        ("1.1.12-1.el9_3", "1.1.12"), ("1.2.3+really1.1.5-1", "1.1.5"), ("1.1.12+azure-1", "1.1.12"),
    ],
)  # fmt: skip
def test_a_programs_own_version_is_seen_in_a_packages(version: str, own: str) -> None:
    assert program(version) == own


def test_releases_are_seen_and_plain_numbers_too() -> None:
    assert [series(v) for v in ("1.1.5+ds1-1+deb12u1", "1.1.7-0ubuntu1~22.04.2", "1.1.7-0ubuntu2.2", "1.1.12")] == [
        "deb12", "22.04", "", "",
    ]  # fmt: skip
    assert [is_plain(v) for v in ("1.1.12", "v1.4.0-rc.3", "1.1.5+ds1", "1.1.12-1.el9", "")] == [
        True, True, False, False, False,
    ]  # fmt: skip


TOLD = [
    ("CVE-2024-21626", "distribution", "1.1.5+ds1-1+deb12u1", "fixed"),
    ("CVE-2024-21626", "distribution", "1.1.5+ds1-1+deb12u2", "fixed"),
    ("CVE-2024-21626", "distribution", "1.1.5+ds1-1", "vulnerable"),
    ("CVE-2024-21626", "distribution", "1.1.5+ds1-1+b4", "vulnerable"),
    ("CVE-2024-21626", "distribution", "1.1.5+ds1-2", "cannot tell"),
    ("CVE-2024-21626", "distribution", "1.1.5+ds1-1ubuntu1", "cannot tell"),
    ("CVE-2024-21626", "distribution", "1.1.5+ds1-1+rpt1", "cannot tell"),
    ("CVE-2024-21626", "distribution", "1.0.0~rc93+ds1-5+deb11u5", "fixed"),
    ("CVE-2024-21626", "distribution", "1.0.0~rc93+ds1-5+deb11u2", "vulnerable"),
    ("CVE-2024-21626", "distribution", "1.0.0~rc93+ds1-5", "vulnerable"),
    ("CVE-2024-21626", "distribution", "1.0.0~rc92+dfsg1-5", "fixed"),
    ("CVE-2024-21626", "distribution", "1.1.7-0ubuntu1~22.04.1", "vulnerable"),
    ("CVE-2024-21626", "distribution", "1.1.4-0ubuntu1~22.04.3", "vulnerable"),
    ("CVE-2024-21626", "distribution", "1.1.7-0ubuntu1~22.04.2", "fixed"),
    ("CVE-2024-21626", "distribution", "1.1.7-0ubuntu2.1", "cannot tell"),
    ("CVE-2024-21626", "distribution", "1.1.4-0ubuntu1~18.04.2+esm1", "cannot tell"),
    ("CVE-2024-21626", "distribution", "1.1.12-0ubuntu2~22.04.1", "fixed"),
    ("CVE-2024-21626", "distribution", "1.1.4-1.el9_2.1", "cannot tell"),
    ("CVE-2024-21626", "distribution", "1.1.12-1.el9_3", "fixed"),
    ("CVE-2024-21626", "distribution", "1.1.5+ds1", "cannot tell"),
    ("CVE-2024-21626", "project", "1.1.11", "vulnerable"),
    ("CVE-2024-21626", "project", "1.1.12", "fixed"),
    ("CVE-2024-21626", "project", "1.0.0-rc92", "fixed"),
    ("CVE-2024-21626", "project", "1.0.0-rc93", "vulnerable"),
    ("CVE-2024-21626", "nobody knows", "1.1.11", "cannot tell"),
    ("CVE-2024-21626", "nobody knows", "1.1.12", "fixed"),
    ("CVE-2024-21626", "project", "unknown", "cannot tell"),
    ("CVE-2024-21626", "nobody knows", "", "cannot tell"),
    ("CVE-2021-30465", "distribution", "1.0.0~rc94+ds1-2", "fixed"),
    ("CVE-2021-30465", "distribution", "1.0.0~rc94+ds1-1", "vulnerable"),
    ("CVE-2021-30465", "distribution", "1.0.0~rc93+ds1-5", "cannot tell"),
    ("CVE-2025-31133", "distribution", "1.1.5+ds1-1+deb12u1", "cannot tell"),
    ("CVE-2025-31133", "distribution", "1.3.3-0ubuntu1~22.04.2", "fixed"),
    ("CVE-2025-31133", "project", "1.2.7", "vulnerable"),
    ("CVE-2025-31133", "project", "1.2.8", "fixed"),
    ("CVE-2025-31133", "project", "1.3.0-rc.1", "vulnerable"),
    ("CVE-2025-31133", "project", "1.3.2", "vulnerable"),
    ("CVE-2025-31133", "project", "1.3.4", "fixed"),
    ("CVE-2025-31133", "project", "1.4.0-rc.2", "vulnerable"),
    ("CVE-2025-31133", "project", "1.4.0-rc.3", "fixed"),
    ("CVE-2022-23648", "distribution", "1.6.20~ds1-1+deb12u3", "fixed"),
    ("CVE-2022-23648", "distribution", "1.4.13~ds1-1~deb11u4", "fixed"),
    ("CVE-2022-23648", "project", "1.6.0", "vulnerable"),
    ("CVE-2024-40635", "distribution", "1.6.20~ds1-1+deb12u1", "vulnerable"),
    ("CVE-2024-40635", "distribution", "1.6.20~ds1-1+deb12u2", "fixed"),
    ("CVE-2024-40635", "distribution", "1.7.24-0ubuntu1~24.04.1", "vulnerable"),
    ("CVE-2024-40635", "project", "1.7.26", "vulnerable"),
    ("CVE-2024-40635", "project", "2.0.4", "fixed"),
    ("CVE-2024-41110", "distribution", "20.10.24+dfsg1-1+deb12u1+b6", "fixed"),
    ("CVE-2024-41110", "distribution", "20.10.24+dfsg1-1+b3", "vulnerable"),
    ("CVE-2024-41110", "distribution", "20.10.5+dfsg1-1+deb11u2", "cannot tell"),
    ("CVE-2024-41110", "distribution", "26.1.5+dfsg1-9+deb13u1", "fixed"),
    ("CVE-2024-41110", "project", "24.0.9", "vulnerable"),
    ("CVE-2024-41110", "project", "25.0.6", "fixed"),
    ("CVE-2024-41110", "project", "29.8.1", "fixed"),
    ("CVE-2024-0132", "project", "1.16.1-1", "vulnerable"),
    ("CVE-2025-23359", "project", "1.17.3-1", "vulnerable"),
    ("CVE-2025-23266", "project", "1.17.7-1", "vulnerable"),
    ("CVE-2025-23266", "project", "1.17.8-1", "fixed"),
    ("CVE-2025-23267", "project", "1.18.0~rc.1-1", "fixed"),
    ("CVE-2026-24260", "project", "1.19.0", "vulnerable"),
    ("CVE-2026-24260", "project", "1.19.1-1", "fixed"),
    ("CVE-2025-23266", "distribution", "1.17.4-1.amzn2023", "cannot tell"),
]


@pytest.mark.parametrize(("cve", "of", "version", "told"), TOLD)
def test_what_is_known_of_a_version(cve: str, of: str, version: str, told: str) -> None:
    escape = next(escape for escape in ESCAPES if escape.cve == cve)
    assert verdict(escape, Part(escape.part, version, of)) == told  # type: ignore[arg-type]


def test_every_row_names_its_source_and_versions_that_rise() -> None:
    assert len({escape.cve for escape in ESCAPES}) == len(ESCAPES)
    for escape in ESCAPES:
        ends = [version for pair in escape.ranges for version in pair]
        assert sorted(ends, key=functools.cmp_to_key(compare)) == ends, escape.cve
        assert escape.advisory.startswith(("GHSA-", "NVIDIA "))
        for known in escape.packages:
            assert verdict(escape, Part(escape.part, known, "distribution")) == "fixed"


@given(VERSIONS)
def test_a_distributions_unknown_version_is_never_called_vulnerable(version: str) -> None:
    """Only one that a row knows of, or the first one of such a release, can be."""
    for escape in ESCAPES:
        if verdict(escape, Part(escape.part, f"{version}.el9-3.el9", "distribution")) == "vulnerable":
            pytest.fail(f"{escape.cve} {version}")
