"""launch/ at work: signals, exit statuses and restarts, with stand-ins and with the program."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from launching import LAUNCH, REPOSITORY, environment, shell, stand_in, started, virtual_environment

from gmsrm_jax.data.masks.files import write_mask_bank

# What a process is told, as one line.
RECORD = """
printf -v told '%s|' "$GMSRM_PROCESS_ID" "$GMSRM_COORDINATOR" "$GMSRM_NUM_PROCESSES" \
  "$GMSRM_EXPECTED_LOCAL_DEVICES" "$JAX_LOCAL_DEVICE_IDS" "$@"
printf '%s\\n' "$told" >> "$RECORD"
"""
# Saves for a moment after the first SIGTERM, as the program does.
SAVES = """
trap 'sleep 0.3; exit 75' TERM
echo $$ >> "$RECORD"
while true; do sleep 0.05; done
"""


@pytest.fixture
def record(tmp_path):
    return tmp_path / "record"


def lines(record):
    return record.read_text().splitlines() if record.exists() else []


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("status", [0, 2, 3, 75, 137])
def test_run_sh_hands_on_arguments_and_exit_status(tmp_path, record, status):
    venv = virtual_environment(tmp_path / "venv", f"{RECORD}\nexit {status}")
    cache = tmp_path / "of mine" / "xla"
    done = shell(
        "umask 022; launch/run.sh --config=x 'a b'",
        {"VENV": venv, "RECORD": record, "GMSRM_EXPECTED_LOCAL_DEVICES": 3}
        | {"JAX_COMPILATION_CACHE_DIR": cache},
    )
    assert done.returncode == status, done.stderr
    assert lines(record) == ["|||3|0,1,2|-m|gmsrm_jax.main|--config=x|a b|"]
    assert cache.stat().st_mode & 0o777 == 0o700


def test_run_sh_keeps_the_devices_it_is_told(tmp_path, record):
    venv = virtual_environment(tmp_path / "venv", RECORD)
    told = {"GMSRM_EXPECTED_LOCAL_DEVICES": 2, "JAX_LOCAL_DEVICE_IDS": "4,5"}
    assert shell("launch/run.sh", {"VENV": venv, "RECORD": record} | told).returncode == 0
    assert lines(record) == ["|||2|4,5|-m|gmsrm_jax.main|"]


def test_run_sh_becomes_the_program(tmp_path, record):
    venv = virtual_environment(tmp_path / "venv", SAVES)
    with started([LAUNCH / "run.sh"], {"VENV": venv, "RECORD": record}) as process:
        wait_for(record.exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 75
        assert lines(record) == [str(process.pid)]


def test_run_sh_says_that_there_is_no_environment(tmp_path):
    done = shell("launch/run.sh --config=x", {"VENV": tmp_path / "none"})
    assert done.returncode == 2
    assert "none holds no bin/activate" in done.stderr


def test_local_processes_tells_each_its_place_and_its_devices(tmp_path, record):
    venv = virtual_environment(tmp_path / "venv", RECORD)
    done = shell(
        "launch/local_processes.sh 3 --config=x",
        {"VENV": venv, "RECORD": record, "DEVICES_PER_PROCESS": 2, "PORT": 7001},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(lines(record)) == [
        f"{i}|127.0.0.1:7001|3|2|{2 * i},{2 * i + 1}|-m|gmsrm_jax.main|--config=x|"
        for i in range(3)
    ]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_local_processes_hands_a_signal_to_all(tmp_path, record, sent):
    venv = virtual_environment(tmp_path / "venv", SAVES)
    command = [LAUNCH / "local_processes.sh", "2"]
    with started(command, {"VENV": venv, "RECORD": record}) as process:
        wait_for(lambda: len(lines(record)) == 2)
        process.send_signal(sent)
        assert process.wait(timeout=30) == 75


def test_local_processes_ends_with_the_first_failure_and_leaves_none_behind(tmp_path, record):
    venv = virtual_environment(
        tmp_path / "venv", f"if (( GMSRM_PROCESS_ID == 1 )); then exit 9; fi\n{SAVES}"
    )
    done = shell("launch/local_processes.sh 2", {"VENV": venv, "RECORD": record, "PATIENCE": 1})
    assert done.returncode == 9
    assert "process 1 ended with 9" in done.stderr
    (left,) = map(int, lines(record))
    with pytest.raises(ProcessLookupError):
        os.kill(left, 0)


def slurm(folder, record, statuses, state="RUNNING"):
    """Runs slurm.sbatch on two nodes of 8 GPUs, with processes that end with the statuses."""
    # Only what srun itself gives the tasks; JAX needs all of it to see a cluster.
    stand_in(
        folder,
        "srun",
        """
        while [[ $1 == --* ]]; do echo "srun $1" >> "$RECORD"; shift; done
        for i in 0 1; do
          SLURM_STEP_NODELIST='127.0.0.1' SLURM_NTASKS=2 SLURM_PROCID=$i SLURM_LOCALID=0 "$@" &
        done
        worst=0
        for i in 0 1; do wait -n || { s=$?; (( s > worst )) && worst=$s; }; done
        exit $worst
        """,
    )
    stand_in(folder, "squeue", f"echo {state}")
    stand_in(folder, "scontrol", 'echo "scontrol $*" >> "$RECORD"')
    venv = virtual_environment(
        folder / "venv", f"{RECORD}\nstatuses=({statuses})\nexit ${{statuses[SLURM_PROCID]}}"
    )
    reservation = {"SLURM_JOB_ID": 17, "SLURM_JOB_NUM_NODES": 2, "SLURM_GPUS_ON_NODE": 8}
    reservation |= {"SLURM_CPUS_PER_TASK": 24, "SLURM_SUBMIT_DIR": REPOSITORY}
    # SLURM runs a copy from its own folder.
    script = folder / "slurm_script"
    script.write_text((LAUNCH / "slurm.sbatch").read_text())
    return shell(
        f"cd / && bash {script} --config=x", {"VENV": venv, "RECORD": record} | reservation, folder
    )


def test_slurm_starts_one_process_a_node_with_all_its_gpus(tmp_path, record):
    assert slurm(tmp_path, record, "0 0").returncode == 0
    options = {line.removeprefix("srun ") for line in lines(record) if line.startswith("srun ")}
    assert options >= {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=24"}
    # One that has ended leaves the others time to save.
    assert options >= {"--kill-on-bad-exit=0", "--wait=0"}
    told = [line for line in lines(record) if "gmsrm_jax.main" in line]
    assert told == ["|||8|0,1,2,3,4,5,6,7|-m|gmsrm_jax.main|--config=x|"] * 2


@pytest.mark.parametrize(
    ("statuses", "state", "status", "requeued"),
    [
        ("75 75", "RUNNING", 75, True),
        ("75 143", "RUNNING", 143, True),
        ("75 75", "COMPLETING", 75, False),
        ("0 0", "RUNNING", 0, False),
        ("2 2", "RUNNING", 2, False),
        ("137 134", "RUNNING", 137, False),
    ],
)
def test_slurm_requeues_what_was_stopped(tmp_path, record, statuses, state, status, requeued):
    assert slurm(tmp_path, record, statuses, state).returncode == status
    assert ("scontrol requeue 17" in lines(record)) == requeued


def test_slurm_is_asked_for_a_signal_to_the_processes_and_for_requeueing():
    text = (LAUNCH / "slurm.sbatch").read_text()
    asked = [line.split()[1] for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {"--signal=TERM@120", "--requeue", "--open-mode=append"} < set(asked)
    # What stands after the first command is not read.
    assert text.rindex("#SBATCH") < text.index("set -euo pipefail")


@pytest.mark.parametrize(("ids", "visible"), [("", "0"), ("0,1,2,3,4,5,6,7", "0,1,2,3,4,5,6,7")])
def test_jax_takes_one_gpu_of_a_slurm_node_unless_it_is_told(ids, visible):
    # The trap itself: should it go away, run.sh need not set JAX_LOCAL_DEVICE_IDS any longer.
    program = (
        "import logging, jax; logging.basicConfig(level=logging.INFO); jax.distributed.initialize()"
    )
    step = {"SLURM_JOB_ID": os.getpid(), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": 1}
    step |= {"SLURM_PROCID": 0, "SLURM_LOCALID": 0, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(step | {"JAX_LOCAL_DEVICE_IDS": ids}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert re.findall(r"visible devices: (\S+)", done.stderr) == [visible], done.stderr


def tpu_vm(folder, record, statuses, states):
    """Runs tpu_vm.sh on a slice of one host, whose container and slice end up as listed."""
    for name, words in (("statuses", statuses), ("states", states)):
        (folder / name).write_text("\n".join(words.split()) + "\n")
    stand_in(
        folder,
        "gcloud",
        """
        echo "gcloud $4" >> "$RECORD"
        case $4 in
          describe) read -r state < "$HERE/states"; sed -i 1d "$HERE/states"
            [[ $state == none ]] && exit 1 || echo "$state" ;;
          ssh) for word; do [[ $word == --command=* ]] && exec bash -c "${word#--command=}"; done ;;
        esac
        """,
    )
    stand_in(folder, "sudo", 'exec "$@"')
    for name in ("apt-get", "mount", "mkdir", "mountpoint"):
        stand_in(folder, name, "true")
    stand_in(
        folder,
        "docker",
        """
        echo "docker $1 ${*: -1}" >> "$RECORD"
        case $1 in
          run) touch "$HERE/container" ;;
          container) [[ -e $HERE/container ]] ;;
          rm) rm -f "$HERE/container" ;;
          wait) head -n 1 "$HERE/statuses"; sed -i 1d "$HERE/statuses" ;;
        esac
        """,
    )
    given = {"PROJECT": "my-project", "ZONE": "us-east5-b", "TPU": "t", "PAUSE": 0}
    given |= {"ACCELERATOR_TYPE": "v6e-16", "RUNTIME": "r", "SHARE": "10.0.0.2:/share"}
    given |= {"IMAGE": "registry.example/gmsrm:1"}
    return shell(
        "launch/tpu_vm.sh run --config=x --workdir=/mnt/gmsrm/x",
        given | {"HERE": folder, "RECORD": record, "MAX_RESTARTS": 3},
        folder,
    )


@pytest.mark.parametrize(
    ("statuses", "states", "status", "starts", "slices"),
    [
        ("0", "none", 0, 1, 1),
        ("75 134 0", "READY READY READY", 0, 3, 0),
        ("75 0", "none PREEMPTED", 0, 2, 2),
        ("2", "READY", 2, 1, 0),
        ("3", "READY", 3, 1, 0),
        ("1 1 1 1 1", "READY READY READY READY READY", 1, 4, 0),
    ],
)
def test_tpu_vm_starts_again_until_the_run_is_done(
    tmp_path, record, statuses, states, status, starts, slices
):
    done = tpu_vm(tmp_path, record, statuses, states)
    assert done.returncode == status, done.stderr
    assert lines(record).count("docker run --workdir=/mnt/gmsrm/x") == starts
    assert lines(record).count("gcloud create") == slices
    assert lines(record).count("gcloud delete") == states.count("PREEMPTED")
    # A new slice is prepared, an old one once.
    assert sum(line.startswith("docker pull") for line in lines(record)) == max(slices, 1)


STEPS = 100


@pytest.fixture
def real_arguments(tmp_path):
    """A training at 32 px, from arrays, that saves only when it is stopped or done."""
    draw = np.random.default_rng(0)
    np.save(tmp_path / "train.npy", draw.integers(0, 255, (40, 32, 32, 3), np.uint8))
    masks = (draw.random((16, 32, 32, 1)) < 0.3).astype(np.uint8)
    write_mask_bank(tmp_path / "masks.npz", masks)
    fields = {
        "tensorboard": False,
        "log_every": 1,
        "xla_optimization_level": 0,
        "batch_size": 4,
        "data.pipeline": "arrays",
        "data.train": tmp_path / "train.npy",
        "data.test_fraction": 0.0,
        "data.validation_bounds": "8,8",
        "masks.bank": tmp_path / "masks.npz",
        "pconv.levels": 2,
        "pconv.width": 4,
        "pconv.length_kimg": 0.004 * STEPS,
        "pconv.perceptual_weight": 0.0,
        "pconv.style_weight": 0.0,
        "pconv.save_every": 1000,
        "pconv.validate_every": 1000,
    }
    return [
        "--config=configs/demo.py:pconv,runlocal",
        f"--workdir={tmp_path / 'run'}",
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]


@pytest.mark.slow
def test_two_processes_train_stop_and_go_on_with_the_same_command(tmp_path, real_arguments):
    venv = virtual_environment(tmp_path / "venv", f'exec "{sys.executable}" "$@"')
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    given = {name: os.environ[name] for name in names}
    given |= {"VENV": venv, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": 1}
    given |= {"GMSRM_EXPECTED_LOCAL_DEVICES": 1}
    command = [LAUNCH / "local_processes.sh", "2", *real_arguments]
    log = tmp_path / "run" / "inpainting" / "log.jsonl"
    with started(command, given) as process:
        wait_for(lambda: lines(log) or process.poll() is not None, seconds=900)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 75, said
    stopped = len(lines(log))
    assert 0 < stopped < STEPS
    with started(command, given) as process:
        _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    # One line for each step, by one of the processes, none twice and none left out.
    steps = [json.loads(line)["step"] for line in lines(log) if "loss/total" in line]
    assert steps == list(range(1, STEPS + 1))
    assert json.loads(lines(log)[stopped])["step"] == stopped + 1
