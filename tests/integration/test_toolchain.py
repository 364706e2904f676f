"""Toolchains made with the real uv, from wheels and source archives that the tests write: no network."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import zipfile
from pathlib import Path

import pytest

from bot import toolchain, toolchain_build
from bot.errors import BuildCancelled, ToolchainFailed, UsageError
from bot.settings import Settings

PATIENCE = 120.0  # seconds; only a hang takes so long, however busy the machine

# A build backend that notes its environment and settings, can be made to wait for a file, and needs nothing.
BUILD_BACKEND = """
import json, os, pathlib, time, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    notes = pathlib.Path(os.environ["NOTES"])
    with notes.open("a") as file:
        file.write(json.dumps({"settings": config_settings, **os.environ}) + "\\n")
    end = time.monotonic() + 3600
    while "UNTIL" in os.environ and not os.path.exists(os.environ["UNTIL"]) and time.monotonic() < end:
        time.sleep(0.05)
    with zipfile.ZipFile(directory + "/built-2.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("built.py", "value = 2")
        info = "built-2.0.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: built\\nVersion: 2.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return "built-2.0-py3-none-any.whl"
"""


def write_wheel(folder: Path) -> str:
    """A wheel named `plain` 1.0. Returns its sha256."""
    path = folder / "plain-1.0-py3-none-any.whl"
    files = {
        "plain.py": "value = 1",
        "plain-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: plain\nVersion: 1.0\n",
        "plain-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},"
        f"{len(text)}\n"
        for name, text in files.items()
    )
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in (files | {"plain-1.0.dist-info/RECORD": record}).items():
            wheel.writestr(name, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_source(folder: Path, requires: str = "[]") -> None:
    """A source archive named `built` 2.0 that has to be built."""
    files = {
        "pyproject.toml": f'[build-system]\nrequires = {requires}\nbuild-backend = "how"\nbackend-path = ["."]\n'
        '[project]\nname = "built"\nversion = "2.0"\n',
        "how.py": BUILD_BACKEND,
        "PKG-INFO": "Metadata-Version: 2.2\nName: built\nVersion: 2.0\n",
    }
    with tarfile.open(folder / "built-2.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"built-2.0/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A converters package with the backends `quick` (a wheel) and `slow` (built from source)."""
    root, wheels = tmp_path / "src" / "converters", tmp_path / "wheels"
    for folder in (wheels, root / "quick", root / "slow", root / "text"):
        folder.mkdir(parents=True)
    digest = write_wheel(wheels)
    write_source(wheels)
    (root / "__init__.py").touch()
    (root / "text" / "evaluation.txt").write_text("Call me Ishmael.")
    (root / "quick" / "requirements.txt").write_text(f"plain==1.0 --hash=sha256:{digest}\n")
    (root / "slow" / "requirements.txt").write_text("built==2.0\n")
    (root / "slow" / "toolchain.toml").write_text('[minutes]\nbuilt = 3\n[config_settings.built]\nX = "1"\n')
    monkeypatch.setattr(toolchain, "converters_root", lambda: root)
    for name, value in {
        "UV_FIND_LINKS": str(wheels),
        "UV_OFFLINE": "1",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "NOTES": str(tmp_path / "notes"),
    }.items():
        monkeypatch.setenv(name, value)
    return root


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", toolchains=tmp_path / "chains")


def builds(tmp_path: Path) -> int:
    notes = tmp_path / "notes"
    return len(notes.read_text().splitlines()) if notes.exists() else 0


def wait_for_build(tmp_path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not builds(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)


OTHER_PROCESS = """
import sys
from pathlib import Path
from bot import toolchain
from bot.settings import Settings
toolchain.converters_root = lambda: Path(sys.argv[1])
tools = toolchain.ensure("slow", settings=Settings(toolchains=Path(sys.argv[2])), on_progress=print)
print(tools.versions)
"""


def other_process(root: Path, settings: Settings) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OTHER_PROCESS, str(root), str(settings.toolchains)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})


def test_a_toolchain_is_made_once_and_found_again(root: Path, settings: Settings) -> None:
    said: list[str] = []
    assert toolchain.installed("quick", settings=settings) is None
    tools = toolchain.ensure("quick", on_progress=said.append, settings=settings)
    assert said == [
        "Making the quick toolchain; this happens once.",
        "Resolved 1 package.",
        "Prepared 1 package.",
        "Installed 1 package.",
    ]
    assert tools.versions == {"plain": "1.0"}
    assert tools.path.name == f"quick-{toolchain.lock_digest('quick')[:12]}"
    done = subprocess.run([tools.python, "-c", "import plain; print(plain.value)"], capture_output=True, text=True)
    assert done.stdout == "1\n"
    said.clear()
    assert toolchain.ensure("quick", on_progress=said.append, settings=settings) == tools
    assert toolchain.installed("quick", settings=settings) == tools
    assert said == []


