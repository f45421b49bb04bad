"""Training in a child: the parent stays light, a job is finished once, and a dead child takes nothing with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.loaded import loaded_by

from sordino_client.completion import presence
from sordino_client.training import (
    TrainingError,
    TrainingJob,
    TrainingProgress,
    TrainingWorker,
    write_units,
)
from sordino_client.training.job import finish, finished, read_units
from sordino_client.training.worker import ENVIRONMENT
from sordino_client.training.yielding import giving_way
from sordino_platform.architecture import ModelConfig, shapes, trainable_shapes
from sordino_platform.machine.power import discharging
from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import ConfigurationError, DataError, StorageError, UsageError

CONFIG = ModelConfig(vocabulary=64, context=16, layers=1, heads=2, width=12, hidden=16)
PLAN = TrainingPlan(
    sampling_rate=0.5,
    noise_multiplier=0.5,
    clip_norm=0.1,
    steps=3,
    windows_per_unit=2,
    window=16,
    learning_rate=0.1,
    optimiser="sgd",
    delta=1e-6,
    expected_units=8,
)


@pytest.fixture(scope="module")
def worker() -> Iterator[TrainingWorker]:
    with TrainingWorker() as shared:
        shared.warm()
        yield shared


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    generator = np.random.default_rng(0)
    weights = {
        name: (generator.standard_normal(shape) * 0.1).astype(np.float32)
        for name, shape in shapes(CONFIG).items()
    }
    save_file(weights, tmp_path / "weights.safetensors")
    units = [[generator.integers(1, 64, 16).astype(np.uint16) for _ in range(1 + n % 3)] for n in range(20)]
    write_units(tmp_path / "units.npz", units)
    return TrainingJob(
        folder=tmp_path / "job",
        config=CONFIG,
        weights=tmp_path / "weights.safetensors",
        units=tmp_path / "units.npz",
        plan=PLAN,
    )


def count() -> int:
    return sum(int(np.prod(shape)) for shape in trainable_shapes(CONFIG).values())


def test_a_job_yields_the_update_of_the_trained_subset_and_metrics_that_stay(
    worker: TrainingWorker, job: TrainingJob
) -> None:
    seen: list[TrainingProgress] = []
    update = worker.train(job, seen.append)
    vector = update.vector()
    assert vector.shape == (count(),)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()
    noise = PLAN.learning_rate * np.sqrt(PLAN.steps) * PLAN.noise_deviation()
    assert 0.9 * noise < vector.std() < 3 * noise
    assert [p.step for p in seen] == [1, 2, 3]
    assert seen[-1].seconds_left == 0
    assert update.local.units > 0
    assert update.local.steps == 3
    assert "mean_loss" not in repr(update)


def test_a_finished_job_is_not_trained_again_but_returns_the_same_bytes(
    worker: TrainingWorker, job: TrainingJob
) -> None:
    first = worker.train(job)
    again = worker.train(job, lambda progress: pytest.fail("it trained again"))
    assert again == first
    assert np.array_equal(again.vector(), first.vector())


def test_two_jobs_never_share_noise(worker: TrainingWorker, job: TrainingJob) -> None:
    one, two = worker.train(job), worker.train(replace(job, folder=job.folder.with_name("second")))
    assert abs(np.corrcoef(one.vector(), two.vector())[0, 1]) < 0.9
    assert one.digest != two.digest


def test_a_folder_that_holds_another_jobs_update_is_refused(worker: TrainingWorker, job: TrainingJob) -> None:
    worker.train(job)
    with pytest.raises(ConfigurationError, match="another training job"):
        worker.train(replace(job, plan=replace(PLAN, steps=4)))


def test_a_damaged_update_is_noticed(worker: TrainingWorker, job: TrainingJob) -> None:
    update = worker.train(job)
    data = bytearray(update.path.read_bytes())
    data[-1] ^= 1
    update.path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        update.vector()


def test_adapters_train_only_their_subset(worker: TrainingWorker, job: TrainingJob, tmp_path: Path) -> None:
    config = replace(CONFIG, adapter_rank=2, trainable="adapter")
    generator = np.random.default_rng(0)
    weights = {n: (generator.standard_normal(s) * 0.1).astype(np.float32) for n, s in shapes(config).items()}
    save_file(weights, tmp_path / "adapted.safetensors")
    update = worker.train(replace(job, config=config, weights=tmp_path / "adapted.safetensors"))
    assert update.count == sum(int(np.prod(shape)) for shape in trainable_shapes(config).values()) < count()


def test_what_the_child_finds_wrong_is_raised_by_name(
    worker: TrainingWorker, job: TrainingJob, tmp_path: Path
) -> None:
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ConfigurationError, match="parameters"):
        worker.train(replace(job, weights=tmp_path / "foreign.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"not a model")
    with pytest.raises(StorageError, match="safetensors"):
        worker.train(replace(job, weights=tmp_path / "broken.safetensors"))
    write_units(tmp_path / "foreign.npz", [[np.full(8, 64, dtype=np.uint16)]])
    with pytest.raises(DataError, match="vocabulary"):
        worker.train(replace(job, units=tmp_path / "foreign.npz"))
    write_units(tmp_path / "long.npz", [[np.ones(18, dtype=np.uint16)]])
    with pytest.raises(DataError, match="18 tokens"):
        worker.train(replace(job, units=tmp_path / "long.npz"))
    assert worker.train(job).count == count()  # the same child goes on


def test_a_training_that_diverges_leaves_no_update(worker: TrainingWorker, job: TrainingJob) -> None:
    vector = np.zeros(count(), dtype=np.float32)
    vector[3] = np.nan
    update = worker.train(job)
    other = replace(job, folder=job.folder.with_name("diverged"))
    other.write()
    with pytest.raises(TrainingError, match="diverged"):
        finish(other, vector, update.local)
    assert finished(other) is None


def test_the_child_has_the_lowest_priority_and_is_the_first_to_die_of_memory(
    worker: TrainingWorker, job: TrainingJob
) -> None:
    pids: list[int] = []
    worker.train(job, lambda progress: pids.extend(children()))
    pid = pids[0]
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max core file size        0" in limits
    assert "Max data size             unlimited" not in limits


def test_a_paused_child_waits_and_goes_on(worker: TrainingWorker, job: TrainingJob) -> None:
    steps: list[int] = []
    resumed = threading.Event()

    def resume() -> None:
        resumed.set()
        worker.resume()

    def pause_after_the_first(progress: TrainingProgress) -> None:
        steps.append(progress.step)
        if progress.step == 1:
            worker.pause()
            threading.Timer(0.3, resume).start()

    slow = replace(job, plan=replace(PLAN, steps=20))
    worker.train(slow, pause_after_the_first)
    assert steps == list(range(1, 21))
    assert resumed.is_set()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


@pytest.mark.parametrize("reason", ["a completion in work", "battery"])
def test_training_stops_for_completions_and_on_battery_and_goes_on(
    worker: TrainingWorker, job: TrainingJob, tmp_path: Path, reason: str
) -> None:
    lock = presence.place(tmp_path)
    holder = presence.Presence(lock)
    battery = threading.Event()
    if reason == "battery":
        battery.set()
    else:
        holder.enter()
    stopped = threading.Event()

    def release_when_stopped() -> None:
        assert worker._child is not None
        while state_of(worker._child.pid) != "T":
            time.sleep(0.01)
        stopped.set()
        holder.leave()
        battery.clear()

    worker.warm()
    watcher = threading.Thread(target=release_when_stopped)
    with giving_way(
        worker, busy=lambda: presence.occupied(lock) or battery.is_set(), on_battery=lambda: False
    ):
        watcher.start()
        update = worker.train(job)
    watcher.join()
    assert stopped.is_set()
    assert update.local.units > 0


def test_a_look_that_fails_leaves_no_child_paused_for_ever(worker: TrainingWorker, job: TrainingJob) -> None:
    failed = threading.Event()

    def busy() -> bool:
        assert worker._child is not None
        if failed.is_set() or state_of(worker._child.pid) == "T":
            failed.set()
            raise OSError("the folder of the lock is gone")
        return True

    worker.warm()
    with giving_way(worker, busy=busy, on_battery=lambda: False):
        update = worker.train(job)
    assert failed.is_set()
    assert update.local.units > 0


def test_an_engine_that_died_keeps_nobody_waiting(tmp_path: Path) -> None:
    lock = presence.place(tmp_path)
    assert not presence.occupied(lock)
    code = f"""
