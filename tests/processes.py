"""Real processes that start at once: forked from one that has imported torch, which is most of what a command waits for.

Each is a process of its own, with its own environment, working folder, exit code and output; nothing of the package or of
huggingface_hub is loaded before the fork, so they read their environment as fresh interpreters do.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_servers: dict[int, socket.socket] = {}
_lock = threading.Lock()


class Child:
    """A running process; the little of subprocess.Popen that the tests need."""

    def __init__(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, out: int, err: int, obey: bool, address: str
    ) -> None:
        self.args, self.returncode = list(arguments), None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(f"\0{address}")  # abstract: it goes away with the server
        body = json.dumps({"arguments": self.args, "env": dict(env), "cwd": str(cwd), "obey": obey}).encode()
        socket.send_fds(self._connection, [len(body).to_bytes(4, "little")], [out, err])
        self._connection.sendall(body)
        self.pid = int.from_bytes(_receive(self._connection, 4), "little")

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = int.from_bytes(_receive(self._connection, 4), "little", signed=True)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(timeout=0)
        return None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def start(arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Child:
    """Start `python ARGUMENTS` (-m MODULE ..., -c CODE ..., or SCRIPT ...), its output thrown away."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        return Child(arguments, env=env, cwd=cwd, out=nowhere.fileno(), err=nowhere.fileno(), obey=False, address=server())


def run(
    arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float = 300, obey_permissions: bool = False
) -> subprocess.CompletedProcess:
    """Run `python ARGUMENTS` and return what subprocess.run would."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = Child(arguments, env=env, cwd=cwd, out=out.fileno(), err=err.fileno(), obey=obey_permissions, address=server())
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            raise
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(child.args, child.returncode or 0, *texts)


def path_of_commands(folder: Path) -> str:
    """Return a PATH on which `encmixer` is `python -m timm_encmixer`, but starts at once; the command is put into `folder`."""
    call = f"sys.exit(processes.pass_on({server()!r}, ['-m', 'timm_encmixer', *sys.argv[1:]]))"
    imports = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport processes"
    command = folder / "bin" / "encmixer"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable} -S\n{imports}\n{call}\n")
    command.chmod(0o755)
    return os.pathsep.join([str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]])


def pass_on(address: str, arguments: Sequence[str]) -> int:
    """Be `python ARGUMENTS`, as far as the process that waits for it can tell."""
    child = Child(arguments, env=os.environ, cwd=Path.cwd(), out=1, err=2, obey=False, address=address)
    code = child.wait()
    return code if code >= 0 else 128 - code


def server() -> str:
    """Return the address of this process's server, which is started if need be."""
    with _lock:
        address = f"encmixer-tests-{os.getpid()}"
        if os.getpid() not in _servers:
            ours, theirs = socket.socketpair()
            words = [sys.executable, __file__, address, str(theirs.fileno())]
            subprocess.Popen(words, pass_fds=[theirs.fileno()], env={**os.environ, "OMP_NUM_THREADS": "1"})
            theirs.close()
            assert ours.recv(1) == b"R"
            _servers[os.getpid()] = ours  # the server lives as long as this end is open
    return address


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the server of processes has ended")
        data += part
    return data


def _serve(address: str, lifeline: int) -> None:
    """Fork a process for every connection, until the process that started this one is gone."""
    import torch  # noqa: F401
    import torchvision  # noqa: F401

    gc.freeze()  # or every child spends a second at its end on collecting what is imported here
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{address}")
    listener.listen(16)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = socket.socket(fileno=lifeline)
    parent.sendall(b"R")
    while True:
        ready, _, _ = select.select([listener, parent], [], [])
        if parent in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            parent.close()
            _handle(connection)
            return
        connection.close()


def _handle(connection: socket.socket) -> None:
    """Fork the process that was asked for, wait for it, report how it ended."""
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
    request = json.loads(_receive(connection, int.from_bytes(head, "little")))
    pid = os.fork()
    if pid == 0:
        connection.close()
        for ours, standard in zip(descriptors, (1, 2), strict=True):
            os.dup2(ours, standard)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _become(request)
        return
    connection.sendall(pid.to_bytes(4, "little"))
    _, status = os.waitpid(pid, 0)
    connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True))
    os._exit(0)


def _become(request: dict) -> None:
    """Do in this process what `python ARGUMENTS` would."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    if request["obey"]:
        _obey_permissions()
    kind, *words = request["arguments"]
    sys.path[0] = request["cwd"]
    try:
        if kind == "-c":
            sys.argv = ["-c", *words[1:]]
            exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
        elif kind == "-m":
            sys.argv = words
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        else:
            sys.path[0], sys.argv = str(Path(kind).parent), [kind, *words]
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    else:
        code = 0
    _end(code)  # any other exception ends the interpreter as always


def _end(code: int) -> None:
    """Do what the interpreter does at its end, but for taking apart what is imported: in a fork that copies all its pages."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def _obey_permissions() -> None:
    """Root reads and writes everything; without two of its capabilities it is held to a file's permissions."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice 32 bits
    libc.capget(header, sets)
    for part in (0, 1):
        sets[part] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    libc.capset(header, sets)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