def test_a_new_lock_is_a_new_toolchain(root: Path, settings: Settings) -> None:
    before = toolchain.ensure("quick", settings=settings)
    (root / "quick" / "requirements.txt").write_text("# nothing\n")
    after = toolchain.ensure("quick", settings=settings)
    assert before.digest != after.digest
    assert before.path.exists()
    assert after.versions == {}


def test_the_digest_covers_both_locks_and_the_build_options(root: Path) -> None:
    digests = {toolchain.lock_digest("quick")}
    (root / "quick" / "toolchain.toml").write_text("[config_settings.plain]\nX = '1'\n")
    digests.add(toolchain.lock_digest("quick"))
    (root / "quick" / "requirements.txt").write_text("other==1\n")
    digests.add(toolchain.lock_digest("quick"))
    (root / "quick" / "build.txt").write_text("tool==1\n")
    digests.add(toolchain.lock_digest("quick"))
    assert len(digests) == 4


def test_the_backends_are_the_folders_with_a_lock(root: Path, settings: Settings) -> None:
    assert toolchain.backends() == ["quick", "slow"]
    with pytest.raises(UsageError, match="'text'"):
        toolchain.ensure("text", settings=settings)
    with pytest.raises(UsageError):
        toolchain.ensure("../quick", settings=settings)


def test_a_build_from_source_is_announced_with_how_long_it_takes(root: Path, settings: Settings) -> None:
    said: list[str] = []
    toolchain.ensure("slow", on_progress=said.append, settings=settings)
    assert "Building built, about 3 minutes the first time." in said


def test_a_build_sees_its_options_and_no_secret(
    root: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "GITHUB_TOKEN",
        "PHIMILL_WEBHOOK_SECRET",
        "AWS_SECRET_KEY",
        "CMAKE_ARGS",
    ):
        monkeypatch.setenv(name, "canary")
    toolchain.ensure("slow", settings=settings)
    seen = (tmp_path / "notes").read_text()
    assert json.loads(seen)["settings"] == {"X": "1"}
    assert "canary" not in seen


def test_what_uv_s_cache_holds_is_not_taken_if_it_was_compiled_with_other_options(
    root: Path, settings: Settings, tmp_path: Path
) -> None:
    toolchain.ensure("slow", settings=settings)
    another = Settings(home=settings.home, toolchains=tmp_path / "another machine's")
    toolchain.ensure("slow", settings=another)
    assert builds(tmp_path) == 1
    (root / "slow" / "toolchain.toml").write_text('[config_settings.built]\nX = "2"\n')
    toolchain.ensure("slow", settings=settings)
    assert builds(tmp_path) == 2


def test_a_changed_package_is_refused(root: Path, settings: Settings) -> None:
    (root / "quick" / "requirements.txt").write_text(f"plain==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ToolchainFailed, match="not the one that was locked") as failed:
        toolchain.ensure("quick", settings=settings)
    log = failed.value.hint.split()[-1].rstrip(".")
    assert "plain" in Path(log).read_text()
    assert toolchain.installed("quick", settings=settings) is None


def test_a_changed_package_is_not_built_with_either(root: Path, settings: Settings) -> None:
    write_source(root.parents[1] / "wheels", '["plain"]')
    [lock] = (root / "quick" / "requirements.txt").read_text().splitlines()
    (root / "slow" / "build.txt").write_text(f"plain==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ToolchainFailed, match="not the one that was locked"):
        toolchain.ensure("slow", settings=settings)
    (root / "slow" / "build.txt").write_text(f"{lock}\n")
    assert toolchain.ensure("slow", settings=settings).versions == {"built": "2.0"}


def test_a_missing_package_is_named(root: Path, settings: Settings) -> None:
    (root / "quick" / "requirements.txt").write_text("absent==1.0\n")
    with pytest.raises(ToolchainFailed, match="absent"):
        toolchain.ensure("quick", settings=settings)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("CMake Error: No CMAKE_CXX_COMPILER could be found.", "apt-get install g\\+\\+"),
        ("error: command 'gcc' failed: No such file or directory", "apt-get install g\\+\\+"),
        ("error: Failed to write: No space left on device (os error 28)", "disk is full"),
        ("error: Failed to fetch: `https://x/simple`\n  Caused by: dns error", "index cannot be reached"),
        ("error: something new", "something new"),
        ("", "uv failed without a word"),
    ],
)
def test_a_failure_is_explained(said: str, meaning: str, settings: Settings, tmp_path: Path) -> None:
    making = toolchain_build.Making("x", tmp_path, tmp_path / "x-1", 0, settings, print, lambda: False)
    with pytest.raises(ToolchainFailed, match=meaning):
        raise making.failure(said.splitlines())


