"""Fences one command in and outlives it: started by `bot.sandbox` as its own process, never imported by it.

    bot ── launcher (supervises, unfenced, holds no secret) ── command (fenced) ── whatever it starts

The launcher reads what to do from the control socket, forks, fences the fork and lets it exec the command.
Then it waits for the first of: the command ends; the control socket closes, which is what a dying bot's
kernel does for it; SIGTERM, which the kernel sends when the bot's thread dies. Either way nothing of the
command is alive when it exits: as a subreaper it inherits every orphan, so "no children left" means "no
descendants left".

Starts in a bare interpreter (`-I -S`): standard library, py_landlock and pyseccomp only.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
PR_CAP_AMBIENT, CLEAR_ALL = 47, 4
DEATH_GRACE = 10.0  # seconds a killed process may hang in the kernel before it is left to it

Spec = dict[str, Any]

# The way out of the machine, other processes, and kernel surface that no converter needs.
DENIED = (
    "socket", "connect", "bind", "listen", "accept", "accept4", "ptrace", "process_vm_readv",
    "process_vm_writev", "process_madvise", "pidfd_getfd", "pidfd_send_signal", "kcmp", "tkill",
    "rt_sigqueueinfo", "rt_tgsigqueueinfo", "setsid", "setpgid", "setpriority", "ioprio_set",
    "sched_setscheduler", "sched_setparam", "sched_setattr", "migrate_pages", "move_pages", "unshare",
    "setns", "mount", "umount2", "pivot_root", "chroot", "mount_setattr", "move_mount", "fsopen", "fsmount",
    "fspick", "open_tree", "name_to_handle_at", "open_by_handle_at", "fanotify_init", "quotactl", "swapon",
    "swapoff", "acct", "symlink", "symlinkat", "link", "linkat", "mknod", "mknodat", "chown", "fchown",
    "lchown", "fchownat", "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups",
    "setfsuid", "setfsgid", "capset", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup",
    "io_uring_enter", "io_uring_register", "memfd_create", "memfd_secret", "add_key", "request_key",
    "keyctl", "shmget", "shmat", "msgget", "semget", "mq_open", "kexec_load", "kexec_file_load",
    "init_module", "finit_module", "delete_module", "reboot", "syslog", "vhangup", "iopl", "ioperm",
    "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname",
    "personality",
)  # fmt: skip

# Landlock does not see these, and they reach every file of the same user. They answer "done" and do nothing:
# copying a file with its mode is common and must not fail, and the umask has decided the mode already.
PRETENDED = ("chmod", "fchmod", "fchmodat", "utime", "utimes", "utimensat", "futimesat")
FCHMODAT2 = 452  # newer than many a libseccomp's list of names; the number is the same on every architecture
UNSUPPORTED = ("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr")

CLONE_NEW = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
NEGATIVE = 0x80000000  # the sign bit of a pid_t, however the caller widened it
SOCK_DGRAM, SOCK_RAW = 2, 3


def prctl(option: int, value: int) -> int:
    """Call prctl(2); 0 or -1."""
    return int(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def die_with_parent(parent: int, how: int) -> None:
    """Ask the kernel to send `how` when the parent's thread ends; exit at once if it has ended already."""
    if LINUX:
        prctl(PR_SET_PDEATHSIG, how)
    if os.getppid() != parent:
        os._exit(1)


