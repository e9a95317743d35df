"""The probe on a stand-in library that a file drives, in a process of its own, and on a real card."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.gpus.nvml import NvmlProbe

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LIMIT_S = 0.5
GPU_IS_LOST, NOT_SUPPORTED, NO_PERMISSION, NO_DRIVER, MISMATCH, UNKNOWN = 15, 3, 4, 9, 18, 999
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to build the stand-in library")


class Probe:
    """A probe in a process whose library is the stand-in, and the file that drives it."""

    def __init__(self, library: Path, directory: Path) -> None:
        self._state = directory / "state"
        self._state.touch()
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(library),
            "FAKE_NVML_STATE": str(self._state),
            "PYTHONPATH": str(ROOT),
        }
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "probe_process.py"), str(directory / "locks"), str(LIMIT_S)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def set(self, **values: object) -> None:
        """Replace the state; an underscore begins a card's keys: ``_0_error`` is ``0.error``."""
        lines = (f"{key[1:].replace('_', '.', 1) if key[0] == '_' else key}={value}\n" for key, value in values.items())
        new = self._state.with_suffix(".new")
        new.write_text("".join(lines))
        new.replace(self._state)

    def ask(self, request: str) -> Any:
        """Send one request and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(request, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def table(self) -> Any:
        """Return the table as JSON has it."""
        return self.ask("table")

    def end(self) -> int:
        """Close its input, and return its exit code."""
        self._process.communicate(timeout=10)
        return self._process.returncode


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the stand-in library and return its directory."""
    directory = tmp_path_factory.mktemp("nvml")
    target = directory / "libnvidia-ml.so.1"
    source = str(HERE / "fake_nvml.c")
    flags = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run(["cc", *flags, "-o", str(target), source], check=True)
    return directory


