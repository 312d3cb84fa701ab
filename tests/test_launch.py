"""What launch/ would start: commands and manifests, against the program's own flags and names."""

import inspect
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from launching import (
    LAUNCH,
    REPOSITORY,
    assignments,
    check_arguments,
    environment,
    program_arguments,
    shell,
    stand_in,
    virtual_environment,
)

from gmsrm_jax.cli import build_parser
from gmsrm_jax.runtime import processes

README = (LAUNCH / "README.md").read_text()
ARGUMENTS = ["--config=configs/paris.py", "--workdir=/mnt/gmsrm/runs/paris"]
GKE = {"NAME": "paris", "IMAGE": "registry.example/gmsrm:1", "CLAIM": "gmsrm"}
GPU = GKE | {"ACCELERATOR": "nvidia-h100-80gb", "NODES": 2, "GPUS": 8}
TPU = GKE | {"ACCELERATOR": "tpu-v5p-slice", "TOPOLOGY": "2x2x4", "CHIPS": 4}
XPK = {"PROJECT": "my-project", "ZONE": "us-east5-b", "CLUSTER": "c", "NAME": "paris"} | {
    "STORAGE": "gmsrm",
    "IMAGE": "registry.example/gmsrm:1",
    "DRY_RUN": 1,
}


def readme_command(name):
    """The command that the README's table gives for a file, or a platform."""
    rows = [row for row in README.splitlines() if row.startswith("| ") and name in row]
    return re.findall(r"`([^`]+)`", rows[0].split("|")[3])


def manifest(platform, variables, *arguments):
    line = shlex.join(["launch/gke.sh", platform, *(arguments or ARGUMENTS)])
    done = shell(line, {"DRY_RUN": 1} | variables)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def pod_of(jobset):
    return jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


def environment_of(pod):
    return {item["name"]: item for item in pod["containers"][0]["env"]}