from pathlib import Path
from sordino_client.completion.presence import Presence
Presence(Path({str(lock)!r})).enter()
print("held", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == b"held\n"
        assert presence.occupied(lock)
        engine.kill()
    assert not presence.occupied(lock)


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ({}, False),
        ({"BAT0": {"type": "Battery", "status": "Discharging"}}, True),
        ({"BAT0": {"type": "Battery", "status": "Charging"}}, False),
        (
            {"BAT0": {"type": "Battery", "status": "Discharging"}, "AC": {"type": "Mains", "online": "1"}},
            False,
        ),
        (
            {"BAT0": {"type": "Battery", "status": "Discharging"}, "AC": {"type": "Mains", "online": "0"}},
            True,
        ),
        ({"mouse": {"type": "Battery", "status": "Discharging", "scope": "Device"}}, False),
    ],
)
def test_a_battery_counts_only_when_it_feeds_the_machine(
    tmp_path: Path, supplies: dict[str, dict[str, str]], expected: bool
) -> None:
    for name, facts in supplies.items():
        (tmp_path / name).mkdir()
        for fact, value in facts.items():
            (tmp_path / name / fact).write_text(f"{value}\n")
    assert discharging(tmp_path) is expected


def test_a_killed_child_is_reported_releases_nothing_and_the_next_job_gets_another(
    worker: TrainingWorker, job: TrainingJob
) -> None:
    def kill(progress: TrainingProgress) -> None:
        for pid in children():
            os.kill(pid, 9)

    with pytest.raises(TrainingError, match="SIGKILL"):
        worker.train(replace(job, plan=replace(PLAN, steps=5000)), kill)
    assert not (job.folder / "update.npy").exists()
    assert worker.train(job).count == count()


