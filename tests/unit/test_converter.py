"""Converters that behave, converters that do not, and what the bot makes of them. The children are real."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from fake_backend import Bench
from hypothesis import given
from hypothesis import strategies as st

from bot import converter, sandbox, toolchain
from bot.converter_events import EVENT, Made, plain
from bot.errors import ConverterFailed, ConverterStopped, SourceCorrupt


def test_a_conversion_ends_in_checked_and_hashed_files(bench: Bench) -> None:
    reply = bench.call("""
        say("progress", stage="export", done=1, total=2, unit="tensors")
        say("log", level="warning", text="careful")
        print("a library speaks", file=sys.stderr)
        os.mkdir(request["out"] + "/cpu")
        open(request["out"] + "/cpu/m.gguf", "w").write("GGUF")
        facts = {"base": "f16"}
        say("artifact", recipe="fake/int4", files=["cpu/m.gguf"], bits_per_weight=4.5, facts=facts, more=1)
    """)
    (made,) = reply.artifacts
    assert (made.recipe, made.bits_per_weight, made.facts) == ("fake/int4", 4.5, {"base": "f16"})
    (file,) = made.files
    assert (file.path, file.size, file.sha256) == ("cpu/m.gguf", 4, hashlib.sha256(b"GGUF").hexdigest())
    assert bench.progress == [("export", 1.0, 2.0, "tensors")]
    assert ("warning", "careful") in bench.logs
    assert ("debug", "a library speaks") in bench.logs
    assert reply.outcome.tier == str(sandbox.probe())
    assert reply.toolchain.versions == {"fake": "1"}


def test_what_lies_beside_a_variant_is_checked_and_hashed_apart(bench: Bench) -> None:
    reply = bench.call("""
        for name in ("m.gguf", "imatrix.gguf"):
            open(request["out"] + "/" + name, "w").write(name)
        say("artifact", recipe="fake/int4", files=["m.gguf"], extras=["imatrix.gguf"], bits_per_weight=4.5)
    """)
    [made] = reply.artifacts
    assert ([f.path for f in made.files], [f.path for f in made.extras]) == (["m.gguf"], ["imatrix.gguf"])
    assert made.extras[0].sha256 == hashlib.sha256(b"imatrix.gguf").hexdigest()
    assert made.bytes == len("m.gguf")


def test_describe_and_evaluate_are_answered_too(bench: Bench) -> None:
    described = bench.call(
        'say("described", backend="fake", versions={"a": "1"}, architectures=["Phi3ForCausalLM"])',
        verb="describe",
    ).described
    assert described is not None
    assert described.architectures == ("Phi3ForCausalLM",)
    metrics = bench.call('say("metrics", values={"kl_mean": 0.1}, details={})', verb="evaluate").metrics
    assert metrics is not None
    assert metrics.values == {"kl_mean": 0.1}
    reference = bench.call(
        'say("reference", windows=1, window_tokens=2, vocabulary=3, perplexity=4.5, end_tokens=[5])',
        verb="evaluate",
    ).reference
    assert reference is not None
    assert reference.end_tokens == (5,)


def test_the_code_is_the_copied_one_and_the_folder_it_came_from_is_out_of_reach(bench: Bench) -> None:
    if not sandbox.probe().landlock:
        pytest.skip("this kernel has no Landlock")
    bench.call(f"""
        import converters
        say("log", level="info", text=converters.__file__)
        try:
            os.listdir({str(bench.root)!r})
        except OSError as error:
            say("log", level="info", text=error.strerror)
        say("described", backend="fake", versions={{}}, architectures=[])
    """, verb="describe")  # fmt: skip
    assert [text for level, text in bench.logs if level == "info"] == [
        str(toolchain.code_path(settings=bench.settings) / "converters" / "__init__.py"),
        "Permission denied",
    ]


def test_its_own_error_is_raised_as_it_was_said(bench: Bench) -> None:
    with pytest.raises(SourceCorrupt) as corrupt:
        bench.call("""
            say("error", code="source_corrupt", message="A tensor is short.", hint="Ask.")
            raise SystemExit(1)
        """)
    assert (corrupt.value.message, corrupt.value.hint) == ("A tensor is short.", "Ask.")


@pytest.mark.parametrize("code", ["access_denied", "cancelled", "gate_failed", "hub_unreachable", "usage", "", "x"])
def test_an_error_a_converter_cannot_know_about_is_its_own_failure(bench: Bench, code: str) -> None:
    with pytest.raises(ConverterFailed) as failed:
        bench.call(f'say("error", code={code!r}, message="Trust me.")')
    assert type(failed.value) is ConverterFailed


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("sys.exit('it is broken')", "exit code 1. Its last words: it is broken"),
        ("raise ValueError('bad tensor')", "Its last words: ValueError: bad tensor"),
        ("os._exit(3)", "exit code 3. It printed nothing"),
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("os.kill(os.getpid(), 9)", "killed by the system"),
        ("pass", "without an answer to 'convert'"),
        ("say('metrics', values={})", "without an answer to 'convert'"),
    ],
)
def test_a_bad_end_is_explained(bench: Bench, code: str, says: str) -> None:
    with pytest.raises(ConverterFailed, match=says):
        bench.call(code)


def test_an_artifact_that_nobody_asked_for_is_ignored(bench: Bench) -> None:
    reply = bench.call("""
        say("artifact", recipe="r", files=["../x.gguf"], bits_per_weight=4)
        say("metrics", values={})
    """, verb="evaluate")  # fmt: skip
    assert reply.artifacts == ()


def test_limits_hold(bench: Bench) -> None:
    with pytest.raises(ConverterStopped):
        bench.call("import time; time.sleep(60)", wall=0.5)


def test_lines_that_are_no_events_are_log(bench: Bench) -> None:
    bench.call(r"""
        print("just text")
        print("[1, 2]")
        print("{" * 5000)
        print('{"event": "artifact", "recipe": "r", "files": [], "bits_per_weight": 4}')
        print('{"event": "artifact", "recipe": "r", "files": ["x.gguf"], "bits_per_weight": NaN}')
        print('{"event": "metrics", "values": {"kl_mean": 1e999}}')
        print('{"event": "progress", "stage": "x", "done": "1e999", "total": 1, "unit": ""}')
        sys.stdout.buffer.write(b"\xff\xfe\n")
        say("log", level="shout", text="x")
        say("log", level="info", text="\x1b[31mred\x1b[0m\r\nnext \u202egnp.exe")
        say("artifact", recipe="r", files=["big.gguf"], bits_per_weight=4, facts={"x": "y" * 70000})
        say("described", backend="fake", versions={}, architectures=[])
    """, verb="describe")  # fmt: skip
    assert len([text for level, text in bench.logs if level == "debug"]) == 10
    (info,) = [text for level, text in bench.logs if level == "info"]
    assert info == " [31mred [0m  next  gnp.exe"


def made(*files: str) -> Made:
    return Made(event="artifact", recipe="r", files=files, bits_per_weight=4)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.gguf",
        "/etc/passwd.txt",
        "a/../../secret.gguf",
        "a//b.gguf",
        "./a.gguf",
        "C:\\x.gguf",
        "nul.gguf",
        "a.gguf ",
        "a\n.gguf",
        "",
        ".",
        "evil.py",
        "evil.so",
        "evil.gguf.exe",
        "README",
        "missing.gguf",
        "folder.gguf",
        "x" * 300 + ".gguf",
    ],
)
def test_a_file_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    (out / "folder.gguf").mkdir(parents=True)
    (tmp_path / "secret.gguf").touch()
    for kind in ("evil.py", "evil.so", "evil.gguf.exe", "README"):
        (out / kind).touch()
    with pytest.raises(ConverterFailed):
        converter.artifact(out, made(name))


@pytest.mark.parametrize("name", ["LICENSE", "LICENSE-MIT", "cpu/NOTICE"])
def test_a_licence_needs_no_extension(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("Do as you like.")
    assert converter.artifact(tmp_path, made(name)).files[0].path == name


@pytest.mark.parametrize(
    "plant",
    [
        lambda out, secret: (out / "x.gguf").symlink_to(secret),
        lambda out, secret: os.link(secret, out / "x.gguf"),
        lambda out, secret: os.mkfifo(out / "x.gguf"),
        lambda out, secret: (out / "x.gguf").symlink_to("/dev/zero"),
    ],
    ids=["symlink", "hardlink", "pipe", "device"],
)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, plant: Callable[[Path, Path], None]) -> None:
    out, secret = tmp_path / "out", tmp_path / "secret"
    out.mkdir()
    secret.write_text("hf_canary")
    plant(out, secret)
    with pytest.raises(ConverterFailed):
        converter.artifact(out, made("x.gguf"))


def test_a_file_behind_a_linked_folder_is_refused(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (elsewhere / "x.gguf").touch()
    (out / "cpu").symlink_to(elsewhere)
    with pytest.raises(ConverterFailed, match="link"):
        converter.artifact(out, made("cpu/x.gguf"))


def test_a_file_beside_a_variant_is_no_more_trusted_than_the_variant(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("GGUF")
    (tmp_path / "run.sh").write_text("echo")
    for extras in (("run.sh",), ("../m.gguf",), ("M.gguf",), ("m.gguf",)):
        made = Made(event="artifact", recipe="a/b", files=("m.gguf",), extras=extras, bits_per_weight=4)
        with pytest.raises(ConverterFailed):
            converter.artifact(tmp_path, made)


def test_two_names_for_one_file_on_some_disks_are_refused(tmp_path: Path) -> None:
    for name in ("x.gguf", "X.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ConverterFailed, match="twice"):
        converter.artifact(tmp_path, made("x.gguf", "X.gguf"))


@given(st.text())
def test_plain_text_is_one_printable_line(text: str) -> None:
    line = plain(text)
    assert len(line.splitlines()) <= 1
    assert not any(ord(c) < 32 and c != "\t" for c in line)
    assert "\x1b" not in line


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@hypothesis.settings(max_examples=50)
@given(JSON)
def test_no_json_breaks_the_reader(value: Any) -> None:
    text = json.dumps({"event": "metrics", "values": {"x": value}})
    try:
        event = EVENT.validate_json(text)
    except ValueError:
        return
    json.dumps(event.model_dump(), allow_nan=False)