def after_exit(jobset, status):
    """What Kubernetes and JobSet do, by their rules, when a pod ends with a status."""
    spec = jobset["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    reason = "BackoffLimitExceeded"
    for rule in job["podFailurePolicy"]["rules"]:
        condition = rule["onExitCodes"]
        assert condition["containerName"] == job["template"]["spec"]["containers"][0]["name"]
        if (status in condition["values"]) == (condition["operator"] == "In"):
            assert rule["action"] == "FailJob"
            reason = "PodFailurePolicy"
            break
    for rule in spec["failurePolicy"]["rules"]:
        if reason in rule["onJobFailureReasons"]:
            return rule["action"]
    return "RestartJobSet" if spec["failurePolicy"]["maxRestarts"] > 0 else "FailJobSet"


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.s*")), ids=lambda path: path.name)
def test_the_shell_reads_every_script(path):
    if path.suffix == ".yaml":
        return
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    if path.name != "execute.sh":
        assert path.read_text().startswith("#!/usr/bin/env bash\n")
        assert "\nset -euo pipefail\n" in path.read_text()
        assert path.stat().st_mode & 0o111


def inner_command(printed):
    """The line of shell that the last printed command hands on with --command."""
    (word,) = [w for w in shlex.split(printed.splitlines()[-1]) if w.startswith("--command=")]
    return word.removeprefix("--command=")


@pytest.mark.parametrize(
    ("row", "find"),
    [
        ("`run.sh` | `launch/run.sh", lambda out: program_arguments(out, "gmsrm_jax.main")),
        ("local_processes.sh", lambda out: program_arguments(out, "gmsrm_jax.main")),
        ("slurm.sbatch", lambda out: program_arguments(out, "launch/run.sh")),
        ("GKE, GPUs", lambda out: pod_of(yaml.safe_load(out))["containers"][0]["args"]),
        ("GKE, TPUs", lambda out: pod_of(yaml.safe_load(out))["containers"][0]["args"]),
        ("xpk.sh", lambda out: program_arguments(inner_command(out), "/app/launch/run.sh")),
        (
            "tpu_vm.sh",
            lambda out: program_arguments(
                inner_command(out).split(" >/dev/null || exit 125")[0], "REGISTRY/gmsrm:TAG"
            ),
        ),
    ],
)
def test_the_readme_s_commands_start_the_program(tmp_path, row, find):
    (command,) = readme_command(row)
    # SLURM runs the script with the reservation in its environment.
    stand_in(
        tmp_path,
        "sbatch",
        'while [[ $1 == --* ]]; do shift; done; SLURM_GPUS_ON_NODE=8 exec bash "$@"',
    )
    done = shell(f"export DRY_RUN=1; {command}", {}, tmp_path)
    assert done.returncode == 0, done.stderr
    arguments = find(done.stdout.splitlines()[-1] if row[0] in "`ls" else done.stdout)
    check_arguments(arguments)
    assert arguments == [word for word in ARGUMENTS if word in command]


SHARES = ["inpaint", "--image", "--mask", "--output", "--skip-existing"]


@pytest.mark.parametrize(
    ("row", "given", "share"),
    [
        ("slurm_array.sbatch", {}, "--shard=auto"),
        ("slurm_array.sbatch", {"SHARES": 8}, "--shard=auto/8"),
        ("`launch/run.sh inpaint", {}, "--shard=3/8"),
        ("indexed_job.sh", {}, "--shard=auto/8"),
    ],
)
def test_the_readme_s_commands_start_shares(tmp_path, row, given, share):
    (command,) = readme_command(row)
    stand_in(
        tmp_path,
        "sbatch",
        'while [[ $1 == --* ]]; do shift; done; SLURM_ARRAY_TASK_ID=3 exec bash "$@"',
    )
    venv = virtual_environment(tmp_path / "venv", 'printf "%s\\n" "$@"')
    done = shell(
        command.replace("VENV=.venv", f"VENV={venv}"),
        given | ({"DRY_RUN": 1} if "job" in row else {"VENV": venv}),
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    if "job" in row:
        job = yaml.safe_load(done.stdout)["spec"]
        assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 8, 8)
        (pod,) = job["template"]["spec"]["containers"]
        (rule,) = job["podFailurePolicy"]["rules"]
        assert rule["onExitCodes"]["containerName"] == pod["name"]
        words = ["-m", "gmsrm_jax.cli", *pod["args"]]
    else:
        words = done.stdout.splitlines()
    assert words[:2] == ["-m", "gmsrm_jax.cli"]
    assert [word for word in words[2:] if word in SHARES] == SHARES
    assert words[-1] == share
    build_parser().parse_args(words[2:])


def test_the_readme_s_container_and_skypilot_commands_give_arguments_that_exist():
    build, run = readme_command("Dockerfile")
    assert shlex.split(build)[:4] == ["docker", "build", "--file", "launch/Dockerfile"]
    check_arguments(program_arguments(run, "REGISTRY/gmsrm:TAG"))
    (command,) = readme_command("SkyPilot")
    given = dict(
        word.split("=", 1) for word in program_arguments(command, "launch/skypilot.yaml")[1::2]
    )
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert set(given) == {name for name, value in task["envs"].items() if value is None}
    check_arguments(given["ARGUMENTS"].split())


def test_no_variable_is_named_that_the_program_does_not_read():
    source = inspect.getsource(processes)
    read = set(re.findall(r"GMSRM_[A-Z_]+", source))
    used = {
        name for path in LAUNCH.iterdir() for name in re.findall(r"GMSRM_[A-Z_]+", path.read_text())
    }
    assert used == read
    assert set(re.findall(r"GMSRM_[A-Z_]+", README)) == read


def test_the_readme_names_every_file_and_every_file_it_names_is_there():
    named = set(re.findall(r"^\|[^|]*\| `([^`]+)` \|", README, re.MULTILINE))
    there = {path.name for path in LAUNCH.iterdir()} - {"README.md", "execute.sh"}
    assert named & there == there
    assert all((LAUNCH / name).exists() for name in named if "." in name)


def test_jaxlib_takes_the_flags_of_the_readme():
    offered = re.findall(r"XLA_FLAGS=(--\S+?)`", README)
    assert len(offered) == 2
    done = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env=environment({"XLA_FLAGS": " ".join(offered), "JAX_PLATFORMS": "cpu"}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("platform", "variables"), [("gpu", GPU), ("tpu", TPU)])
def test_jobset_restarts_what_can_go_on_and_ends_with_what_cannot(platform, variables):
    jobset = manifest(platform, variables)
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    outcomes = {status: after_exit(jobset, status) for status in (1, 2, 3, 75, 134, 137, 143)}
    assert outcomes == {
        status: "FailJobSet" if status in (2, 3) else "RestartJobSet" for status in outcomes
    }
    # New pods take the names of the old ones, and the workdir.
    assert jobset["spec"]["failurePolicy"]["restartStrategy"] == "BlockingRecreate"


def test_jobset_of_gpu_hosts_tells_every_pod_its_place():
    jobset = manifest("gpu", GPU)
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job, pod = replicated["template"]["spec"], pod_of(jobset)
    assert replicated["replicas"] == 1
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (2, 2, "Indexed")
    given = environment_of(pod)
    # Pods of a JobSet are called JOBSET-REPLICATEDJOB-JOB-POD, in the domain JOBSET.
    host = f"{jobset['metadata']['name']}-{replicated['name']}-0-0.{jobset['metadata']['name']}"
    assert given["GMSRM_COORDINATOR"]["value"].rsplit(":")[0] == host
    assert given["GMSRM_NUM_PROCESSES"]["value"] == "2"
    assert given["GMSRM_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"] == (
        "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    )
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert given["GMSRM_EXPECTED_LOCAL_DEVICES"]["value"] == "8"
    assert pod["terminationGracePeriodSeconds"] == 120
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["automountServiceAccountToken"] is False
    # Otherwise tini would not be the first process.
    assert "command" not in container
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"shared": "/mnt/gmsrm", "memory": "/dev/shm"}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
    assert all(item.get("value", "") == str(item.get("value", "")) for item in given.values())


@pytest.mark.parametrize(
    ("topology", "chips", "hosts"), [("2x2x4", 4, 4), ("4x4", 4, 4), ("2x2", 4, 1)]
)
def test_jobset_of_a_tpu_slice_has_a_pod_for_each_host(topology, chips, hosts):
    jobset = manifest("tpu", TPU | {"TOPOLOGY": topology, "CHIPS": chips})
    job, pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"], pod_of(jobset)
    assert (job["completions"], job["parallelism"]) == (hosts, hosts)
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": chips}
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == topology
    # JAX finds the hosts of a slice itself, and would be misled by only some of the three.
    assert not {"GMSRM_COORDINATOR", "GMSRM_NUM_PROCESSES", "GMSRM_PROCESS_ID"} & set(
        environment_of(pod)
    )


def test_jobset_options():
    extra = {"SPOT": 1, "GCSFUSE": 1, "QUEUE": "q", "NAMESPACE": "ns", "MAX_RESTARTS": 7}
    jobset = manifest("gpu", GPU | extra, *ARGUMENTS, '--config.data.note=a "b" \\ c')
    pod = pod_of(jobset)
    assert jobset["metadata"]["namespace"] == "ns"
    assert jobset["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "q"}
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 7
    # A spot host is gone 30 s after the signal.
    assert pod["terminationGracePeriodSeconds"] == 25
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    template = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}
    assert pod["containers"][0]["args"][-1] == '--config.data.note=a "b" \\ c'
    check_arguments(pod["containers"][0]["args"])


def test_xpk_restarts_on_75_and_hands_a_gpu_host_its_place():
    done = shell(
        shlex.join(["launch/xpk.sh", *ARGUMENTS]), XPK | {"DEVICE_TYPE": "h100-80gb-8", "NODES": 2}
    )
    words = shlex.split(done.stdout)
    assert words[:3] == ["xpk", "workload", "create"]
    options = dict(word.removeprefix("--").split("=", 1) for word in words[3:])
    codes = {int(code) for code in options["restart-on-exit-codes"].split(",")}
    assert 75 in codes and not codes & {2, 3}
    assert int(options["max-restarts"]) > 0
    assert options["num-nodes"] == "2"
    # xpk puts the line between double quotes of its own.
    assert '"' not in options["command"]
    theirs = {"JAX_COORDINATOR_ADDRESS": "h-0", "JAX_COORDINATOR_PORT": 6002, "NNODES": 2}
    there = options["command"].replace("/app/launch/", "launch/")
    printed = shell(there, theirs | {"NODE_RANK": 1, "GPUS_PER_NODE": 8, "DRY_RUN": 1}).stdout
    given = assignments(printed)
    assert given["GMSRM_COORDINATOR"] == "h-0:6002"
    assert (given["GMSRM_NUM_PROCESSES"], given["GMSRM_PROCESS_ID"]) == ("2", "1")
    assert given["JAX_LOCAL_DEVICE_IDS"] == "0,1,2,3,4,5,6,7"


def test_skypilot_runs_run_sh_with_its_own_names_translated():
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75, 143]
    assert list(task["file_mounts"]) == ["/mnt/gmsrm"]
    assert subprocess.run(["bash", "-n", "-c", task["setup"]]).returncode == 0
    theirs = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": 2}
    theirs |= {"SKYPILOT_NODE_RANK": 1, "SKYPILOT_NUM_GPUS_PER_NODE": 4, "DRY_RUN": 1}
    done = shell(task["run"], theirs | {"ARGUMENTS": " ".join(ARGUMENTS)})
    given = assignments(done.stdout)
    assert given["GMSRM_COORDINATOR"] == "10.0.0.1:8476"
    assert (given["GMSRM_NUM_PROCESSES"], given["GMSRM_PROCESS_ID"]) == ("2", "1")
    assert given["GMSRM_EXPECTED_LOCAL_DEVICES"] == "4"
    last = done.stdout.strip().splitlines()[-1]
    assert program_arguments(last, "gmsrm_jax.main") == ARGUMENTS


def test_dockerfile():
    lines = (LAUNCH / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    images = [rest.split()[0] for name, rest in steps if name == "FROM"]
    assert all(re.fullmatch(r"python:3\.11[-.\w]+", image) for image in images)
    for name, rest in steps:
        if name == "COPY" and not rest.startswith("--from"):
            assert all((REPOSITORY / source).exists() for source in rest.split()[:-1])
    names = [name for name, _ in steps]
    assert names.index("USER") > names.index("RUN")
    assert dict(steps)["USER"] == "$USER_ID" and "ARG USER_ID=1000" in lines
    # Not through a shell, and not as the first process: signals would not end it.
    assert yaml.safe_load(dict(steps)["ENTRYPOINT"]) == ["tini", "--", "/app/launch/run.sh"]
    (install,) = [rest for name, rest in steps if name == "RUN" and "pip install" in rest]
    assert "--constraint constraints.txt" in install
    extras = set(re.search(r"(\S+)\) what=\"\.\[", install)[1].split("|"))
    offered = re.findall(r"^(cuda12|cuda13|tpu) = ", (REPOSITORY / "setup.cfg").read_text(), re.M)
    assert extras == set(offered)
