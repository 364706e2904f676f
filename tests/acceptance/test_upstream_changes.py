"""The source gets a new commit: what it touched is made again under a new version, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hub_world import MICROSOFT, MODEL, SOURCE, TARGET, Ran, World, run, weights
from huggingface_hub import CommitOperationAdd

from bot import recipes

pytestmark = pytest.mark.backend

INT4 = {recipe.id for recipe in recipes.defaults("gguf") if recipe.precision == "INT4"}
OTHERS = {recipe.id for recipe in recipes.defaults("gguf")} - INT4
NEW_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Before:
    """What stood in the target repo before the source changed."""

    tags: dict[str, str]
    commits: list[str]
    files: dict[str, str]
    card: bytes

    @classmethod
    def of(cls, world: World) -> Before:
        return cls(world.tags(), world.commits(), world.files(), world.read("README.md"))


@dataclass(frozen=True)
class Changed:
    """A world after a change upstream, and after the round that noticed it."""

    world: World
    before: Before
    ran: Ran
    sha: str


def commit_upstream(world: World, **contents: str) -> str:
    """Give these files of the source new contents, in one commit; returns it."""
    operations = [CommitOperationAdd(path, content.encode()) for path, content in contents.items()]
    return str(world.api(MICROSOFT).create_commit(SOURCE, operations, commit_message="Update").oid)


def upstream(world: World, path: str) -> str:
    """A file of the source as it stands."""
    return Path(world.api().hf_hub_download(SOURCE, path, cache_dir=world.root / "before")).read_text("utf-8")


def still_pulls_the_old_bytes(world: World, before: Before) -> bool:
    return world.files("v1.0") == before.files and world.read("README.md", "v1.0") == before.card


@pytest.fixture(scope="module")
def new_readme(copy_of_published: Callable[..., World]) -> Changed:
    world = copy_of_published("readme")
    before = Before.of(world)
    text = f"{upstream(world, 'README.md')}\nNow with a better readme.\n"
    sha = commit_upstream(world, **{"README.md": text})
    return Changed(world, before, world.watch_once(), sha)


def test_a_new_readme_refreshes_the_card_and_builds_nothing(new_readme: Changed) -> None:
    world, before = new_readme.world, new_readme.before
    assert new_readme.ran.code == 0, new_readme.ran.err
    assert weights(world.files()) == weights(before.files)
    assert world.tags() == before.tags
    assert world.commits() == [*before.commits, "Update the card"]
    card = world.read("README.md").decode()
    assert new_readme.sha in card
    assert new_readme.sha not in before.card.decode()


def test_a_new_readme_starts_no_conversion(new_readme: Changed) -> None:
    (build,) = new_readme.ran.json["builds"]
    assert ([target["recipes"] for target in build["request"]["targets"]], build["results"]) == ([[]], [])
    log = new_readme.world.phimill("logs", build["id"][:12], "--format", "json")
    stages = {json.loads(line)["stage"] for line in log.out.splitlines()}
    assert not stages & {"convert", "prove", "publish", "download"}


def test_after_a_new_readme_there_is_nothing_left_to_do(new_readme: Changed) -> None:
    assert [look["queued"] for look in new_readme.world.look(2)] == [[], []]


@pytest.fixture(scope="module")
def new_template(copy_of_published: Callable[..., World]) -> Changed:
    """A new chat template, and meanwhile this mill asks more of its INT4 than any INT4 can give."""
    world = copy_of_published("template")
    before = Before.of(world)
    # The old one stays in tokenizer_config.json: the file of its own counts, as it does in transformers.
    sha = commit_upstream(world, **{"chat_template.jinja": NEW_TEMPLATE})
    return Changed(world, before, world.watch_once(PHIMILL_GATE_INT4="1e-9"), sha)


def test_a_new_chat_template_is_the_next_minor_version(new_template: Changed) -> None:
    world, before = new_template.world, new_template.before
    tags = world.tags()
    assert set(tags) == {"v1.0", "v1.1"}
    assert tags["v1.0"] == before.tags["v1.0"]
    assert world.receipt("v1.1")["source_sha"] == new_template.sha
    assert {v["version"] for v in world.receipt("v1.1")["variants"]} == {"v1.1"}
    for path in weights(world.files("v1.1")):
        assert "imatrix" in path or world.files("v1.1")[path] != before.files[path]


def test_the_new_chat_template_is_in_the_new_files(
    new_template: Changed, toolchains: dict[str, Path], tmp_path: Path
) -> None:
    world = new_template.world
    code = """
import json, sys
from llama_cpp import Llama
print(json.dumps(Llama.from_pretrained(sys.argv[1], filename="*Q8_0.gguf", vocab_only=True, verbose=False).metadata))
"""
    env = {"PATH": "/usr/bin:/bin", "HF_ENDPOINT": world.hub.url, "HF_HOME": str(tmp_path)}
    loaded = run([toolchains["gguf"], "-c", code, TARGET], env)
    assert loaded.code == 0, loaded.err
    assert loaded.json["tokenizer.chat_template"] == NEW_TEMPLATE


def test_the_old_tag_still_pulls_the_old_bytes(new_template: Changed, new_readme: Changed) -> None:
    for changed in (new_readme, new_template):
        assert still_pulls_the_old_bytes(changed.world, changed.before)


def results(ran: Ran) -> dict[str, dict[str, Any]]:
    return {r["recipe"]: r for build in ran.json["builds"] for r in build["results"]}


def test_what_fails_the_gate_is_not_published_and_the_others_are(new_template: Changed) -> None:
    world = new_template.world
    assert new_template.ran.code == 4, new_template.ran.err
    assert new_template.ran.error["code"] == "gate_failed"
    statuses = {recipe: result["status"] for recipe, result in results(new_template.ran).items()}
    assert statuses == {**dict.fromkeys(INT4, "gate_failed"), **dict.fromkeys(OTHERS, "published")}
    published = {v["recipe"] for v in world.receipt("v1.1")["variants"]}
    assert published == OTHERS
    present = {path for path in weights(world.files("v1.1")) if "imatrix" not in path}
    assert present == {r.file.format(m=MODEL) for r in recipes.by_id(OTHERS)}


def test_the_card_says_why_a_variant_is_not_there(new_template: Changed) -> None:
    card = new_template.world.read("README.md", "v1.1").decode()
    for recipe in INT4:
        reason = results(new_template.ran)[recipe]["reason"]
        assert "1e-09" in reason
        assert reason in card


def test_what_failed_the_gate_is_not_tried_again_until_something_changes(new_template: Changed) -> None:
    world = new_template.world
    before = world.commits()
    assert [look["queued"] for look in world.look(2, PHIMILL_GATE_INT4="1e-9")] == [[], []]
    lost = str(world.root / "another-home")
    assert [look["queued"] for look in world.look(1, PHIMILL_HOME=lost)] == [[]]
    assert world.commits() == before
