"""What launch/ refuses, before anything is started or printed: one line, exit status 2."""

import re
import shutil

import pytest
import yaml
from launching import LAUNCH, shell, stand_in

from gmsrm_jax.cli import build_parser

WORKDIR = "--workdir=/mnt/gmsrm/runs/paris"
FILES = "--image /mnt/gmsrm/a --mask /mnt/gmsrm/b --output /mnt/gmsrm/c"
GPU, TPU = f"launch/gke.sh gpu --config=x {WORKDIR}", f"launch/gke.sh tpu --config=x {WORKDIR}"
JOB, XPK = f"launch/indexed_job.sh inpaint {FILES}", f"launch/xpk.sh --config=x {WORKDIR}"
VM, ARRAY = f"launch/tpu_vm.sh run --config=x {WORKDIR}", "launch/slurm_array.sbatch"
POD = {"NAME": "paris", "IMAGE": "registry.example/gmsrm:1", "CLAIM": "gmsrm"}
CLOUD = {"PROJECT": "my-project", "ZONE": "us-east5-b"}
GIVEN = {
    GPU: POD | {"ACCELERATOR": "nvidia-h100-80gb", "NODES": 2, "GPUS": 8},
    TPU: POD | {"ACCELERATOR": "tpu-v6e-slice", "TOPOLOGY": "4x4", "CHIPS": 4},
    JOB: POD | {"SHARES": 8},
    XPK: CLOUD
    | {"CLUSTER": "c", "NAME": "paris", "STORAGE": "gmsrm", "DEVICE_TYPE": "v6e-16"}
    | {"IMAGE": "registry.example/gmsrm:1"},
    VM: CLOUD
    | {"TPU": "paris", "ACCELERATOR_TYPE": "v6e-16", "RUNTIME": "v2-alpha-tpuv6e"}
    | {"IMAGE": "registry.example/gmsrm:1", "SHARE": "10.0.0.2:/share"},
    "launch/run.sh --config=x": {},
    "launch/local_processes.sh 2 --config=x": {},
    "launch/slurm.sbatch --config=x": {"SLURM_GPUS_ON_NODE": 8},
    f"{ARRAY} inpaint": {"SLURM_ARRAY_TASK_ID": 3},
}
# By script, what it takes and does not need.
FURTHER = {
    GPU: ["NAMESPACE", "QUEUE", "DEVICES_PER_HOST"],
    TPU: ["SPOT", "GCSFUSE", "GRACE_SECONDS", "MAX_RESTARTS", "RUN_AS_USER"],
    JOB: ["GPUS", "NAMESPACE", "AT_ONCE", "MAX_RESTARTS", "RUN_AS_USER"],
    XPK: ["NODES", "GRACE_SECONDS", "MAX_RESTARTS", "DEVICES_PER_HOST"],
    VM: ["SPOT", "MAX_RESTARTS", "PAUSE", "DEVICES_PER_HOST"],
    "launch/run.sh --config=x": [
        *("GMSRM_EXPECTED_LOCAL_DEVICES", "GMSRM_COORDINATOR", "GMSRM_NUM_PROCESSES"),
        *("GMSRM_PROCESS_ID", "GMSRM_START_TIMEOUT", "GMSRM_HEARTBEAT_TIMEOUT"),
    ],
    "launch/local_processes.sh 2 --config=x": ["DEVICES_PER_PROCESS", "PORT", "PATIENCE"],
    "launch/slurm.sbatch --config=x": ["SLURM_JOB_NUM_NODES", "SLURM_CPUS_PER_TASK"],
    f"{ARRAY} inpaint": ["SHARES"],
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A PATH on which nothing is that could start something."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("bash", "dirname"):
        (folder / name).symlink_to(shutil.which(name))
    return {"PATH": folder, "DRY_RUN": 1}


def refused(line, variables, *words):
    """Checks that a script says one line with the words, and does nothing."""
    done = shell(line, variables)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (said,) = done.stderr.splitlines()
    name = line.removeprefix("bash ").split()[0].removeprefix("launch/")
    assert said.startswith(f"{name}: ") and "; " in said
    for word in words:
        assert word in said


@pytest.mark.parametrize("line", GIVEN, ids=lambda line: line.split(" -")[0])
def test_what_is_needed_is_named_with_an_example(bare, line):
    assert shell(line, {"DRY_RUN": 1} | GIVEN[line]).returncode == 0
    for name in GIVEN[line]:
        left = {other: value for other, value in GIVEN[line].items() if other != name}
        refused(line, bare | left, name, "sbatch --" if "SLURM" in name else f"such as {name}=")


@pytest.mark.parametrize("line", GIVEN, ids=lambda line: line.split(" -")[0])
def test_no_variable_takes_any_word(bare, line):
    for name in ["DRY_RUN", *GIVEN[line], *FURTHER.get(line, [])]:
        refused(line, bare | GIVEN[line] | {name: "Two words;"}, f"{name}=Two\\ words\\;;")


def test_every_variable_of_a_script_is_among_those_above():
    # What the shell or the platform says, and what has a check of its own.
    theirs = {"BASH_SOURCE", "PWD", "RANDOM", "SECONDS", "SLURM_JOB_ID", "SLURM_SUBMIT_DIR"}
    theirs |= {"DRY_RUN", "VENV", "JAX_LOCAL_DEVICE_IDS", "JAX_COMPILATION_CACHE_DIR"}
    for path in LAUNCH.glob("*.s[hb]*"):
        lines = [line for line in GIVEN if path.name in line]
        above = {name for line in lines for name in [*GIVEN[line], *FURTHER.get(line, [])]}
        used = set(re.findall(r"(?<!\\)\$\(?\{?([A-Z][A-Z_]+)\b", path.read_text()))
        if path.name != "execute.sh":
            assert used - theirs <= above, path.name


@pytest.mark.parametrize(
    ("line", "variables", "word"),
    [
        (GPU, {"NODES": "two"}, "NODES=two; set a whole number from 1 to 100000, such as NODES=2"),
        (GPU, {"NODES": 0}, "NODES=0"),
        (GPU, {"GPUS": "08"}, "GPUS=08"),
        (GPU, {"NODES": "9" * 30}, "from 1"),
        (GPU, {"NAME": "Paris_X"}, "lower-case letters"),
        (GPU, {"NAME": "2nd"}, "a letter first"),
        (GPU, {"NAME": "a-"}, "NAME=a-"),
        (GPU, {"NAME": "a" * 47, "NODES": 11}, "at most 46 "),
        (GPU, {"ACCELERATOR": "tpu-v6e-slice"}, "such as ACCELERATOR=nvidia-"),
        (GPU, {"IMAGE": "gmsrm:1"}, "IMAGE=gmsrm:1"),
        (GPU, {"SPOT": "yes"}, "SPOT=yes; set 1"),
        (GPU, {"DRY_RUN": "true"}, "DRY_RUN=true; set 1"),
        (TPU, {"TOPOLOGY": "4"}, "TOPOLOGY=4;"),
        (TPU, {"TOPOLOGY": "2x3"}, "6 chips"),
        (JOB, {"SHARES": "x"}, "SHARES=x"),
        (JOB, {"SHARES": 100001}, "SHARES=100001"),
        (JOB, {"AT_ONCE": 9}, "from 1 to 8"),
        (JOB, {"NAME": "a" * 62}, "at most 61 "),
        (XPK, {"NAME": "a" * 41}, "at most 40 "),
        (XPK, {"NODES": 2}, "DEVICE_TYPE=v6e-16"),
        (VM, {"SHARE": "/share"}, "SHARE=/share"),
        (VM, {"IMAGE": "gmsrm:1"}, "registry"),
        ("launch/local_processes.sh --config=x", {}, "--config=x"),
        ("launch/local_processes.sh 2 --config=x", {"PORT": 65536}, "from 1 to 65535"),
        (f"{ARRAY} inpaint", {"SLURM_ARRAY_TASK_ID": 8, "SHARES": 8}, "from 0 to 7"),
        ("bash launch/slurm.sbatch --config=x", {"SLURM_GPUS_ON_NODE": ""}, "--gpus-per-node"),
    ],
)
def test_what_is_out_of_range_is_named(bare, line, variables, word):
    refused(line, bare | GIVEN.get(line, {}) | variables, word)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (GPU.replace("gpu", "cpu"), "is cpu, not gpu or tpu"),
        ("launch/gke.sh", "gpu or tpu"),
        ("launch/gke.sh gpu", "--config"),
        ("launch/gke.sh gpu train --config=x", "no command train;"),
        ("launch/gke.sh gpu --config=x", "--workdir is not given"),
        ("launch/gke.sh gpu --config=x --workdir", "--workdir is not given"),
        ("launch/gke.sh gpu --config=x --workdir=runs/x", "--workdir=runs/x"),
        ("launch/gke.sh gpu --config=x -workdir runs/x", "/mnt/gmsrm/"),
        (f"launch/gke.sh gpu --config=x {WORKDIR} --workdir=gs://b/x", "gs://b/x"),
        ("launch/gke.sh gpu --config=x --workdir=/mnt/gmsrm/../x", "/mnt/gmsrm/../x"),
        ("launch/gke.sh gpu --config=x --workdir=/mnt/gmsrm2", "/mnt/gmsrm2"),
        ("launch/gke.sh gpu evaluate --checkpoint=/mnt/gmsrm/x", "--output is not given"),
        ("launch/gke.sh gpu compare --config=x", "--workdir is not given"),
        ("launch/xpk.sh", "--config"),
        ("launch/xpk.sh --config=x --workdir=runs/x", "--workdir=runs/x is not on the"),
        (f"{XPK} --config.data.note='a $b'", "quote"),
        (f"{XPK} --config.data.note='\"a\"'", "quote"),
        ("launch/tpu_vm.sh", "run, stop or delete"),
        ("launch/tpu_vm.sh go", "is go, not"),
        ("launch/tpu_vm.sh run", "--config"),
        ("launch/tpu_vm.sh run --config=x --workdir=runs/x", "--workdir=runs/x"),
        ("launch/indexed_job.sh", "inpaint or evaluate"),
        ("launch/indexed_job.sh train", "is train, and works in no shares"),
        ("launch/indexed_job.sh inpaint -o filled", "--output=filled"),
        (f"{JOB} --manifest m.jsonl", "--manifest=m.jsonl"),
        (f"{JOB} --shard=0/8", "--shard=0/8"),
        (f"{JOB} --join 8", "--join"),
        (f"{ARRAY} train", "inpaint or evaluate"),
        (f"{ARRAY} inpaint --shard=0/8", "--shard=0/8"),
    ],
)
def test_arguments_that_lead_nowhere_are_named(bare, line, word):
    given = {**POD, **GIVEN[GPU], **GIVEN[XPK], **GIVEN[VM], "SHARES": 8}
    refused(line, bare | given | {"SLURM_ARRAY_TASK_ID": 3}, word)


