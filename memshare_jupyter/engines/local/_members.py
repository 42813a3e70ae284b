"""The controller and the engines of a local cluster: ipyparallel's own, set up lean.

ipyparallel's defaults serve clusters of many hosts: the controller runs as nine processes,
each engine has a second process beside it, and engines are admitted on a heartbeat of three
seconds. On one host, under a tether that sees every process end, one controller process
and nothing beside the engines do the same work (`tests/benchmarks/bench_local_cluster.py`
measures both). What differs from the defaults is here, and only here.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final

import zmq
from ipyparallel.controller import heartmonitor
from ipyparallel.controller.app import IPController
from ipyparallel.engine.app import IPEngine
from jupyter_client.session import Session

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_HEARTBEAT_MS: Final = 50
"""While engines start. They are admitted at the second heartbeat."""

_IDLE_HEARTBEAT_MS: Final = 1000
"""Afterwards. Ten beats a second took 1 % of a core for two engines, and more for more."""

_HEARTBEAT_MISSES: Final = 300
"""15 s while engines start, five minutes afterwards: it is the tether that notices deaths."""

_PRELOAD: Final = (
    "IPython.core.completerlib",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "cloudpickle",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "numpy",
)
"""What every engine imports sooner or later, and can share if it is imported before."""

_USERS_IPYTHONDIR: Final = os.environ.get("IPYTHONDIR")


def preload() -> None:
    """Import what engines need, before they are forked.

    Without debugpy: engines have no debugger, yet ipykernel imports it for 10 MB each.
    """
    absent = "debugpy" not in sys.modules
    if absent:
        sys.modules["debugpy"] = None  # type: ignore[assignment]  # "not installed"
    try:
        importlib.import_module("ipykernel.debugger")
    finally:
        if absent:
            del sys.modules["debugpy"]
    for name in _PRELOAD:
        importlib.import_module(name)


class _HeartMonitor(heartmonitor.HeartMonitor):  # type: ignore[misc]  # ipyparallel is untyped
    """Beats fast only as long as an engine awaits admission."""

    hub: ClassVar[Any]

    def beat(self) -> None:
        super().beat()
        hurry = not self.hearts or self.hub.incoming_registrations
        self.caller.callback_time = _HEARTBEAT_MS if hurry else _IDLE_HEARTBEAT_MS


class Controller(IPController):  # type: ignore[misc]  # ipyparallel is untyped
    """A controller in one process, its connection files a pipe to the tether."""

    heartmonitor_process: Any

    def __init__(self, ready: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._ready = ready
        self._connection: dict[str, Any] = {}

    def init_hub(self) -> None:
        super().init_hub()
        _HeartMonitor.hub = self.hub
        heartmonitor.HeartMonitor = _HeartMonitor
        # The one child process that use_threads leaves.
        self.heartmonitor_process = threading.Thread(
            target=self.heartmonitor_process.run, name="HeartMonitor", daemon=True
        )

    def save_connection_dict(self, fname: str, cdict: dict[str, Any]) -> None:
        self._connection["engine" if fname == self.engine_json_file else "client"] = cdict

    def start(self) -> None:
        self.loop.add_callback(self._report)  # when all sockets are bound
        super().start()

    def _report(self) -> None:
        with open(self._ready, "w", encoding="utf-8") as stream:
            json.dump(self._connection, stream)

    def cleanup_connection_files(self) -> None:
        """There are none: the session's key is never on disk."""


def run_controller(directory: str, ready: int) -> None:
    """Run the controller in this process until it is told to end.

    Parameters
    ----------
    directory : str
        Private directory for the files of an IPython profile.
    ready : int
        File descriptor to which the connection data go, as JSON, when clients and engines
        may connect; closed then.
    """
    address = _loopback_address()
    arguments = [
        *_set_up(directory),
        f"--ip={address}",
        f"--location={address}",  # else clients resolve this host's name
        "--IPController.use_threads=True",
        "--IPController.broadcast_scheduler_depth=0",
        # The hub's database would keep every task and its result for the client that may
        # ask again; ours holds its results itself.
        "--nodb",
        # Only who has the key may connect: others can neither hear what engines print nor fill
        # the queues of the controller.
        f"--IPController.enable_curve={zmq.has('curve')}",
        f"--Session.key={secrets.token_hex(32)}",  # with CURVE there would be none, and a warning
        f"--HeartMonitor.period={_HEARTBEAT_MS}",
        f"--HeartMonitor.max_heartmonitor_misses={_HEARTBEAT_MISSES}",
    ]
    Controller.launch_instance(arguments, ready=ready)


def run_engine(directory: str, engine: int, connection: dict[str, Any]) -> None:
    """Run engine number `engine` in this process until it is told to end."""
    arguments = [
        *_set_up(directory),
        f"--IPEngine.id={engine}",
        "--IPEngine.enable_nanny=False",
        "--IPEngine.max_heartbeat_misses=0",  # the tether ends engines: no need to watch the hub
        "--IPEngine.timeout=60",
        "--HistoryManager.enabled=False",
        f"--InteractiveShellApp.extensions={__name__}",
    ]
    IPEngine.launch_instance(arguments, connection_info_env=json.dumps(connection))


def _loopback_address() -> str:
    """Return a loopback address that is most likely no other cluster's.

    The controller picks 14 free ports and binds them a moment later. Two clusters starting
    together on one address would take each other's ports once in a hundred times, and wait
    for ever; all of 127.0.0.0/8 is loopback.
    """
    address = ".".join(["127", *(str(1 + secrets.randbelow(254)) for _ in range(3))])
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:  # a sandbox with less
            return "127.0.0.1"
    return address


def _set_up(directory: str) -> list[str]:
    """Make `directory` IPython's; return the arguments that controller and engines share."""
    # The engine's shell makes a default profile wherever this says, whatever its arguments.
    os.environ["IPYTHONDIR"] = directory
    return [f"--profile-dir={directory}", f"--work-dir={os.getcwd()}", "--log-level=WARN"]


def send_unregistration(connection: dict[str, Any], engine: int) -> None:
    """Tell the hub that an engine is gone, as its nanny would have done.

    Clients then see an ``EngineError`` for the engine's unfinished tasks at once.
    """
    session = Session(
        key=connection["key"].encode(),
        signature_scheme=connection["signature_scheme"],
        packer=connection["pack"],
        unpacker=connection["unpack"],
    )
    with zmq.Context() as context, context.socket(zmq.DEALER) as hub:
        hub.linger = 3000
        if server_key := connection.get("curve_serverkey"):
            hub.curve_publickey, hub.curve_secretkey = zmq.curve_keypair()
            hub.curve_serverkey = server_key.encode()
        hub.connect(f"{connection['interface']}:{connection['registration']}")
        session.send(hub, "unregistration_request", content={"id": engine})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Finish an engine: let it answer ``Client.send_signal``, as its nanny otherwise would."""
    if _USERS_IPYTHONDIR is None:
        del os.environ["IPYTHONDIR"]
    else:
        os.environ["IPYTHONDIR"] = _USERS_IPYTHONDIR
    kernel: Any = shell.kernel  # type: ignore[attr-defined]

    def signal_request(stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        # Runs in the kernel's control thread, while the main thread is in the task.
        number = parent["content"]["sig"]
        if isinstance(number, str):
            number = getattr(importlib.import_module("signal"), number)
        os.kill(os.getpid(), number)
        kernel.session.send(stream, "signal_reply", {"status": "ok"}, parent, ident=ident)

    kernel.control_handlers["signal_request"] = signal_request
