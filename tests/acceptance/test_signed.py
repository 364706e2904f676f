"""A signed release, from the key that openssl makes to a stranger who checks the download with the standard's tool."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import key_files
import pytest
from child_watch import ChildWatch
from hub_world import BIN, HERE, MODEL, SOURCE, TARGET, Ran, World, ended, popen, run
from key_files import KeyFiles

from bot.errors import KeyUnusable, NotAsRecorded

pytestmark = pytest.mark.backend

WEIGHTS = f"{MODEL}-Q8_0.gguf"


@dataclass(frozen=True)
class Signed:
    """A release that was converted by a mill with a key, and what was seen meanwhile."""

    world: World
    key: KeyFiles
    ran: Ran
    started: str
    children: frozenset[tuple[bytes, bytes]]

    def phimill(self, *words: str) -> Ran:
        """The command line, as somebody without token or key."""
        env = {name: value for name, value in self.world.env().items() if name != "HF_TOKEN"}
        return run([BIN / "phimill", *words], env)

    def check(self, folder: Path, key: Path) -> Ran:
        """What the card says to do with a download."""
        words = ["verify", "key", folder, "--signature", folder / "model.sig", "--public_key", key]
        return run([BIN / "model_signing", *words], {"PATH": str(BIN)})


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, tiny_phi: Path, toolchains: object) -> Iterator[Signed]:
    root = tmp_path_factory.mktemp("signed")
    key = key_files.make(root)
    with World(root / "world", process=True) as world:
        world.release(tiny_phi)
        words = ["convert", SOURCE, "--recipe", "gguf/int8", "--format", "json"]
        env = world.env(PHIMILL_SIGNING_KEY=str(key.private))
        process = popen([sys.executable, HERE / "audited_phimill.py", root / "started.jsonl", *words], env)
        with ChildWatch(process.pid) as watch:
            ran = ended(process)
        assert ran.code == 0, ran.err
        yield Signed(world, key, ran, (root / "started.jsonl").read_text(), frozenset(watch.seen))


@pytest.fixture
def changed(signed: Signed) -> Iterator[Callable[[str, bytes], str]]:
    """Commits other bytes under a path; afterwards it is as before."""
    api, before = signed.world.api(), {path: signed.world.read(path, "v1.0") for path in (WEIGHTS, "model.sig")}

    def change(path: str, data: bytes) -> str:
        return f"{TARGET}@{api.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=TARGET).oid}"

    yield change
    for path in set(signed.world.files("main")) - set(signed.world.files("v1.0")):
        api.delete_file(path, TARGET)
    for path, data in before.items():
        api.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=TARGET)


def test_the_commands_of_the_card_verify_a_download(signed: Signed, tmp_path: Path) -> None:
    card = signed.world.read("README.md", "v1.0").decode()
    section = card.partition("## Signature")[2].partition("\n## ")[0]
    assert signed.key.fingerprint in section
    standard, ours = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    download, install, verify = standard.splitlines()
    assert install == "pip install model-signing pyopenssl"
    shutil.copy(signed.key.public, tmp_path / "signing.pub")
    env = {"PATH": f"{BIN}:/usr/bin:/bin", "HF_ENDPOINT": signed.world.hub.url, "HF_HOME": str(tmp_path / "hf")}
    env |= {"PHIMILL_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}
    for command in (download, verify, *ours.splitlines()):
        ran = run(["sh", "-c", f"cd {shlex.quote(str(tmp_path))} && {command}"], env)
        assert ran.code == 0, f"{command}: {ran.out}{ran.err}"
    assert (tmp_path / "model" / WEIGHTS).is_file()


def test_one_changed_byte_fails_with_the_standard_tool_and_so_does_another_key(signed: Signed, tmp_path: Path) -> None:
    folder = Path(signed.world.reader.snapshot_download(TARGET, revision="v1.0", local_dir=tmp_path / "model"))
    assert (signed.check(folder, signed.key.public).code, "succeeded") == (0, "succeeded")
    assert signed.check(folder, key_files.make(tmp_path).public).code == 1
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    ran = signed.check(folder, signed.key.public)
    assert ran.code == 1
    # The tool prints its error's repr: how the name is quoted depends on the bytes of the two hashes behind it.
    assert re.search(rf"Hash mismatch for \W+{re.escape(WEIGHTS)}", ran.out + ran.err)


def test_phimill_verify_takes_the_key_and_names_it(signed: Signed) -> None:
    ran = signed.phimill("verify", TARGET, "--key", str(signed.key.public), "--format", "json")
    assert ran.code == 0, ran.err
    assert (ran.json["ok"], ran.json["signer"], ran.json["findings"]) == (True, signed.key.fingerprint, [])
    ran = signed.phimill("verify", TARGET, "--key", str(signed.key.public))
    assert f"Every file is signed by the key {signed.key.fingerprint}." in ran.out.replace("\n", " ")


def test_without_a_key_phimill_verify_says_what_it_did_not_check(signed: Signed) -> None:
    ran = signed.phimill("verify", TARGET, "--format", "json")
    assert (ran.code, ran.json["ok"], ran.json["signer"]) == (0, True, None)
    [note] = ran.json["findings"]
    assert (note["file"], note["warning"]) == ("model.sig", True)
    assert "--key" in note["what"]
    assert signed.key.fingerprint in note["what"]


def test_phimill_verify_catches_one_byte_a_new_file_and_a_signature_that_is_not_of_this_key(
    signed: Signed, changed: Callable[[str, bytes], str], tmp_path: Path
) -> None:
    def wrong(place: str, key: Path) -> list[str]:
        ran = signed.phimill("verify", place, "--key", str(key), "--format", "json")
        assert (ran.code, ran.error["code"], ran.json["signer"]) == (NotAsRecorded.exit_code, "not_as_recorded", None)
        return [f"{finding['file']}: {finding['what']}" for finding in ran.json["findings"]]

    other = key_files.make(tmp_path)
    assert wrong(f"{TARGET}@v1.0", other.public) == ["model.sig: fingerprint of the key"]
    assert "extra.py: model.sig does not cover it" in wrong(changed("extra.py", b"print()"), signed.key.public)
    data = bytearray(signed.world.read(WEIGHTS, "v1.0"))
    data[len(data) // 2] ^= 1
    assert f"{WEIGHTS}: SHA-256 in model.sig" in wrong(changed(WEIGHTS, bytes(data)), signed.key.public)
    junk = changed("model.sig", signed.world.read("model.sig", "v1.0").replace(b"payload", b"pay"))
    assert any(finding.startswith("model.sig: it is not the signature") for finding in wrong(junk, signed.key.public))


def test_it_is_explained_who_signed_it_and_how_to_check(signed: Signed) -> None:
    ran = signed.phimill("explain", TARGET)
    assert ran.code == 0, ran.err
    said = " ".join(ran.out.split())
    assert signed.key.fingerprint in said
    assert f"phimill verify --key KEY {TARGET}@v1.0" in said
    assert "not signed" not in said


def test_a_key_of_the_wrong_kind_ends_a_conversion_before_it_begins(signed: Signed) -> None:
    before = signed.world.commits()
    ran = signed.world.convert("gguf/int4", PHIMILL_SIGNING_KEY=str(signed.key.public))
    assert (ran.code, ran.error["code"]) == (KeyUnusable.exit_code, KeyUnusable.code)
    assert "Traceback" not in ran.err
    assert signed.world.commits() == before
    assert not list((signed.world.home / "work").rglob("*Q4_K_M*"))


def test_the_doctor_says_with_which_key_publishing_is_signed(signed: Signed) -> None:
    told = signed.world.phimill("doctor", "--format", "json", PHIMILL_SIGNING_KEY=str(signed.key.private)).json
    assert told["signing"] == {"fingerprint": signed.key.fingerprint, "problem": None}
    told = signed.world.phimill("doctor", "--format", "json", PHIMILL_SIGNING_KEY="/nowhere/key.pem").json
    assert [problem for problem in told["problems"] if "/nowhere/key.pem cannot be read" in problem]


def test_the_private_key_is_in_no_file_that_the_mill_or_the_hub_keeps(signed: Signed) -> None:
    looked = 0
    for path in signed.world.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            looked += 1
            data = path.read_bytes()
            assert not [piece for piece in pieces(signed.key) if piece in data], path
    assert looked > 20


def test_the_private_key_is_given_to_no_child_and_is_nowhere_in_what_was_printed(signed: Signed) -> None:
    converters = [(command, env) for command, env in signed.children if b"converters." in command and env]
    assert converters
    for _, environment in converters:
        assert b"PHIMILL_SIGNING_KEY" not in environment
        assert str(signed.key.private).encode() not in environment
    said = [command + env for command, env in signed.children]
    said += [signed.started.encode(), signed.ran.out.encode(), signed.ran.err.encode()]
    assert not [text for text in said if any(piece in text for piece in pieces(signed.key))]


def pieces(key: KeyFiles) -> list[bytes]:
    """What gives the key away: a line of its PEM file."""
    return [line for line in key.private.read_bytes().splitlines() if not line.startswith(b"-")]