@pytest.mark.parametrize(
    ("line", "variables"),
    [
        (GPU, {"NAME": "a" * 47, "NODES": 10}),  # a-hosts-0-9-abcde
        (GPU, {"NAME": "a" * 46, "NODES": 11}),
        (JOB, {"NAME": "a" * 61}),  # a-7
        (JOB, {"NAME": "2nd", "AT_ONCE": 8, "RUN_AS_USER": 1000680000}),
        (XPK, {"NAME": "a" * 40, "DEVICE_TYPE": "h100-mega-80gb-8", "NODES": 2}),
        (VM, {"ZONE": "us-central1-ai1a", "PROJECT": "example.com:my-project", "PAUSE": 0}),
        (TPU, {"IMAGE": "localhost:5000/a/b@sha256:" + 64 * "0", "TOPOLOGY": "2x2x4"}),
        (GPU, {"SPOT": 0, "GCSFUSE": "", "CLAIM": "a.b", "QUEUE": "q.1"}),
        ("launch/gke.sh gpu doctor", {}),
        ("launch/gke.sh gpu --config=x --workdir /mnt/gmsrm", {}),
        ("launch/indexed_job.sh evaluate -o /mnt/gmsrm/scores", {}),
    ],
)
def test_what_is_legal_at_the_edge_is_taken(line, variables):
    given = GIVEN.get(line, {**GIVEN[GPU], "SHARES": 8})
    done = shell(line, {"DRY_RUN": 1} | given | variables)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_yaml_would_take_for_something_else_stays_a_name():
    for name in ("on", "null", "e1"):
        done = shell(GPU, {"DRY_RUN": 1} | GIVEN[GPU] | {"NAME": name, "CLAIM": "12"})
        jobset = yaml.safe_load(done.stdout)
        assert jobset["metadata"]["name"] == name
        pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
        assert pod["volumes"][-1]["persistentVolumeClaim"]["claimName"] == "12"