def landlock(spec: Spec) -> int:
    """Leave only the granted paths reachable. Returns the ABI in force, 0 where the kernel has none."""
    try:
        from py_landlock import AccessFs, Landlock, LandlockError
        from py_landlock.abi import MAX_KNOWN_ABI
    except ImportError:
        return 0
    fence = Landlock(strict=False)
    try:
        abi = min(fence.abi_version, MAX_KNOWN_ABI)
    except LandlockError:
        return 0
    # From here on a failure is an error: a fence with a hole is not a weaker tier.
    read = AccessFs.READ_FILE | AccessFs.READ_DIR
    execute = read | AccessFs.EXECUTE
    device = AccessFs.READ_FILE | AccessFs.WRITE_FILE
    write = read | AccessFs.WRITE_FILE | AccessFs.TRUNCATE | AccessFs.MAKE_REG | AccessFs.MAKE_DIR
    write |= AccessFs.REMOVE_FILE | AccessFs.REMOVE_DIR | AccessFs.REFER
    on_file = AccessFs.EXECUTE | AccessFs.READ_FILE | AccessFs.WRITE_FILE | AccessFs.TRUNCATE
    for name, access in (("read", read), ("execute", execute), ("write", write), ("devices", device)):
        for path in spec[name]:
            # Rights that only folders have are an error on a file.
            fence.add_path_rule(path, access=access if os.path.isdir(path) else access & on_file)
    fence.apply()
    return int(abi)


def seccomp(bystanders: tuple[int, ...]) -> Any:
    """A filter that refuses the calls above, and signals to `bystanders`. None where it cannot be made."""
    try:
        import pyseccomp as sc
    except (ImportError, RuntimeError):  # RuntimeError: the package is there, the libseccomp library is not
        return None
    refuse = sc.ERRNO(errno.EPERM)
    fence = sc.SyscallFilter(sc.ALLOW)

    def rule(action: int, call: str | int, *conditions: Any) -> None:
        try:
            fence.add_rule(action, call, *conditions)
        except OSError:
            # A libseccomp older than the call does not know its name. Without `socket` there is no fence.
            if call == "socket":
                raise

    answers = (
        (refuse, DENIED),
        (sc.ERRNO(0), (*PRETENDED, FCHMODAT2)),
        (sc.ERRNO(errno.ENOTSUP), UNSUPPORTED),
    )
    for answer, calls in answers:
        for call in calls:
            rule(answer, call)
    for flag in CLONE_NEW:
        rule(refuse, "clone", sc.Arg(0, sc.MASKED_EQ, flag, flag))
    rule(sc.ERRNO(errno.ENOSYS), "clone3")  # its flags are out of a filter's sight; libc falls back to clone
    for kind in (SOCK_DGRAM, SOCK_RAW):  # an unconnected pair could still be sent to a named socket
        rule(refuse, "socketpair", sc.Arg(1, sc.MASKED_EQ, 0xF, kind))
    rule(refuse, "prctl", sc.Arg(0, sc.EQ, PR_SET_PDEATHSIG))
    rule(refuse, "prlimit64", sc.Arg(0, sc.NE, 0))  # 0 is oneself; the limits of the bot are not the child's
    rule(refuse, "kill", sc.Arg(0, sc.MASKED_EQ, NEGATIVE, NEGATIVE))
    for pid in bystanders:
        rule(refuse, "kill", sc.Arg(0, sc.EQ, pid))
        rule(refuse, "tgkill", sc.Arg(0, sc.EQ, pid))
    return fence


def load(fence: Any) -> bool:
    """Put a filter in force. False where the kernel takes none."""
    try:
        fence.load()
    except OSError:
        return False
    return True


def fence(spec: Spec, bystanders: tuple[int, ...]) -> dict[str, Any]:
    """Put this process behind every fence the kernel has, and say which those are."""
    for name, value in spec["rlimits"].items():
        kind = getattr(resource, name, None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (ceiling, ceiling))
    if not LINUX:
        return {"landlock": 0, "seccomp": False}
    for capability in range(64):  # root without capabilities is only the owner of root's files
        if prctl(PR_CAPBSET_DROP, capability) != 0:
            break
    prctl(PR_CAP_AMBIENT, CLEAR_ALL)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    calls = seccomp(bystanders)  # imports, so it comes before the files are out of reach
    abi = landlock(spec)
    return {"landlock": abi, "seccomp": calls is not None and load(calls)}


