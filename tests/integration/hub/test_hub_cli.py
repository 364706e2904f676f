"""The `hf` command with HF_ENDPOINT and HF_TOKEN, as the documentation tells people to use it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path


def test_the_hf_command_uploads_tags_finds_and_downloads(
    run_hf: Callable[..., str], new_id: Callable[[], str], tmp_path: Path
) -> None:
    repo = new_id()
    source = tmp_path / "source"
    source.mkdir()
    weights = random.Random(7).randbytes(3_000_000)
    (source / "model-Q8_0.gguf").write_bytes(weights)
    (source / "README.md").write_text("---\nlicense: mit\nbase_model: microsoft/Phi-cli\n---\n# Hi\n")

    run_hf("upload", repo, str(source), ".")
    run_hf("repos", "tag", "create", repo, "v1.0")
    run_hf("download", repo, "--revision", "v1.0", "--local-dir", str(tmp_path / "copy"))

    assert (tmp_path / "copy" / "model-Q8_0.gguf").read_bytes() == weights
    assert repo in run_hf("models", "ls", "--filter", "base_model:quantized:microsoft/Phi-cli", "--format", "json")
    assert "miller" in run_hf("auth", "whoami")
