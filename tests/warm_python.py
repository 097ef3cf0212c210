"""A `python` that has torch, pandas and the like imported already: a stage starts in it within 50 ms, not 5 s.

A server imports the libraries once and forks for every script; `bin/python` hands its arguments, environment, folder and
streams over to it, and ends with the script's exit code. It does so for stage scripts alone, and is the real python for
everything else. ffdi itself is imported by each script, from its own PYTHONPATH. What a process is tested for, as
what it imports or that it can be killed, needs the real python: sys.executable.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LIBRARIES = (  # not onnxruntime: it starts a thread when it is imported, and a fork has none of its parent's threads
    *("numpy", "pandas", "scipy.stats", "sklearn.metrics", "sklearn.model_selection", "torch", "torchvision", "timm"),
    *("h5py", "hdf5plugin", "safetensors.torch", "PIL.Image", "simplejpeg", "imagehash", "matplotlib"),
    *("pydantic", "ruamel.yaml", "click", "tqdm", "jinja2", "dvclive"),
)
SERVER = "FFDI_WARM_PYTHON"  # the environment variable with the server's socket
CLIENT = """#!{python} -IS
import json, os, socket, sys

if len(sys.argv) < 2 or os.path.basename(os.path.dirname(os.path.abspath(sys.argv[1]))) != "stages":
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ[{variable!r}])
    asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(asked)
    code = server.recv(4)
sys.exit(int.from_bytes(code, "big") if code else 70)
"""


@contextmanager
def warm_python() -> Iterator[dict[str, str]]:
    """The environment variables with which `python` is the warm one, as long as the server runs."""
    with tempfile.TemporaryDirectory(
        prefix="ffdi-"
    ) as folder:  # not pytest's: a socket's path has 107 characters at most
        (client := Path(folder) / "python").write_text(CLIENT.format(python=sys.executable, variable=SERVER))
        client.chmod(0o755)
        path = os.pathsep.join([folder, str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {SERVER: f"{folder}/socket", "PATH": path}
        with subprocess.Popen(
            [sys.executable, __file__, environment[SERVER]],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as server:
            assert server.stdin and server.stdout
            assert server.stdout.readline() == b"ready\n"
            yield environment
            server.stdin.close()


def serve(path: str) -> None:
    """Fork for every request until the process that started the server ends. Returns in a fork that has a script to run."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while listener.fileno() in select.select([listener.fileno(), 0], [], [])[0]:
            client, _ = listener.accept()
            with client:
                if os.fork() == 0:
                    listener.close()
                    attend(client)
                    return
    os._exit(0)


def attend(client: socket.socket) -> None:
    """Start the script that the client asks for in a fork, in which this returns, and tell the client its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    size, streams, _, _ = socket.recv_fds(client, 4, 3)
    asked = b""
    while len(asked) < int.from_bytes(size, "big"):
        asked += client.recv(1 << 16)
    script = os.fork()
    if script == 0:
        client.close()
        become(streams, *json.loads(asked))
        return
    for stream in streams:
        os.close(stream)
    ended = os.waitpid(script, 0)[1]
    code = os.waitstatus_to_exitcode(ended)
    with suppress(BrokenPipeError):
        client.sendall((code if code >= 0 else 128 - code).to_bytes(4, "big"))
    os._exit(0)


def become(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Take over the client's streams, folder, environment, arguments and import path."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    added = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [str(Path(arguments[0]).resolve().parent), *filter(None, added)]
    random.seed()  # else all scripts would draw the same
    sys.modules["numpy"].random.seed()


def main() -> None:
    for name in LIBRARIES:
        with suppress(ImportError):
            __import__(name)
    gc.freeze()  # else a fork's garbage collector would copy all of it
    serve(sys.argv[1])
    os._exit(run_script(sys.argv[0]))


def run_script(script: str) -> int:
    """The exit code, after what Python does at exit; but it does not take the libraries apart, which takes two seconds."""
    code: object = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
