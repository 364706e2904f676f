from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from converters.base import ConverterError, ConvertRequest, Events, ReferenceRequest, parse_request
from converters.serve import explain

ROOT = Path(__file__).resolve().parents[3]
CONVERT: dict[str, Any] = {
    "verb": "convert",
    "source": "/s",
    "out": "/o",
    "shared": "/h",
    "recipe": {"id": "gguf/int8", "file": "{m}-Q8_0.gguf", "options": {"type": "Q8_0"}},
    "model_name": "Phi",
    "calibration": "/c.txt",
    "metadata": {"license": "mit", "tags": ["phi"]},
    "threads": 2,
}
NOISY = """
import ctypes, os
PACKAGES = ("pip",) if False else ()
def architectures():
    print("python noise")
    os.write(1, b"descriptor noise\\n")
    ctypes.CDLL(None).puts(b"C noise")
    ctypes.CDLL(None).fflush(None)
    return ["Phi3ForCausalLM"]
def convert(request, events):
    events.progress("work", 1, 2, "steps")
    raise OSError(28, "No space left on device")
"""


def serve(tmp_path: Path, line: str, module: str = NOISY) -> tuple[int, list[dict[str, Any]], str]:
    (tmp_path / "noisy.py").write_text(module)
    code = "import sys; from converters.serve import serve; sys.exit(serve('noisy', 'noisy'))"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", code], input=line, capture_output=True, text=True, env=env)
    return done.returncode, [json.loads(found) for found in done.stdout.splitlines()], done.stderr


def test_what_libraries_print_never_reaches_the_events(tmp_path: Path) -> None:
    code, events, log = serve(tmp_path, '{"verb": "describe"}\n')
    assert code == 0
    assert events == [{"event": "described", "backend": "noisy", "versions": {}, "architectures": ["Phi3ForCausalLM"]}]
    assert all(noise in log for noise in ("python noise", "descriptor noise", "C noise"))


def test_a_failure_is_one_error_event_and_exit_code_1(tmp_path: Path) -> None:
    code, events, log = serve(tmp_path, json.dumps(CONVERT) + "\n")
    assert code == 1
    assert events[-1] == {
        "event": "error",
        "code": "not_enough_room",
        "message": "The disk is full.",
        "hint": "Free some space and run the build again.",
    }
    assert "Traceback" in log


@pytest.mark.parametrize("line", ["", "not json\n", "[1]\n", '{"verb": "explode"}\n', '{"verb": "convert"}\n'])
def test_a_request_that_makes_no_sense_is_explained(tmp_path: Path, line: str) -> None:
    code, events, _ = serve(tmp_path, line)
    assert code == 1
    assert [event["event"] for event in events] == ["error"]


def test_a_backend_that_cannot_be_imported_is_explained(tmp_path: Path) -> None:
    code, events, _ = serve(tmp_path, '{"verb": "describe"}\n', "import package_that_is_not_there")
    assert code == 1
    assert "package_that_is_not_there" in events[-1]["message"]


def test_a_verb_the_backend_lacks_is_refused(tmp_path: Path) -> None:
    line = json.dumps({"verb": "evaluate", "artifact": "/a", "reference": "/r"})
    code, events, _ = serve(tmp_path, line + "\n")
    assert (code, events[-1]["message"]) == (1, "The noisy backend cannot evaluate.")


def test_a_request_becomes_typed_values() -> None:
    request = parse_request(CONVERT)
    assert isinstance(request, ConvertRequest)
    assert request.source == Path("/s")
    assert request.metadata.tags == ("phi",)
    assert request.recipe.options == {"type": "Q8_0"}
    assert request.split_bytes == 0


def test_the_reference_has_its_own_evaluate_request() -> None:
    payload = {"verb": "evaluate", "source": "/s", "out": "/o", "text": "/t"}
    request = parse_request(payload, ReferenceRequest)
    assert isinstance(request, ReferenceRequest)
    assert (request.windows, request.window_tokens) == (8, 256)


@pytest.mark.parametrize(
    "change",
    [
        {"threads": "2"},
        {"threads": True},
        {"source": "relative/path"},
        {"surprise": 1},
        {"recipe": {"id": "x"}},
        {"recipe": []},
        {"metadata": {"tags": "phi"}},
        {"metadata": {"tags": [1]}},
    ],
)
def test_a_wrong_field_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConverterError):
        parse_request({**CONVERT, **change})


def test_progress_is_thinned_but_its_ends_are_kept() -> None:
    stream = io.StringIO()
    events = Events(stream)
    for done in range(1001):
        events.progress("work", done, 1000, "steps")
    lines = [json.loads(line)["done"] for line in stream.getvalue().splitlines()]
    assert lines[0] == 0
    assert lines[-1] == 1000
    assert len(lines) < 20


def test_what_is_not_json_is_never_written() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="not JSON compliant"):
        Events(stream).emit("metrics", values={"kl_mean": float("nan")})
    assert stream.getvalue() == ""


def test_a_newline_in_a_text_stays_within_its_line() -> None:
    stream = io.StringIO()
    Events(stream).log("info", 'one\ntwo\u2028three {"event": "error"}')
    assert len(stream.getvalue().splitlines()) == 1


def test_running_out_of_memory_is_explained() -> None:
    assert explain(MemoryError()).message == "The converter ran out of memory."