@pytest.fixture(scope="module")
def one_probe(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    probe = Probe(library, tmp_path_factory.mktemp("probe"))
    yield probe
    assert probe.end() == 0


@pytest.fixture
def probe(one_probe: Probe) -> Iterator[Probe]:
    """Return a probe with one card in good order, whatever the test before did to it."""
    one_probe.set()
    yield one_probe
    one_probe.set()


@needs_compiler
@pytest.mark.integration
def test_every_card_is_described(probe: Probe) -> None:
    probe.set(
        count=2, driver="575.51", _0_mem_used=5 << 30, _0_mem_reserved=1 << 30, _0_procs="99,7",
        _1_name="NVIDIA A100", _1_uuid="GPU-1", _1_mem_total=80 << 30,
    )  # fmt: skip
    table = probe.table()
    first, second = table["gpus"]
    assert table["driver"] == "575.51"
    assert (0, "NVIDIA H200", "healthy", "") == (first["index"], first["model"], first["health"], first["reason"])
    assert (150754820096, 5 << 30, [7, 99]) == (first["memory_total"], first["memory_used"], first["processes"])
    assert (1, "GPU-1", "NVIDIA A100", 80 << 30) == (
        second["index"],
        second["uuid"],
        second["model"],
        second["memory_total"],
    )
    assert [] == second["processes"]


@needs_compiler
@pytest.mark.integration
def test_a_card_that_cannot_tell_a_figure_is_healthy(probe: Probe) -> None:
    probe.set(_0_mem_error=NOT_SUPPORTED, _0_procs_error=NOT_SUPPORTED)
    (card,) = probe.table()["gpus"]
    assert ("healthy", 0, None, []) == (card["health"], card["memory_total"], card["memory_used"], card["processes"])


@needs_compiler
@pytest.mark.integration
def test_an_older_library_is_asked_in_the_older_way(probe: Probe) -> None:
    probe.set(_0_mem_v2_error=NOT_SUPPORTED, _0_mem_used=10, _0_mem_reserved=1)
    (card,) = probe.table()["gpus"]
    assert card["memory_used"] == 11


@needs_compiler
@pytest.mark.integration
def test_a_lost_card_is_known_by_name_and_hides_no_other(probe: Probe) -> None:
    probe.set(count=2, _0_uuid="GPU-first", _0_procs="5")
    assert [card["health"] for card in probe.table()["gpus"]] == ["healthy", "healthy"]
    probe.set(count=2, _0_uuid="GPU-first", _0_error=GPU_IS_LOST, _0_procs="5")
    first, second = probe.table()["gpus"]
    assert ("GPU-first", "lost", "GPU is lost", []) == (
        first["uuid"],
        first["health"],
        first["reason"],
        first["processes"],
    )
    assert second["health"] == "healthy"
    probe.set(count=2, _0_uuid="GPU-first")
    assert probe.table()["gpus"][0]["health"] == "healthy"


@needs_compiler
@pytest.mark.integration
def test_a_card_in_trouble_is_not_offered(probe: Probe) -> None:
    probe.set(count=3, _0_mem_error=UNKNOWN, _1_handle_error=NO_PERMISSION)
    assert [card["health"] for card in probe.table()["gpus"]] == ["quarantined", "withheld", "healthy"]


@needs_compiler
@pytest.mark.integration
def test_a_driver_that_comes_and_goes_is_followed(probe: Probe) -> None:
    assert probe.table()["driver"] == "570.00.00"
    probe.set(count_error=NO_DRIVER, init_error=NO_DRIVER)
    assert {"driver": None, "gpus": []} == probe.table()
    assert {"driver": None, "gpus": []} == probe.table()
    probe.set(driver="580.1")
    assert probe.table()["driver"] == "580.1"


@needs_compiler
@pytest.mark.integration
def test_a_driver_that_cannot_be_used_is_told_in_its_words(probe: Probe) -> None:
    """The box has cards, so an empty table would be a lie."""
    probe.set(count_error=MISMATCH, init_error=MISMATCH)
    for _ in range(2):
        assert "version mismatch" in probe.table()["unavailable"]
    probe.set()
    assert len(probe.table()["gpus"]) == 1


@needs_compiler
@pytest.mark.integration
def test_a_driver_that_hangs_costs_the_table_alone(probe: Probe) -> None:
    """Calls fail, at first at their limit and then at once, until it is back; locks work meanwhile."""
    probe.set(hang=1)
    assert f"within {LIMIT_S:g} s" in probe.table()["unavailable"]
    assert "stuck" in probe.table()["unavailable"]
    assert probe.ask("lock GPU-1") is True
    probe.set()
    while "unavailable" in (table := probe.table()):
        assert "stuck" in table["unavailable"]
    assert len(table["gpus"]) == 1


@needs_compiler
@pytest.mark.integration
def test_a_process_ends_though_its_driver_hangs(library: Path, tmp_path: Path) -> None:
    hanging = Probe(library, tmp_path)
    hanging.set(hang=1)
    assert "unavailable" in hanging.table()
    assert hanging.end() == 0


@pytest.mark.integration
def test_a_box_without_the_library_has_no_driver(tmp_path: Path) -> None:
    """An empty file stands where the library would be found first, so that a real one stays out of this."""
    (tmp_path / "libnvidia-ml.so.1").touch()
    bare = Probe(tmp_path, tmp_path)
    assert {"driver": None, "gpus": []} == bare.table()
    assert bare.end() == 0


def test_the_library_is_loaded_by_the_first_look(tmp_path: Path) -> None:
    script = "import sys; from adapters.gpus.nvml import NvmlProbe; NvmlProbe('.'); sys.exit('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT).returncode == 0


@pytest.mark.gpu
def test_a_real_card_is_described_as_nvidia_smi_does(tmp_path: Path) -> None:
    async def look() -> list[list[str]]:
        probe = NvmlProbe(str(tmp_path))
        table = await probe.table()
        await probe.close()
        return [[str(gpu.index), gpu.uuid, gpu.model, str(gpu.memory_total >> 20)] for gpu in table.gpus]

    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    said = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    assert [line.split(", ") for line in said.splitlines()] == asyncio.run(look())