def become(spec: Spec, control: int, supervisor: int) -> None:
    """In the fork: prepare, fence, report the fence, and turn into the command. Never returns."""
    try:
        os.setpgid(0, 0)
        die_with_parent(supervisor, signal.SIGKILL)
        # An interpreter ignores the last two, and what is ignored stays so over an exec.
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o077)
        os.nice(spec["nice"])
        os.chdir(spec["cwd"])
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("500")  # out of memory: the kernel takes the converter, not the bot
        tier = fence(spec, (spec["parent"], supervisor))
        if spec["strict"] and not (tier["landlock"] and tier["seccomp"]):
            raise OSError("the kernel has no " + ("seccomp filter" if tier["landlock"] else "Landlock"))
        tell(control, started=tier)
        if spec["command"]:
            os.execv(spec["command"][0], spec["command"])  # noqa: S606
        os._exit(0)
    except Exception as error:
        tell(control, failed=f"{type(error).__name__}: {error}")
    finally:
        os._exit(127)


def tell(control: int, **message: Any) -> None:
    """Send one line to the bot; a bot that has gone does not hear it."""
    with suppress(OSError):
        os.write(control, json.dumps(message).encode() + b"\n")


def hear(control: int) -> Spec:
    """The one line the bot sends."""
    text = b""
    while not text.endswith(b"\n"):
        part = os.read(control, 65536)
        if not part:
            sys.exit(1)
        text += part
    return dict(json.loads(text))


def children() -> Iterator[int]:
    """The direct children of this process. Their ids cannot be reused before they are waited for."""
    if LINUX:
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat", "rb") as stat:
                        after_name = stat.read().rpartition(b")")[2].split()
                except OSError:
                    continue
                if int(after_name[1]) == os.getpid():
                    yield int(entry)


def ended(child: int) -> bool:
    """Whether the command has ended. It is not collected, so that its group's id stays taken; orphans are."""
    if not hasattr(os, "waitid"):
        return False
    while True:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return False
        if found.si_pid == child:
            return True
        os.waitpid(found.si_pid, 0)


def end_all(child: int) -> int | None:
    """Kill the command's group, then every orphan that surfaces. Returns the command's wait status."""
    status = None
    deadline = time.monotonic() + DEATH_GRACE
    with suppress(OSError):
        os.killpg(child, signal.SIGKILL)  # one stroke for a whole group: a fork bomb cannot outrun it
    while time.monotonic() < deadline:
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        try:
            while True:
                pid, how = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                status = how if pid == child else status
        except ChildProcessError:
            break
        time.sleep(0.01)
    return status


def wait(child: int, control: int, wake: int, told_to_stop: Callable[[], bool]) -> None:
    """Return when the command has ended, the bot has gone, or either was asked for."""
    while not told_to_stop() and not ended(child):
        ready, _, _ = select.select([control, wake], [], [])
        if control in ready:
            return
        os.read(wake, 512)
        if not hasattr(os, "waitid"):
            return  # macOS: the command is the only child, so this was its end


def step_back(parent: int, by: int) -> None:
    """Let the bot go first. Where the kernel shares time out among sessions, niceness counts only within one, and this
    session is new: it begins with the full share, whatever the bot was given.
    """
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{parent}/autogroup") as theirs:
        nice = min(int(theirs.read().split()[-1]) + by, 19)
        with open("/proc/self/autogroup", "w") as ours:
            ours.write(str(nice))


def main() -> None:
    """Supervise the command that the control socket (its number is the argument) describes."""
    control = int(sys.argv[1])
    os.set_inheritable(control, False)
    spec = hear(control)
    sys.path += spec["site"]
    step_back(spec["parent"], spec["nice"])
    stopped: list[int] = []
    wake, awaken = os.pipe()
    os.set_blocking(awaken, False)
    signal.set_wakeup_fd(awaken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    die_with_parent(spec["parent"], signal.SIGTERM)
    if LINUX:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        become(spec, control, supervisor)
    with suppress(OSError):
        os.setpgid(child, child)  # done by both sides, so that whoever is first, the group exists
    wait(child, control, wake, lambda: bool(stopped))
    status = end_all(child)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = os.waitstatus_to_exitcode(status) if status is not None else None
    tell(control, exit=code, cpu=used.ru_utime + used.ru_stime)


if __name__ == "__main__":
    main()
