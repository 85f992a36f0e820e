"""Real processes that start at once: forked from one that has imported torch, which is most of what a command waits for.

Each is a process of its own, with its own environment, working folder, exit code and output. Nothing of the package is loaded
before the fork. timm and huggingface_hub read the environment when they are imported: they are loaded before the fork of an
`encmixer` command, in a process that was given the command's own environment first and serves it alone (a template).

The workers of one run share the server, which lives as long as the process that started them.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LONGEST_SECONDS = 900  # that anything may take, on a machine that does much else too; what takes longer hangs
COMMAND = ["-m", "timm_encmixer"]
HURRY = "ENCMIXER_TESTS_HURRY"  # a share of the pauses between tries; read here alone, and not by the package
TEMPLATES = 16  # that are kept; each is some 100 MB


class Child:
    """A running process; the little of subprocess.Popen that the tests need. It does not outlive this object."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        out: int,
        err: int,
        address: str,
        obey: bool = False,
        file_bytes: int | None = None,
    ) -> None:
        self.args, self.returncode = list(arguments), None
        self._connection = _connect(address)
        request = {"arguments": self.args, "env": dict(env), "cwd": str(cwd), "obey": obey, "file_bytes": file_bytes}
        body = json.dumps(request).encode()
        socket.send_fds(self._connection, [len(body).to_bytes(4, "little")], [out, err])
        self._connection.sendall(body)
        self.pid = int.from_bytes(_receive(self._connection, 4), "little")

    def wait(self, timeout: float | None = LONGEST_SECONDS) -> int:
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

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, err: int | None = None) -> Child:
    """Start `python ARGUMENTS` (-m MODULE ..., -c CODE ..., or SCRIPT ...), its output thrown away; stderr may go to `err`."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        out = nowhere.fileno()
        return Child(arguments, env=env, cwd=cwd, out=out, err=out if err is None else err, address=server())


def run(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    timeout: float = LONGEST_SECONDS,
    obey_permissions: bool = False,
    file_bytes: int | None = None,
) -> subprocess.CompletedProcess:
    """Run `python ARGUMENTS` and return what subprocess.run would.

    Args:
        arguments: -m MODULE ..., -c CODE ..., or SCRIPT ...
        env: Its whole environment.
        cwd: Its working folder.
        timeout: In seconds.
        obey_permissions: Without root's power over other people's files.
        file_bytes: No file may grow larger: to write more is an error, as on a full disk.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        output = {"out": out.fileno(), "err": err.fileno()}
        limits = {"obey": obey_permissions, "file_bytes": file_bytes}
        child = Child(arguments, env=env, cwd=cwd, address=server(), **output, **limits)
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
    command = folder / "bin" / "encmixer"
    command.parent.mkdir()
    _write_program(command, COMMAND)
    return os.pathsep.join([str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]])


@functools.cache
def interpreter() -> str:
    """Return a program that is `python ARGUMENTS`, but starts at once."""
    folder = tempfile.TemporaryDirectory(prefix="encmixer-tests-")
    atexit.register(folder.cleanup)
    program = Path(folder.name) / "python"
    _write_program(program, [])
    return str(program)


def _write_program(program: Path, words: Sequence[str]) -> None:
    call = f"processes.pass_on({server()!r}, [*{words!r}, *sys.argv[1:]])"
    imports = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport processes"
    program.write_text(f"#!{sys.executable} -S\n{imports}\n{call}\n")
    program.chmod(0o755)


def pass_on(address: str, arguments: Sequence[str]) -> None:
    """Be `python ARGUMENTS`, as far as the process that started it can tell."""
    child = Child(arguments, env=os.environ, cwd=Path.cwd(), out=1, err=2, address=address)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: child.send_signal(number))
    code = child.wait(timeout=None)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if code != -signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    sys.exit(code)


