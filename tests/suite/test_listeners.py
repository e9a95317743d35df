"""The check that tests leave standard ports alone must itself see a listener."""

import socket
from pathlib import Path

from tests.suite.listeners import standing


def test_a_new_listener_is_seen_and_a_closed_one_is_not(tmp_path: Path) -> None:
    absent = tmp_path / "docker.sock"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert standing([port], absent) == {f"0100007F port {port}"}
        assert standing([port + 1], absent) == frozenset()
    assert standing([port], absent) == frozenset()


def test_a_replaced_socket_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    path.touch()
    first = standing([], path)
    (tmp_path / "other").touch()
    (tmp_path / "other").replace(path)
    assert len(first) == 1
    assert first != standing([], path)