def test_the_commands_that_a_container_may_run_are_those_of_the_program():
    (choices,) = (action.choices for action in build_parser()._actions if action.dest == "command")
    for command in choices:
        line = f"launch/gke.sh gpu {command} --output=/mnt/gmsrm/x {WORKDIR}"
        done = shell(line, {"DRY_RUN": 1} | GIVEN[GPU])
        assert done.returncode == 0, done.stderr
    said = shell("launch/gke.sh gpu train", {"DRY_RUN": 1} | GIVEN[GPU]).stderr
    assert all(command in said for command in choices)


@pytest.mark.parametrize(
    ("line", "program"),
    [
        (GPU, "kubectl"),
        (JOB, "kubectl"),
        (XPK, "xpk"),
        (VM, "gcloud"),
        ("launch/slurm.sbatch --config=x", "srun"),
    ],
)
def test_a_program_that_is_not_there_is_named(bare, line, program):
    refused(line, bare | GIVEN[line] | {"DRY_RUN": 0}, program, "DRY_RUN=1")


@pytest.mark.parametrize(
    ("line", "variables"),
    [
        ("slurm.sbatch --config=x", {"SLURM_GPUS_ON_NODE": 8}),
        ("slurm_array.sbatch inpaint", {"SLURM_ARRAY_TASK_ID": 0}),
    ],
)
def test_slurm_s_scripts_print_what_they_would_do_from_any_folder(tmp_path, line, variables):
    done = shell(f"cd {tmp_path}; {LAUNCH}/{line}", {"DRY_RUN": 1} | variables)
    assert (done.returncode, done.stderr) == (0, "")
    # What is printed can be run as it is.
    again = shell(f"cd {tmp_path}; {done.stdout.replace('srun', 'true')}", {"DRY_RUN": 1})
    assert (again.returncode, again.stderr) == (0, "")
    name, copy = line.split()[0], tmp_path / "slurm_script"
    copy.write_text((LAUNCH / name).read_text())
    lost = shell(f"bash {copy}", variables | {"SLURM_SUBMIT_DIR": tmp_path})
    assert (lost.returncode, lost.stdout) == (2, "")
    assert lost.stderr.startswith(f"{name}: {tmp_path} holds no launch/execute.sh; ")
    assert lost.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"ARGUMENTS": "--config=x --workdir=runs/x"}, "--workdir=runs/x"),
        ({"ARGUMENTS": f"--config=x {WORKDIR}", "EXTRA": "cuda"}, "EXTRA=cuda"),
        ({"ARGUMENTS": f"--config=x {WORKDIR}", "EXTRA": "cuda12"}, ""),
    ],
)
def test_skypilot_checks_before_it_installs(tmp_path, variables, word):
    stand_in(tmp_path, "python", "echo installs")
    setup = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())["setup"]
    done = shell(setup, variables | {"EXTRA": "tpu"} | variables, tmp_path)
    if word:
        assert (done.returncode, done.stdout) == (2, "")
        (said,) = done.stderr.splitlines()
        assert said.startswith("skypilot.yaml: ") and word in said
    else:
        assert (done.returncode, done.stdout) == (0, 3 * "installs\n")