def test_two_processes_that_ask_at_once_build_once(
    root: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = tmp_path / "until"
    monkeypatch.setenv("UNTIL", str(until))
    with other_process(root, settings) as first:
        wait_for_build(tmp_path)
        with other_process(root, settings) as second:
            assert second.stdout is not None
            assert second.stdout.readline().startswith("Waiting for another process")
            until.touch()
            outputs = [process.communicate(timeout=PATIENCE)[0] for process in (first, second)]
    assert all(text.endswith("{'built': '2.0'}\n") for text in outputs)
    assert builds(tmp_path) == 1


def test_a_kill_in_the_middle_is_repaired_by_the_next_call(
    root: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = tmp_path / "until"
    monkeypatch.setenv("UNTIL", str(until))
    with other_process(root, settings) as bot:
        wait_for_build(tmp_path)
        bot.send_signal(signal.SIGKILL)
        bot.wait()
        assert toolchain.installed("slow", settings=settings) is None
        # The killed bot's uv may still write; the lock it inherited keeps us out until it has ended.
        said: list[str] = []

        def tell(line: str) -> None:
            said.append(line)
            until.touch()

        assert toolchain.ensure("slow", on_progress=tell, settings=settings).versions == {"built": "2.0"}
    assert said[0].startswith("Waiting")


def test_a_lost_interpreter_is_replaced(root: Path, settings: Settings) -> None:
    tools = toolchain.ensure("quick", settings=settings)
    tools.python.unlink()
    tools.python.symlink_to("/no/such/python")
    assert toolchain.installed("quick", settings=settings) is None
    assert os.access(toolchain.ensure("quick", settings=settings).python, os.X_OK)


def test_cancelling_ends_the_build(
    root: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNTIL", str(tmp_path / "never"))
    cancel = threading.Event()

    def cancel_in_the_middle() -> None:
        wait_for_build(tmp_path)
        cancel.set()

    threading.Thread(target=cancel_in_the_middle).start()
    with pytest.raises(BuildCancelled):
        toolchain.ensure("slow", settings=settings, cancelled=cancel.is_set)


def test_local_wheels_are_found_where_pip_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    find = toolchain_build._find_links
    assert find({"UV_FIND_LINKS": "/a,/b", "PIP_FIND_LINKS": "/c"}) == "/a,/b"
    assert find({"PIP_FIND_LINKS": "/a /b"}) == "/a,/b"
    monkeypatch.setattr("bot.toolchain_build.shutil.which", lambda _: None)
    assert find({}) == ""


@pytest.mark.parametrize("offered", [True, False])
def test_torch_comes_from_its_own_index_unless_wheels_are_offered(
    offered: bool, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(toolchain_build, "_find_links", lambda _: "/wheels" if offered else "")
    monkeypatch.setattr(toolchain_build.Making, "uv", lambda _, env, *arguments: asked.extend(arguments))
    with pytest.raises(StopIteration):  # there is no environment to look into
        toolchain.ensure("quick", settings=settings)
    assert ("--torch-backend" in asked) is not offered


def test_the_versions_of_what_was_asked_for_are_named(root: Path, settings: Settings) -> None:
    assert toolchain.named_versions("quick", settings=settings) == {}
    toolchain.ensure("quick", settings=settings)
    (root / "quick" / "requirements.in").write_text("# comment\nPlain>=1\nabsent\n")
    assert toolchain.named_versions("quick", settings=settings) == {"plain": "1.0"}


def test_the_code_folder_holds_the_converters_alone(root: Path, settings: Settings) -> None:
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "x.pyc").touch()
    path = toolchain.code_path(settings=settings)
    assert sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()) == [
        "converters/__init__.py",
        "converters/quick/requirements.txt",
        "converters/slow/requirements.txt",
        "converters/slow/toolchain.toml",
        "converters/text/evaluation.txt",
    ]
    assert toolchain.code_path(settings=settings) == path
    (root / "text" / "evaluation.txt").write_text("Other words.")
    assert toolchain.code_path(settings=settings) != path


def test_the_real_converters_are_found_without_importing_them() -> None:
    check = textwrap.dedent("""
        import sys
        from bot import toolchain
        print(toolchain.converters_root().name, "converters" in sys.modules)
    """)
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "converters False\n"
