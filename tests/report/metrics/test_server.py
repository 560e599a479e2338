from __future__ import annotations

import http.client
import math
import os
import threading
import time

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from steadygrad.records import Finding, Incident, Reading, RunInfo, TensorInfo
from steadygrad.report.metrics import metrics_server
from steadygrad.report.metrics.collector import RunCollector
from steadygrad.runfile import RunWriter


@pytest.fixture
def served():
    """Serve a folder; ask for a path with a Host header of one's own."""
    servers = []

    def serve(place):
        server = metrics_server(place, 0)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)

        def ask(path="/metrics", host="localhost", method="GET"):
            connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
            connection.request(method, path, headers={"Host": host})
            answer = connection.getresponse()
            body = answer.read().decode()
            connection.close()
            return answer.status, body

        return ask

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def numbers(text):
    """Every sample by name and labels, as Prometheus' own parser reads them."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_run_in_numbers(served, record, tmp_path):
    changes = {
        1: {"clip_coef": 0.5},
        2: {"skipped": True, "loss": 3.0},
        4: {"clip_coef": 0.25, "cap": 1.5, "loss": 0.5, "lr": 0.125},
    }
    norms = np.ones((5, 4))
    norms[2, 1] = np.nan
    found = [Finding("loss_spike", "info", step, (), "up") for step in (1, 2)]
    found.append(Finding("nonfinite_gradient", "error", 2, (), "NaN"))
    record(norms, changes, found, [Incident(3, "rollback", "ruined")], started=time.time() - 60)
    status, text = served(tmp_path)()
    assert status == 200
    seen = numbers(text)
    run, first = ("run", "first.steady"), ("optimizer", "0")
    assert seen["steadygrad_step", first, run] == 4
    assert seen["steadygrad_total_norm", first, run] == pytest.approx(2.0, rel=1e-3)
    assert seen["steadygrad_cap", first, run] == pytest.approx(1.5, rel=1e-3)
    assert seen["steadygrad_clip_coef", first, run] == pytest.approx(0.25, rel=1e-3)
    assert seen["steadygrad_learning_rate", first, run] == 0.125
    assert seen["steadygrad_loss", run] == pytest.approx(0.5)
    assert seen["steadygrad_finished", run] == 1
    assert 59 < seen["steadygrad_seconds_since_step", run] < 90
    counts = {"steps": 5, "clipped_steps": 2, "skipped_steps": 1, "nonfinite_steps": 1, "rollbacks": 1}
    for name, count in counts.items():
        assert seen[f"steadygrad_{name}_total", run] == count
    assert seen["steadygrad_findings_total", ("kind", "loss_spike"), run, ("severity", "info")] == 2
    assert seen["steadygrad_findings_total", ("kind", "nonfinite_gradient"), run, ("severity", "error")] == 1
    facts = next(dict(key[1:]) for key in seen if key[0] == "steadygrad_run_info")
    assert (facts["mode"], facts["policy"], facts["model"]) == ("guard", "auto()", "Net")


def test_a_run_that_is_written_moves_on_between_two_questions(served, tmp_path):
    ask = served(tmp_path)
    assert numbers(ask()[1]) == {}
    info = RunInfo("a", started=time.time(), tensors=(TensorInfo("w"),))
    with RunWriter(tmp_path / "a.steady", info) as writer:
        for step in range(3):
            writer.append(Reading(step, np.ones(1), 1.0, clip_coef=0.5))
            assert writer.flush()
            seen = numbers(ask()[1])
            assert seen["steadygrad_steps_total", ("run", "a.steady")] == step + 1
            assert seen["steadygrad_clipped_steps_total", ("run", "a.steady")] == step + 1
            assert seen["steadygrad_finished", ("run", "a.steady")] == 0
    assert numbers(ask()[1])["steadygrad_finished", ("run", "a.steady")] == 1
    (tmp_path / "a.steady").unlink()
    assert numbers(ask()[1]) == {}


def test_nonfinite_numbers_stay_what_they_are(served, record, tmp_path):
    record(np.full((3, 2), np.inf), {2: {"loss": math.nan}})
    seen = numbers(served(tmp_path)()[1])
    assert seen["steadygrad_total_norm", ("optimizer", "0"), ("run", "first.steady")] == math.inf
    assert math.isnan(seen["steadygrad_loss", ("run", "first.steady")])


def test_names_of_any_kind_are_escaped(served, record, tmp_path):
    evil = 'a"} 1\nfake{x="y\\'
    found = [Finding('k"}\n', "info", 1, (), "x")]
    path = record([[1.0]] * 3, findings=found, model=evil)
    os.rename(path, os.fsencode(tmp_path) + b'/b"\n\xff\\.steady')  # noqa: PTH104
    seen = numbers(served(tmp_path)()[1])
    labels = [dict(key[1:]) for key in seen if key[0] == "steadygrad_run_info"]
    assert [facts["model"] for facts in labels] == [evil]
    assert labels[0]["run"] == 'b"\n\\udcff\\.steady'
    assert not any(key[0].startswith("fake") for key in seen)


def test_foreign_and_broken_files_are_passed_over(served, record, tmp_path):
    whole = record([[1.0]] * 300).read_bytes()
    (tmp_path / "cut.steady").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "foreign.steady").write_text("nothing of ours")
    (tmp_path / "empty.steady").write_bytes(b"")
    seen = numbers(served(tmp_path)()[1])
    assert {dict(key[1:])["run"] for key in seen} <= {"first.steady", "cut.steady"}
    assert seen["steadygrad_steps_total", ("run", "first.steady")] == 300


def test_counters_never_fall_when_old_rows_come_to_share_one(tmp_path):
    """A size cap this small merges rows, so that two clipped steps are counted as one."""
    info = RunInfo("a", started=1.0, tensors=tuple(TensorInfo(f"w{i}") for i in range(8)))
    collector = RunCollector(tmp_path)
    highest, fell = 0.0, 0
    rng = np.random.default_rng(0)
    with RunWriter(tmp_path / "a.steady", info, size_cap_bytes=300_000) as writer:
        for step in range(16_000):
            writer.append(Reading(step, np.exp(rng.normal(size=8)), 3.0, clip_coef=rng.random()))
            if step % 2000 == 1999:
                assert writer.flush(30.0)
                counts = {
                    sample.name: sample.value for family in collector.collect() for sample in family.samples
                }
                assert counts["steadygrad_clipped_steps_total"] >= highest
                fell += counts["steadygrad_clipped_steps_total"] < step + 1
                highest = counts["steadygrad_clipped_steps_total"]
    assert fell  # else this has tested nothing


def test_only_names_of_this_machine_are_answered(served, record, tmp_path):
    record([[1.0]])
    ask = served(tmp_path)
    for host in ("localhost:1234", "127.0.0.1", "[::1]:80"):
        assert ask(host=host)[0] == 200
    for host in ("runs.example.org", "127.0.0.1.example.org", ""):
        status, body = ask(host=host)
        assert status == 403
        assert "first" not in body


@pytest.mark.parametrize(
    "path", ["/first.steady", "/../first.steady", "/metrics/../..", "//etc/passwd", "/%2e%2e/x"]
)
def test_there_is_nothing_but_the_metrics(served, record, tmp_path, path):
    record([[1.0]])
    assert served(tmp_path)(path)[0] == 404


def test_nothing_can_be_sent(served, tmp_path):
    assert served(tmp_path)(method="POST")[0] == 405