@functools.cache
def server() -> str:
    """Return the address of this run's server, which is started if need be."""
    if not hasattr(os, "pidfd_open"):
        import pytest  # not in the server itself

        pytest.skip("processes are forked as Linux alone can")
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    address = f"encmixer-tests-{owner}"
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(f"\0{address}")
        except OSError:  # another worker was first
            return address
        listener.listen(128)  # connections wait here until torch is imported
        words = [sys.executable, __file__, str(listener.fileno()), str(owner)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.Popen(words, pass_fds=[listener.fileno()], env=environment, start_new_session=True)
    return address


def _connect(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    end = time.monotonic() + LONGEST_SECONDS
    while True:
        try:
            connection.connect(f"\0{address}")  # abstract: it goes away with the server
        except ConnectionRefusedError:  # another worker has bound it, and is about to listen
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return connection


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the server of processes has ended")
        data += part
    return data


class _Forks:
    """The processes that were forked here for connections: who asked for them is told how they end, and if it goes, they do."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[int, socket.socket | None]] = {}  # by pidfd

    def __len__(self) -> int:
        return len(self._running)

    def add(self, pid: int, connection: socket.socket | None) -> None:
        self._running[os.pidfd_open(pid)] = pid, connection
        if connection is not None:
            self._tell(connection, pid, signed=False)

    def wait_for(self, *others: object) -> list[object]:
        """See to the forks until one of `others` can be read, or nothing is left to wait for; return those that can."""
        while others or self._running:
            connections = {connection: pidfd for pidfd, (_, connection) in self._running.items() if connection is not None}
            ready = select.select([*others, *self._running, *connections], [], [])[0]
            for pidfd in [pidfd for pidfd in self._running if pidfd in ready]:
                self._report(pidfd)
            for pidfd in [connections[one] for one in ready if one in connections]:
                self._end(pidfd)
            if found := [one for one in others if one in ready]:
                return found
        return []

    def forget(self) -> None:
        """Close what belongs to the others, in a fork of this process."""
        for pidfd, (_, connection) in self._running.items():
            os.close(pidfd)
            if connection is not None:
                connection.close()

    def _report(self, pidfd: int) -> None:
        pid, connection = self._running.pop(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        if connection is not None:
            self._tell(connection, os.waitstatus_to_exitcode(status), signed=True)
            connection.close()

    def _end(self, pidfd: int) -> None:
        """Nothing is ever sent to a connection after the request: it was closed."""
        pid, connection = self._running.get(pidfd, (0, None))
        if connection is not None:
            os.kill(pid, signal.SIGKILL)  # not waited for yet, so the number is still its own
            connection.close()
            self._running[pidfd] = pid, None

    @staticmethod
    def _tell(connection: socket.socket, number: int, *, signed: bool) -> None:
        with contextlib.suppress(OSError):  # it does not listen any more
            connection.sendall(number.to_bytes(4, "little", signed=signed))


def _serve(listener: socket.socket, owner: int) -> dict | None:
    """Fork a process for every connection until `owner` is gone. Return in each fork, with what it is to be."""
    for name in ("torch", "torchvision", "foolbox", "jinja2", "matplotlib.figure", "scipy.optimize", "skimage.metrics"):
        with contextlib.suppress(ImportError):  # an extra; none of these reads what a command's environment says
            importlib.import_module(name)
    gc.freeze()  # or every child spends a second at its end on collecting what is imported here
    lifeline, forks = os.pidfd_open(owner), _Forks()
    templates: dict[tuple, socket.socket] = {}  # by environment; the one that was used last is the last
    while lifeline not in (ready := forks.wait_for(listener, lifeline)):
        assert listener in ready
        connection, _ = listener.accept()
        head, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
        if not head:  # it was killed before it could ask
            connection.close()
            continue
        request = json.loads(_receive(connection, int.from_bytes(head, "little")))
        environment = tuple(sorted((name, value) for name, value in request["env"].items() if not name.startswith("PYTEST_")))
        if request["arguments"][:2] != COMMAND:
            pid = os.fork()
            if pid == 0:
                for socket_ in (listener, *templates.values()):
                    socket_.close()
                return _take(request, connection, descriptors, forks)
            forks.add(pid, connection)
        else:
            if environment not in templates:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                pid = os.fork()
                if pid == 0:
                    for socket_ in (ours, listener, connection, *templates.values()):
                        socket_.close()
                    for descriptor in descriptors:
                        os.close(descriptor)
                    forks.forget()
                    return _be_template(theirs, dict(environment))
                theirs.close()
                forks.add(pid, None)
                templates[environment] = ours
                if len(templates) > TEMPLATES:
                    templates.pop(next(iter(templates))).close()
            templates[environment] = template = templates.pop(environment)
            socket.send_fds(template, [json.dumps(request).encode()], [connection.fileno(), *descriptors])
            connection.close()
        for descriptor in descriptors:
            os.close(descriptor)
    return None


def _be_template(requests: socket.socket, environment: Mapping[str, str]) -> dict | None:
    """Import in an environment what commands spend their time on, and fork a process for every request."""
    os.environ.clear()
    os.environ.update(environment)
    import huggingface_hub.hf_api  # noqa: F401
    import timm  # noqa: F401

    gc.freeze()
    forks = _Forks()
    while True:
        forks.wait_for(requests)
        body, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not body:  # no more requests
            forks.wait_for()
            return None
        connection = socket.socket(fileno=descriptors[0])
        pid = os.fork()
        if pid == 0:
            requests.close()
            return _take(json.loads(body), connection, descriptors[1:], forks)
        forks.add(pid, connection)
        for descriptor in descriptors[1:]:
            os.close(descriptor)


def _take(request: dict, connection: socket.socket, descriptors: Sequence[int], forks: _Forks) -> dict:
    """In a fork: keep nothing but the two descriptors for output."""
    connection.close()
    forks.forget()
    for ours, standard in zip(descriptors, (1, 2), strict=True):
        os.dup2(ours, standard)
        os.close(ours)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return request


def _become(request: dict) -> None:
    """Do in this process what `python ARGUMENTS` would."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    if request["obey"]:
        _obey_permissions()
    if request["file_bytes"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"], request["file_bytes"]))
    kind, *words = request["arguments"]
    share = os.environ.pop(HURRY, None)
    if share is not None and kind == "-m":  # the command; a program may be there to show that the package is not needed
        _hurry(float(share))
    if kind == "-u":
        sys.stdout.reconfigure(write_through=True)
        kind, *words = words
    sys.path[0] = request["cwd"]
    if kind == "-c":
        sys.argv = ["-c", *words[1:]]
        exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = str(Path(kind).parent), [kind, *words]
        runpy.run_path(kind, run_name="__main__")


def _hurry(share: float) -> None:
    """Wait for a share of the time between the tries of a request to the Hub; their number stays."""
    from timm_encmixer.hub import client

    client.RETRY_SECONDS = tuple(share * seconds for seconds in client.RETRY_SECONDS)


_exit_codes: list[int] = []


def _end_at_once() -> None:
    """Spare a fork the taking apart of what is imported, which would copy all its pages.

    Registered before anything else is, so called last: threads are joined, and all other functions of `atexit` were called.
    """
    if _exit_codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exit_codes[0] & 0xFF)


def _main(listener: int, owner: int) -> None:
    atexit.register(_end_at_once)
    request = _serve(socket.socket(fileno=listener), owner)
    if request is None:
        return
    try:
        _become(request)
    except SystemExit as end:
        _exit_codes.append(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    _exit_codes.append(0)  # after any other exception the interpreter ends as always


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
    _main(int(sys.argv[1]), int(sys.argv[2]))
