"""The converters as the mill runs them: a child in its own environment, one request in, events out."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "tests" / "models" / "tiny-phi-3.5-instruct"
TEXT = ROOT / "converters" / "text"
METADATA = {
    "source_repo": "microsoft/tiny-phi-3.5-instruct",
    "source_url": "https://huggingface.co/microsoft/tiny-phi-3.5-instruct",
    "source_revision": "0" * 40,
    "repo_url": "https://huggingface.co/phimill/tiny-phi-3.5-instruct-GGUF",
    "license": "mit",
    "license_link": "https://huggingface.co/microsoft/tiny-phi-3.5-instruct/resolve/main/LICENSE",
    "quantized_by": "phimill",
    "tags": ["phi3", "gguf"],
    "languages": ["en"],
}
Options = Mapping[str, Any]
INT4: Options = {"type": "Q4_K_M", "imatrix": True, "embedding_type": "Q5_K"}
Q8_0: Options = {"type": "Q8_0"}


@dataclass(frozen=True)
class Answer:
    """What a child said."""

    code: int
    events: list[dict[str, Any]]
    log: str

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]


@dataclass
class Mill:
    """Asks converters things."""

    python: Callable[[str], Path]
    work: Path
    made: dict[str, Path] = field(default_factory=dict)

    def start(self, backend: str, **extra: Any) -> subprocess.Popen[str]:
        home = self.work / "home"
        home.mkdir(exist_ok=True)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(ROOT),
        }
        command = [str(self.python(backend)), "-m", f"converters.{backend}"]
        return subprocess.Popen(
            command, cwd=home, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **extra
        )

    def ask(self, backend: str, request: Mapping[str, Any]) -> Answer:
        with self.start(backend, stderr=subprocess.PIPE) as child:
            out, log = child.communicate(json.dumps(request) + "\n", timeout=300)
        return Answer(child.returncode, [json.loads(line) for line in out.splitlines()], log)

    def request(self, folder: Path, file: str, options: Options, **changes: Any) -> dict[str, Any]:
        recipe = {"id": f"gguf/{file}", "file": "{m}-" + file + ".gguf", "options": dict(options)}
        return {**self.request_of(folder, recipe), **changes}

    def request_of(self, folder: Path, recipe: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        """A request for any backend's recipe, as `id`, `file` and `options`."""
        return {
            "verb": "convert",
            "source": str(MODEL),
            "out": str(folder / "out"),
            "shared": str(folder / "shared"),
            "recipe": dict(recipe),
            "model_name": MODEL.name,
            "metadata": METADATA,
            "calibration": str(TEXT / "calibration.txt"),
            "threads": 2,
            **changes,
        }

    def convert(self, folder: Path, file: str, options: Options, **changes: Any) -> Answer:
        return self.ask("gguf", self.request(folder, file, options, **changes))

    def artifact(self, file: str, options: Options) -> Path:
        """Make a recipe once per session; give its first file."""
        if file not in self.made:
            folder = self.work / "ladder"
            answer = self.convert(folder, file, options)
            assert answer.code == 0, answer.events[-1]
            self.made[file] = folder / "out" / answer.last["files"][0]
        return self.made[file]

    def run(self, backend: str, script: str, *arguments: object) -> str:
        """Run a script in a backend's environment, apart from the converters."""
        command = [str(self.python(backend)), "-c", script, *map(str, arguments)]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.work),
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
        }
        done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=self.work)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def reference(self, folder: Path, **changes: Any) -> Answer:
        request = {
            "verb": "evaluate",
            "source": str(MODEL),
            "out": str(folder),
            "text": str(TEXT / "evaluation.txt"),
            "threads": 2,
            **changes,
        }
        return self.ask("reference", request)

    def measure(self, artifact: Path, reference: Path, backend: str = "gguf", **more: Any) -> dict[str, Any]:
        paths = {name: str(value) for name, value in more.items()}
        request = {"verb": "evaluate", "artifact": str(artifact), "reference": str(reference), "threads": 2}
        answer = self.ask(backend, {**request, **paths})
        assert answer.code == 0, answer.last
        assert answer.last["event"] == "metrics"
        return dict(answer.last["values"])
