"""The recipes for clusters of several hosts, run from their own text: docs/recipes.md."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.hosts.lab import PATIENCE_S, ROOT, Lab, why_not

TEXT = (ROOT / "docs" / "recipes.md").read_text()
NODES = ("h2", "h3")
WORK = """
import numpy as np, memshare_jupyter as ms
A = np.random.default_rng(0).standard_normal((50, 200))
ms.register_variables("rna", {"X": A})
found = ms.memapply("rna.X", "cols", np.std, cluster=client)
def host():
    import socket
    return socket.gethostname()
hosts = sorted(client[:].apply_sync(host))
right = found == [np.std(v) for v in A.T]
"""
SSHD = """
HostKey {directory}/hostkey
AuthorizedKeysFile {directory}/key.pub
StrictModes no
PermitRootLogin yes
UsePAM no
PidFile none
Subsystem sftp internal-sftp
SetEnv PYTHONPATH={root} PYTHONDONTWRITEBYTECODE=1 IPYTHONDIR={directory}/ipython
"""
SSH = """
Host *
IdentityFile {directory}/key
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
"""
SLURM = """
ClusterName=lab
SlurmctldHost=h1({h1})
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/pgid
ReturnToService=2
SlurmUser=root
SlurmdUser=root
StateSaveLocation={directory}/ctl
SlurmdSpoolDir={directory}/d-%n
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmdParameters=config_overrides
SwitchType=switch/none
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName=h2 NodeAddr={h2} CPUs=2
NodeName=h3 NodeAddr={h3} CPUs=2
PartitionName=lab Nodes=h2,h3 Default=YES MaxTime=INFINITE State=UP
"""


def recipe(lab, heading, language="py"):
    """Return the blocks of a recipe, with this lab's addresses and Python."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found, heading
    for name, here in {
        "10.0.0.1": lab.address["h1"],
        "node1": lab.address["h2"],
        "node2": lab.address["h3"],
        "/opt/env/bin/python": sys.executable,
    }.items():
        found = [block.replace(name, here) for block in found]
    return found


@pytest.fixture
def lab(tmp_path):
    """Make a lab of a notebook's host and two nodes, without engines; skip without the tools."""
    made = []

    def make(*tools):
        why = why_not() or ", ".join(tool for tool in tools if not shutil.which(tool))
        if why:
            pytest.skip(f"not here: {why}")
        environment = {
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
            "SLURM_CONF": str(tmp_path / "slurm.conf"),
            **dict.fromkeys(["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"], "1"),
        }
        made.append(Lab(3, per_host=0, environment=environment))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.close()


def does_its_work(lab, client):
    """Say that a cluster's engines are where they should be, and do what they should."""
    client.run(WORK, timeout_s=120)
    assert client.value("right")
    assert client.value("hosts") == ["h2", "h2", "h3", "h3"]
    for host in NODES:
        assert len(lab.blocks(host)) >= 1


def ssh(lab):
    """Have each node let in the first host."""
    directory = lab.directory
    for name in ("hostkey", "key"):
        lab.do("h1", f"ssh-keygen -q -t ed25519 -N '' -f {directory}/{name}")
    files = {"sshd": SSHD, "ssh": SSH}
    for name, text in files.items():
        with open(f"{directory}/{name}.conf", "w") as file:
            file.write(text.format(directory=directory, root=ROOT))
    lab.do("h1", f"mount -t tmpfs tmpfs /etc/ssh; cp {directory}/ssh.conf /etc/ssh/ssh_config")
    for host in NODES:
        lab.do(host, "mkdir -p /run/sshd")
        lab.start(host, shutil.which("sshd"), "-D", "-f", f"{directory}/sshd.conf")
        until(lab, "h1", f"ssh {lab.address[host]} true")


def until(lab, host, command):
    """Wait until a command does not fail."""
    deadline = time.monotonic() + PATIENCE_S
    while lab.start(host, "bash", "-c", command).wait(PATIENCE_S):
        assert time.monotonic() < deadline, lab.text()
        time.sleep(0.2)


def slurm(lab, path):
    """Start a Slurm whose nodes are the second and third host."""
    for name in ("ctl", "d-h2", "d-h3"):
        os.mkdir(f"{lab.directory}/{name}")
    (path / "slurm.conf").write_text(SLURM.format(directory=lab.directory, **lab.address))
    for host in lab.hosts:
        lab.do(host, "mkdir -p /run/munge; chown munge: /run/munge")
        files = [f"--{name}-file=/run/munge/{name}" for name in ("log", "pid", "seed")]
        lab.start(host, "runuser", "-u", "munge", "--", "munged", "--foreground", *files)
        until(lab, host, "munge -n | unmunge")
    lab.start("h1", "slurmctld", "-D")
    for host in NODES:
        lab.start(host, "slurmd", "-D", "-N", host)
    until(lab, "h1", "[ $(sinfo -h -o %D -t idle) = 2 ]")


def run_cluster(lab, heading):
    client = lab.python("h1")
    (block,) = recipe(lab, heading)
    client.run(f"import os; os.chdir({lab.directory!r})\n{block}", timeout_s=120)
    try:
        does_its_work(lab, client)
    finally:
        client.run("client.close()\ncluster.stop_cluster_sync()", timeout_s=120)


def test_by_hand(lab):
    lab = lab()
    heading = "Engines started by hand, or by any means"
    controller, engine = recipe(lab, heading, "bash")
    lab.start("h1", "bash", "-c", controller)
    security = f"{lab.directory}/ipython/profile_cluster/security"
    until(lab, "h1", f"[ -e {security}/ipcontroller-engine.json ]")
    for host in NODES:
        for _ in range(2):
            lab.start(host, "bash", "-c", engine)
    client = lab.python("h1")
    client.run(recipe(lab, heading)[0])
    does_its_work(lab, client)


def test_ssh(lab):
    lab = lab("sshd", "ssh-keygen", "ssh")
    ssh(lab)
    os.makedirs(f"{lab.directory}/ipython", exist_ok=True)
    for host in NODES:  # homes of their own
        lab.do(host, f"mount -t tmpfs tmpfs {lab.directory}/ipython")
    run_cluster(lab, "SSH")


def test_mpi(lab):
    lab = lab("sshd", "ssh-keygen", "ssh", "mpiexec")
    ssh(lab)
    run_cluster(lab, "MPI")


def test_slurm_from_a_notebook(lab, tmp_path):
    lab = lab("slurmctld", "slurmd", "munged")
    slurm(lab, tmp_path)
    run_cluster(lab, "Slurm from a notebook")


def test_slurm_as_one_batch_job(lab, tmp_path):
    lab = lab("slurmctld", "slurmd", "munged")
    slurm(lab, tmp_path)
    (job,) = recipe(lab, "Slurm as one batch job", "bash")
    (head,) = recipe(lab, "Slurm as one batch job")
    with open(f"{lab.directory}/job.sh", "w") as file:
        file.write(job)
    with open(f"{lab.directory}/analysis.py", "w") as file:
        file.write(f"{head}{WORK}print('found', right, hosts)\n")
    lab.do("h1", f"cd {lab.directory}; sbatch --wait job.sh")
    (output,) = Path(lab.directory).glob("job-*.txt")
    text = output.read_text()
    assert "found True ['h2', 'h2', 'h3', 'h3']" in text