def test_the_child_ends_when_its_parent_dies(job: TrainingJob) -> None:
    script = """
import os, sys
from pathlib import Path
from sordino_client.training import TrainingJob, TrainingWorker
job = TrainingJob.read(Path(sys.argv[1]))
def die(progress):
    print([int(p) for p in os.listdir("/proc") if p.isdigit() and parent(p) == os.getpid()], flush=True)
    os.kill(os.getpid(), 9)
def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1
TrainingWorker().train(job, die)
"""
    slow = replace(job, plan=replace(PLAN, steps=100_000))
    slow.write()
    result = subprocess.run([sys.executable, "-c", script, str(slow.folder)], capture_output=True, text=True)
    (pid,) = json.loads(result.stdout)
    deadline = threading.Event()
    for _ in range(100):
        if (
            not Path(f"/proc/{pid}").exists()
            or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
        ):
            break
        deadline.wait(0.1)
    else:
        pytest.fail("the orphaned trainer went on")
    assert not (slow.folder / "update.npy").exists()


def test_a_child_out_of_memory_is_an_error_not_a_crash_of_the_agent(job: TrainingJob, tmp_path: Path) -> None:
    config = ModelConfig(vocabulary=20_000, context=16, layers=1, heads=2, width=8192, hidden=16)
    # 164M parameters are 655 MB a copy: loading, differences and gradients do not fit into 1 GiB.
    save_file({n: np.zeros(s, np.float32) for n, s in shapes(config).items()}, tmp_path / "huge.safetensors")
    with TrainingWorker(memory=1 << 30) as worker, pytest.raises(TrainingError):
        worker.train(replace(job, config=config, weights=tmp_path / "huge.safetensors"))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
def test_two_pinned_workers_train_the_same_job(job: TrainingJob) -> None:
    with TrainingWorker(processors=2) as pair:
        update = pair.train(job)
    assert np.isfinite(update.vector()).all()
    assert update.local.units > 0


def test_more_processors_than_the_machine_has_are_refused() -> None:
    with pytest.raises(UsageError, match="more processors"):
        TrainingWorker(processors=1 + (os.cpu_count() or 1))


def test_a_memory_limit_that_torch_cannot_live_in_is_refused() -> None:
    with pytest.raises(UsageError):
        TrainingWorker(memory=1 << 20)


def test_the_parent_never_imports_torch() -> None:
    assert "torch" not in loaded_by("sordino_client.training", "sordino_client.ledger")


def test_units_read_back_as_they_were_written(tmp_path: Path) -> None:
    units = [[np.array([1, 2, 3], np.uint16)], [np.array([4], np.uint16), np.array([5, 65535], np.uint16)]]
    write_units(tmp_path / "units.npz", units)
    found = read_units(tmp_path / "units.npz")
    assert [[w.tolist() for w in unit] for unit in found] == [[[1, 2, 3]], [[4], [5, 65535]]]
    assert (tmp_path / "units.npz").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("units", [[], [[]], [[np.zeros(0, np.uint16)]], [[np.zeros(3, np.int64)]]])
def test_nothing_to_train_on_is_said_before_training(tmp_path: Path, units: list[list[np.ndarray]]) -> None:
    with pytest.raises(DataError):
        write_units(tmp_path / "units.npz", units)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x93NUMPY"])
def test_a_damaged_units_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "units.npz").write_bytes(content)
    with pytest.raises(StorageError):
        read_units(tmp_path / "units.npz")


def test_a_units_file_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    one = np.array([1])
    np.savez(tmp_path / "units.npz", tokens=np.array([object()]), lengths=one, windows=one)
    with pytest.raises(StorageError):
        read_units(tmp_path / "units.npz")


def test_a_window_longer_than_the_models_context_is_refused(job: TrainingJob) -> None:
    with pytest.raises(ConfigurationError, match="context"):
        replace(job, plan=replace(PLAN, window=32))


def test_a_job_reads_back_and_refuses_unknown_fields(job: TrainingJob) -> None:
    job.write()
    assert TrainingJob.read(job.folder) == job
    raw = json.loads((job.folder / "job.json").read_text())
    (job.folder / "job.json").write_text(json.dumps({**raw, "command": "x"}))
    with pytest.raises(ConfigurationError):
        TrainingJob.read(job.folder)


def children() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(fields[1]) == os.getpid() and b"sordino_client.training.child" in command:
                found.append(int(entry.name))
    return found


def test_between_two_jobs_the_trainer_gives_its_memory_back() -> None:
    """Under the trainer's own environment the C library keeps what was freed: a gigabyte after a step."""
    program = """
import numpy, sys
from sordino_client.training.child import give_memory_back
def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
held = [numpy.ones(1 << 20) for _ in range(40)]
last = numpy.ones(1 << 10)  # above them: without being asked, the library returns nothing below it
full = resident(); del held; kept = resident(); give_memory_back()
print(full, kept, resident())
"""
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    full, kept, after = map(int, done.stdout.split())
    assert kept > full - (50 << 10)
    assert after < full - (250 << 10)
