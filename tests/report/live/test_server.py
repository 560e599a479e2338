from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest


@pytest.fixture
def port(served, record, tmp_path):
    record([[1.0, 3.0]] * 20)
    (tmp_path / "secret.txt").write_text("not a run")
    return served(tmp_path)


def test_only_names_of_this_machine_and_pages_of_ours_are_answered(port, ask):
    here = f"127.0.0.1:{port}"
    for host in (here, f"localhost:{port}", "localhost:9999", "[::1]:80"):
        assert ask(port, Host=host)[0] == 200
    for host in ("runs.example.org", f"runs.example.org:{port}", "127.0.0.1.example.org"):
        for path in ("/", "/ws", "/static/js/bokeh.min.js", "/metadata", "/autoload.js"):
            status, body = ask(port, path, Host=host)
            assert status == 403
            assert "first" not in body
    for origin in ("http://evil.example.org", "http://localhost:1", "null", f"http://127.0.0.1:{port + 1}"):
        for path in ("/", "/ws"):
            assert ask(port, path, Host=here, Origin=origin)[0] == 403


def handshake(port, **headers):
    """The first line of the answer to a websocket's request."""
    lines = [
        "GET /ws HTTP/1.1",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: bokeh, token",
    ]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection.recv(4096).decode().partition("\r\n")[0]


def test_a_websocket_is_for_pages_of_ours(port):
    here = f"127.0.0.1:{port}"
    assert " 101 " in handshake(port, Host=here, Origin=f"http://{here}")
    assert " 101 " in handshake(port, Host="localhost:9000", Origin="http://localhost:9000")  # a tunnel's end
    assert " 403 " in handshake(port, Host=here, Origin="http://evil.example.org")
    assert " 403 " in handshake(port, Host=here, Origin="http://localhost:8888")
    assert " 403 " in handshake(port, Host="evil.example.org", Origin="http://evil.example.org")


def test_it_listens_to_this_machine_alone(port):
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {"127.0.0.1", "127.0.1.1"}:
        with pytest.raises(OSError, match=r"."):
            socket.create_connection((address, port), timeout=5).close()


@pytest.mark.parametrize(
    "path",
    [
        "/?run=../../../../etc/passwd",
        "/?run=secret.txt",
        "/?run=%2fetc%2fpasswd",
        "/?run=%00",
        "/?run=first",
        "/?run=./first.steady",
    ],
)
def test_nothing_but_the_runs_of_the_folder_can_be_named(port, ask, path):
    status, body = ask(port, path)
    assert status == 200
    assert "There is no run of this name" in body
    assert "not a run" not in body
    assert "root:" not in body


@pytest.mark.parametrize(
    "path", ["/secret.txt", "/first.steady", "/../secret.txt", "/static/../../secret.txt"]
)
def test_no_file_can_be_fetched(port, ask, path):
    assert ask(port, path)[0] in {403, 404}


def test_names_of_any_kind_are_escaped(served, record, ask, tmp_path):
    from steadygrad.records import Finding, Incident, TensorInfo

    evil = "</script><img src=x onerror=alert(1)>"
    found = [Finding("loss_spike", "error", 3, (evil,), evil), Finding(evil, "info", 4, (), evil)]
    path = record(
        [[1.0, 2.0]] * 9, {}, found, [Incident(5, "rollback", evil, (evil,))], model=evil, policy=evil,
        tensors=(TensorInfo(evil), TensorInfo("b")),
    )  # fmt: skip
    os.rename(path, os.fsencode(tmp_path) + b"/<img src=y>\xff.steady")  # noqa: PTH104
    port = served(tmp_path)
    status, body = ask(port)
    assert status == 200
    assert "<img" not in body
    assert body.count("</script>") == body.count("<script")
    link = body.partition('href="?run=')[2].partition('"')[0]
    assert "There is no run" not in ask(port, f"/?run={link}")[1]


def test_a_folder_that_is_not_there_yet_and_one_of_foreign_files(served, ask, tmp_path):
    assert "yet" in ask(served(tmp_path / "later"))[1]
    (tmp_path / "a.steady").write_bytes(b"SQLite format 3\x00" + bytes(300))
    assert "No run in" in ask(served(tmp_path))[1]


def test_a_run_without_steps_and_one_of_nothing_finite_have_a_page(served, record, ask, tmp_path):
    import numpy as np

    record(np.zeros((0, 2)), name="empty")
    record(np.full((5, 2), np.nan), {step: {"loss": np.nan} for step in range(5)}, name="lost")
    port = served(tmp_path)
    assert "no step was recorded" in ask(port, "/?run=empty.steady")[1]
    assert "on-finite" in ask(port, "/?run=lost.steady")[1]


def test_norms_that_cant_be_unpacked_are_said(served, record, ask):
    import sqlite3

    path = record([[1.0, 2.0]] * 30)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE chunk SET body=substr(body,1,4)")
    connection.close()
    status, body = ask(served(path))
    assert status == 200
    assert "is damaged" in body


def test_it_ends_at_ctrl_c_without_a_word(record, tmp_path):
    command = [sys.executable, "-m", "steadygrad", "live", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert "Ctrl-C" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
