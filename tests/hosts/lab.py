"""Hosts made of namespaces, on one machine, joined by a bridge whose bytes are counted.

Each has its own network, mounts (``/dev/shm`` and ``/run``), names, System V objects and pids, so
nothing that is shared between processes of one host is shared between two of them. The first one
has the controller. Nothing is left of a lab when it is closed, or when the process that made it
ends in order.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
_numbers = itertools.count()
_INIT = """
set -e
hostname {host}; mount --make-rprivate /
mount -t tmpfs -o size={shm} tmpfs /dev/shm; mount -t tmpfs -o size=64m tmpfs /run
echo ready
while true; do sleep 60 & wait $! || true; done  # and reap whoever ends
"""
_TOOLS = ("ip", "tc", "nsenter", "unshare", "mount", "hostname")
_NAMESPACES = (*("--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"),)
_PROBE = """
hostname h0; mount --make-rprivate /; mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs tmpfs /run
ip link add br0 type bridge; ip link add one type veth peer name other; ip link set one master br0
tc qdisc replace dev one root tbf rate 1gbit burst 256kb latency 30ms; ip netns add h1
"""
_CLIENT = str(Path(__file__).with_name("client.py"))


def why_not() -> str:
    """Say why there can be no lab here; empty if there can."""
    if os.geteuid() != 0:
        return "hosts made of namespaces need root"
    if missing := [tool for tool in _TOOLS if not shutil.which(tool)]:
        return f"hosts made of namespaces need {', '.join(missing)}"
    command = ["unshare", "--net", *_NAMESPACES, "sh", "-ec", _PROBE]
    made = subprocess.run(command, capture_output=True, text=True)
    return f"no namespaces can be made: {made.stderr.strip()}" if made.returncode else ""


class Lab:
    """So many hosts, ``h1`` and on, and a cluster of `per_host` engines on each.

    Parameters
    ----------
    hosts, per_host : int
        How many hosts, and how many engines on each.
    rate : str, optional
        What each link carries in each direction, as tc(8) writes it.
    shm : str
        The size of each host's ``/dev/shm``.
    environment : dict, optional
        More variables for all processes.
    """

    def __init__(self, hosts=2, per_host=2, rate=None, shm="1g", environment=None):
        self.hosts = [f"h{number + 1}" for number in range(hosts)]
        self.address = {host: f"10.77.3.{n + 1}" for n, host in enumerate(self.hosts)}
        self.engines = {}
        self.directory = tempfile.mkdtemp(prefix="memshare-lab-")
        self.log = open(f"{self.directory}/output.txt", "w+")  # noqa: SIM115 -- closed in `close`
        self._tag = f"ms{os.getpid() % 100000}n{next(_numbers)}"
        self._inits, self._namespaces, self._processes, self._clients = {}, [], [], []
        self._environment = environment or {}
        self._groups = []
        try:
            self._make(rate, shm)
            self._controller()
            for host in self.hosts:
                self.engines[host] = [self.engine(host) for _ in range(per_host)]
        except BaseException:
            self.close()
            raise

    def _make(self, rate, shm):
        switch = self._namespace("sw")
        self._ip(f"-n {switch} link add br0 type bridge")
        self._ip(f"-n {switch} link set br0 up")
        for host in self.hosts:
            inside = self._namespace(host)
            # Not by `ip netns exec`, which mounts a /sys without control groups.
            enter = ["nsenter", f"--net=/run/netns/{inside}"]
            command = [*enter, "unshare", *_NAMESPACES, "bash", "-c"]
            init = subprocess.Popen(
                [*command, _INIT.format(host=host, shm=shm)], stdout=subprocess.PIPE, text=True
            )
            self._processes.append(init)
            assert init.stdout.readline() == "ready\n", f"{host} does not start"
            self._inits[host] = _last_child(init.pid)
            end = f"{self._tag}{host}e"
            self._ip(f"link add eth0 netns {inside} type veth peer name {end} netns {switch}")
            self._ip(f"-n {inside} addr add {self.address[host]}/24 dev eth0")
            self._ip(f"-n {inside} link set lo up")
            self._ip(f"-n {inside} link set eth0 up")
            self._ip(f"-n {switch} link set {end} master br0 up")
            if rate:
                limit = f"root tbf rate {rate} burst 256kb latency 30ms"
                _run(f"tc -n {inside} qdisc replace dev eth0 {limit}")
                _run(f"tc -n {switch} qdisc replace dev {end} {limit}")

    def _namespace(self, name):
        inside = self._tag + name
        self._ip(f"netns add {inside}")
        self._namespaces.append(inside)
        return inside

    @staticmethod
    def _ip(arguments):
        _run(f"ip {arguments}")

    def link(self, host, state):
        """Take the link of a host ``"up"`` or ``"down"``."""
        self._ip(f"-n {self._tag}{host} link set eth0 {state}")

    def cut(self, host, other):
        """Let nothing go from a host to another one, as a firewall does that drops it."""
        self._ip(f"-n {self._tag}{host} route add blackhole {self.address[other]}/32")

    def start(self, host, *command, **options):
        """Start a process on a host."""
        environment = {
            **{k: v for k, v in os.environ.items() if k not in _NOT_THEIRS},
            **dict.fromkeys(["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"], "1"),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "IPYTHONDIR": f"{self.directory}/ipython",
            **self._environment,
        }
        where = ["nsenter", "-t", str(self._inits[host]), "-m", "-u", "-i", "-n", "-p", "--"]
        options = {"stdout": self.log, "stderr": self.log, **options}
        made = subprocess.Popen([*where, *command], env=environment, cwd=self.directory, **options)
        self._processes.append(made)
        return made

    def _controller(self):
        ip = self.address["h1"]
        self.controller = self.start(
            *("h1", sys.executable, "-m", "ipyparallel.controller"),
            *(f"--ip={ip}", f"--location={ip}", f"--profile-dir={self.directory}", "--ping=1000"),
        )
        _wait_for(lambda: os.path.exists(self.connection("engine")), self.text)
        _wait_for(lambda: os.path.exists(self.connection("client")), self.text)

    def connection(self, kind):
        """Return the file that tells an ``"engine"`` or a ``"client"`` of the controller."""
        return f"{self.directory}/security/ipcontroller-{kind}.json"

    def engine(self, host):
        """Start one more engine on a host."""
        return self.start(
            *(host, sys.executable, "-m", "ipyparallel.engine"),
            *(f"--file={self.connection('engine')}", f"--profile-dir={self.directory}"),
        )

    def python(self, host):
        """Start a process on a host that runs code."""
        made = Client(self, host)
        self._clients.append(made)
        return made

    def do(self, host, script):
        """Run lines of a shell on a host."""
        assert self.start(host, "bash", "-ec", script).wait(PATIENCE_S) == 0, self.text()

    def client(self, host="h1", engines=None, silence_s=10.0):
        """Start a process on a host that has a client ``c`` of all engines.

        It waits a little longer for engines than it would, because all hosts share a machine.
        """
        made = self.python(host)
        number = sum(map(len, self.engines.values())) if engines is None else engines
        made.run(
            "import os, time, numpy as np, ipyparallel as ipp, memshare_jupyter as ms\n"
            "from memshare_jupyter.engines.hosts import _describe as describing\n"
            f"describing.SILENCE_S = {silence_s}\n"
            f"c = ipp.Client(connection_info={self.connection('client')!r}, timeout=60)\n"
            f"c.wait_for_engines({number}, timeout=60)\n"
            "def _who():\n    import os, socket\n    return socket.gethostname(), os.getpid()\n"
            "who = dict(zip(c.ids, c[:].apply_sync(_who)))\n"
            "on = lambda host: [i for i, (h, _) in who.items() if h == host]"
        )
        return made

    def pid(self, host, pid):
        """Return, as this process numbers it, a process that has that pid on a host."""
        for found in self._pids(host):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{found}/status").read_text()
                numbers = status.partition("NSpid:")[2].split("\n")[0].split()
                if numbers[-1] == str(pid):
                    return found
        raise ProcessLookupError(f"{host} has no process {pid}")

    def kill(self, host, pid, number=signal.SIGKILL):
        """Send a signal to a process, as its host numbers it."""
        os.kill(self.pid(host, pid), number)

    def limit_memory(self, host, more_bytes):
        """Let the processes of a host take so much more; return why that cannot be done."""
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        mine = [line.split(":")[2] for line in lines if line.split(":")[1] == "memory"]
        base = Path("/sys/fs/cgroup/memory")
        if not mine or not (base / mine[0].lstrip("/")).is_dir():
            return "there are no control groups of the first version for memory"
        group = base / mine[0].lstrip("/") / self._tag
        group.mkdir()
        self._groups.append(group)
        for pid in self._pids(host):
            (group / "cgroup.procs").write_text(str(pid))
        used = int((group / "memory.usage_in_bytes").read_text())
        (group / "memory.limit_in_bytes").write_text(str(used + more_bytes))
        return ""

    def _pids(self, host):
        inside = os.stat(f"/proc/{self._inits[host]}/ns/pid").st_ino
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}/ns/pid").st_ino == inside:
                    yield pid

    def end(self, host, engine, *, kill):
        """End an engine, and all that began with it on its host."""
        for pid in self._pids(host):
            if pid not in self._inits.values():
                with contextlib.suppress(OSError):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if b"ipyparallel.engine" in command:
                        os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
        engine.wait(PATIENCE_S)

    def kill_controller(self):
        """SIGKILL the controller and its parts."""
        for found in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{found}/cmdline").read_bytes()
                if b"ipyparallel.controller" in command and self.directory.encode() in command:
                    os.kill(found, signal.SIGKILL)

    def kill_host(self, host):
        """End a host at once, and all that runs on it; its link first, as when power fails."""
        self.link(host, "down")
        os.kill(self._inits[host], signal.SIGKILL)

    def bytes(self, host):
        """Return how many bytes a host has received and sent."""
        for line in Path(f"/proc/{self._inits[host]}/net/dev").read_text().splitlines():
            if "eth0" in line:
                fields = line.split()
                return int(fields[1]), int(fields[9])
        raise LookupError(f"{host} has no link")

    def blocks(self, host):
        """Return our blocks that processes of a host have open or mapped: {uuid: pids}."""
        found = {}
        for pid in self._pids(host):
            with contextlib.suppress(OSError):
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        target = os.readlink(f"/proc/{pid}/fd/{fd}")
                        if "memfd:memshare:" in target:
                            found.setdefault(target.split(":")[2].split()[0], set()).add(pid)
        return found

    def files(self, host):
        """Return what is in the runtime directory of a host."""
        inside = ["nsenter", "-t", str(self._inits[host]), "-m", "-p", "--"]
        command = [*inside, "find", "/dev/shm", "-mindepth", "1"]  # noqa: S108 -- that host's own
        listed = subprocess.run(command, capture_output=True, text=True)
        return listed.stdout.split()

    def text(self):
        """Return the end of what controller and engines wrote."""
        return Path(self.log.name).read_text()[-4000:]

    def close(self):
        """End everything."""
        for client in self._clients:
            client.close()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        for init in self._inits.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(init, signal.SIGKILL)
        for process in self._processes:
            process.wait(PATIENCE_S)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        for group in self._groups:
            _wait_for(lambda group=group: not (group / "cgroup.procs").read_text(), self.text)
            group.rmdir()
        for inside in self._namespaces:
            _run(f"ip netns del {inside}")
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


_NOT_THEIRS = frozenset(
    {
        *("XDG_RUNTIME_DIR", "MEMSHARE_RUNTIME_DIR", "MEMSHARE_DIR", "MEMSHARE_SOCKET"),
        "PYTEST_CURRENT_TEST",
    }
)


class Client:
    """A Python process on a host, which runs code; names stay from one run to the next."""

    def __init__(self, lab, host):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = lab.start(host, sys.executable, "-u", _CLIENT, **pipes)
        self._lab = lab
        self._answers = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.pid = int(self.run("import os", "os.getpid()"))

    def _read(self):
        with contextlib.suppress(EOFError, ValueError, OSError, pickle.UnpicklingError):
            while True:
                self._answers.put(pickle.load(self._process.stdout))
        self._answers.put(None)

    def begin(self, code, value="None"):
        """Run code, and give the value of an expression; do not wait."""
        pickle.dump((code, value), self._process.stdin)
        self._process.stdin.flush()

    def end(self, timeout_s=PATIENCE_S):
        """Wait for what was begun; return the value, or raise what was raised there."""
        try:
            found = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"no answer in {timeout_s} s\n{self._lab.text()}") from None
        if found is None:
            raise EOFError(f"the client has ended\n{self._lab.text()}")
        value, error, text = found
        if error is not None:
            error.add_note(text)
            raise error
        return value

    def run(self, code, value="None", timeout_s=PATIENCE_S):
        """Do both."""
        self.begin(code, value)
        return self.end(timeout_s)

    def value(self, expression, timeout_s=PATIENCE_S):
        """Return the value of an expression."""
        return self.run("", expression, timeout_s)

    def kill(self):
        """SIGKILL it."""
        self._lab.kill(self._host(), self.pid)

    def _host(self):
        for host in self._lab.hosts:
            with contextlib.suppress(ProcessLookupError):
                self._lab.pid(host, self.pid)
                return host
        raise ProcessLookupError("the client has ended")

    def exit(self):
        """Let it end as interpreters do."""
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)

    def close(self):
        """End it in whatever state it is."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()


def _last_child(pid):
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
        if Path(f"/proc/{pid}/comm").read_text().strip() in ("bash", "sleep"):
            return pid
    raise ProcessLookupError(f"process {pid} has no child")


def _wait_for(condition, text, patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, text()
        time.sleep(0.05)


def _run(command):
    subprocess.run(command.split(), check=True, capture_output=True)
