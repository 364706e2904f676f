"""What `phimill verify` finds in a repo, and what `phimill explain` says of it, without a Hub or a converter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bot import VERSION, catalog, explain, recipes, verify
from bot.agreement import Finding, differs
from bot.cli.entry import run
from bot.documents import documents
from bot.errors import HubUnreachable, NotAsRecorded, NotOurs, RepoUnavailable
from bot.models import ArtifactFile, RepoRef, SourceFile
from bot.publication import CARD_PATH, RECEIPT_PATH, STATEMENT_PATH, Publication
from bot.receipt import read_receipt, receipt
from bot.settings import Settings, get_settings

GOLDEN = read_receipt((Path(__file__).parent / "cards" / "phi-3.5-gguf.json").read_bytes())
HEAD = "f" * 40
ENDPOINT = "https://huggingface.co"
GGUF = recipes.backends()["gguf"]


def held() -> tuple[Publication, dict[str, bytes]]:
    """A publication, and the bytes of its variants."""
    digests = catalog.source_digests(GOLDEN.source_files)
    weights, variants = {}, []
    for variant in GOLDEN.variants:
        files = []
        for file in (*variant.files, *variant.extras):
            weights[file.path] = f"weights of {file.path}".encode()
            files.append(ArtifactFile.of(file.path, weights[file.path]))
        made = {"files": tuple(files[: len(variant.files)]), "extras": tuple(files[len(variant.files) :])}
        variants.append(variant.model_copy(update={**made, "made_from": digests.made_from}))
    update = {"digests": digests, "variants": tuple(variants), "phimill": VERSION}
    return GOLDEN.model_copy(update=update), weights


class Hub:
    """Stands in for a Hub with a source and one repo of ours on it."""

    endpoint = ENDPOINT

    def __init__(self, publication: Publication, files: dict[str, bytes]) -> None:
        self.publication, self.files = publication, files
        self.source: tuple[SourceFile, ...] | None = publication.source_files
        self.names: tuple[str, ...] = ("v1.0", "v1.1", "old", "v1.0-rc")
        self.asked: list[str] = []
        self.breaks = 0

    def tags(self, repo: str) -> tuple[str, ...]:
        return self.names

    def resolve(self, ref: RepoRef) -> str:
        self.asked.append(str(ref))
        return HEAD

    def tree(self, repo: str, sha: str) -> tuple[SourceFile, ...]:
        if repo == self.publication.source:
            if self.source is None:
                raise RepoUnavailable(f"{repo} does not exist.")
            return self.source
        return tuple(
            SourceFile(path=path, size=len(data), digest=hashlib.sha256(data).hexdigest())
            for path, data in self.files.items()
        )

    def read_bytes(self, repo: str, sha: str, path: str, most: int) -> bytes:
        return self.files[path]

    @contextmanager
    def stream(self, repo: str, sha: str, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        def blocks() -> Iterator[bytes]:
            data = self.files[path][start:]
            yield data[:5]
            if self.breaks:
                self.breaks -= 1
                raise HubUnreachable("The connection broke.")
            yield data[5:]

        yield blocks()


@pytest.fixture(scope="module")
def made() -> tuple[Publication, dict[str, bytes]]:
    publication, weights = held()
    return publication, {".gitattributes": b"* -text\n", **weights, **documents(GGUF, publication, ENDPOINT)}


@pytest.fixture
def hub(made: tuple[Publication, dict[str, bytes]]) -> Hub:
    publication, files = made
    return Hub(publication, dict(files))


def lines(hub: Any, text: str = f"{GOLDEN.repo}@v1.1") -> list[str]:
    checked = verify.verify(hub, verify.published(hub, text))
    assert checked.ok == all(finding.warning for finding in checked.findings)
    return [str(finding) for finding in checked.findings]


def test_an_untouched_repo_has_no_findings(hub: Hub) -> None:
    assert lines(hub) == []


def test_a_finding_is_one_line_whatever_is_in_it() -> None:
    hostile = differs("a\nb", "size\x1b[31m", "1\r\n2", {"a": "\u202e" + "x" * 1000})
    assert str(hostile).startswith("a b: size[31m: expected 1 2, found {")
    assert len(hostile.found) <= 160
    assert "\x1b" not in differs("f", "w", "\x1b", "").expected
    assert str(Finding(file="f", what="it is missing")) == "f: it is missing"


def test_without_a_tag_the_newest_version_is_looked_at(hub: Hub) -> None:
    hub.names = ("v1.9", "v1.10", "v2.0-rc")
    verify.published(hub, GOLDEN.repo)  # type: ignore[arg-type]
    hub.names = ()
    verify.published(hub, GOLDEN.repo)  # type: ignore[arg-type]
    assert hub.asked == [f"{GOLDEN.repo}@v1.10", f"{GOLDEN.repo}@main"]


def test_a_changed_byte_of_the_weights_is_named(hub: Hub) -> None:
    path = hub.publication.variants[0].files[0].path
    hub.files[path] = b"W" + hub.files[path][1:]
    [line] = lines(hub)
    assert line.startswith(f"{path}: SHA-256 in phimill.json: expected ")
    assert hashlib.sha256(hub.files[path]).hexdigest() in line


def test_a_file_that_is_too_long_missing_or_extra_is_named(hub: Hub) -> None:
    first, second = (v.files[0].path for v in hub.publication.variants[:2])
    hub.files[first] += b"more"
    del hub.files[second]
    hub.files["payload.py"] = b"print()"
    said = lines(hub)
    size = hub.publication.variants[0].files[0].size
    assert f"{first}: size in bytes: expected {size}, found {size + 4}" in said
    assert f"{second}: it is missing" in said
    assert "payload.py: neither phimill.json nor provenance.intoto.jsonl lists it" in said


@pytest.mark.parametrize("path", [CARD_PATH, RECEIPT_PATH, STATEMENT_PATH])
@pytest.mark.parametrize("at", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_one_changed_byte_of_a_document_is_caught_wherever_it_is(hub: Hub, path: str, at: float) -> None:
    data = bytearray(hub.files[path])
    place = int(at * len(data))
    data[place] = ord("7") if data[place] != ord("7") else ord("8")
    hub.files[path] = bytes(data)
    assert any(path in line for line in lines(hub))


def test_a_card_that_says_more_than_was_measured_is_named_by_its_line(hub: Hub) -> None:
    text = hub.files[CARD_PATH].decode()
    hub.files[CARD_PATH] = text.replace("## Variants", "## Excellent variants").encode()
    [line] = [line for line in lines(hub) if "line" in line]
    assert "README.md: line " in line
    assert "found ## Excellent variants" in line


def test_a_receipt_that_was_changed_with_its_hash_in_the_statement_contradicts_the_card(hub: Hub) -> None:
    better = hub.publication.variants[0].fidelity.model_copy(update={"kl_mean": 1e-9})
    forged = hub.publication.variants[0].model_copy(update={"fidelity": better})
    state = hub.publication.model_copy(update={"variants": (forged, *hub.publication.variants[1:])})
    beside = documents(GGUF, state, ENDPOINT)
    hub.files |= {name: beside[name] for name in (RECEIPT_PATH, STATEMENT_PATH)}
    assert any(line.startswith("README.md: line ") for line in lines(hub))


def test_another_source_in_the_statement_is_named_with_its_place(hub: Hub) -> None:
    other = "0" * 40
    hub.files[STATEMENT_PATH] = hub.files[STATEMENT_PATH].replace(GOLDEN.source_sha.encode(), other.encode())
    said = lines(hub)
    assert any(
        line.startswith("provenance.intoto.jsonl: predicate.buildDefinition.externalParameters.source_sha: expected")
        for line in said
    )


def test_the_same_statement_in_other_bytes_is_not_what_phimill_writes(hub: Hub) -> None:
    hub.files[STATEMENT_PATH] = json.dumps(json.loads(hub.files[STATEMENT_PATH])).encode()
    assert "provenance.intoto.jsonl: it says the same in other bytes than phimill writes" in lines(hub)


DEEP = b'{"predicate": ' + b"[" * 900 + b"]" * 900 + b"}"
FORMLESS = b'{"subject": [1, {"name": 2}, {"name": "x"}], "predicate": []}'


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"\\ud800": "\\ud800"}', DEEP, FORMLESS])
def test_a_statement_that_is_none_is_a_finding(hub: Hub, data: bytes) -> None:
    hub.files[STATEMENT_PATH] = data
    assert any(line.startswith(STATEMENT_PATH) for line in lines(hub))


def test_a_receipt_that_cannot_be_read_is_a_finding_and_what_can_be_compared_is(hub: Hub) -> None:
    hub.files[RECEIPT_PATH] = b"{" + hub.files[RECEIPT_PATH]
    said = lines(hub)
    assert any(line.startswith("phimill.json: cannot be read") for line in said)
    assert any(line.startswith("phimill.json: SHA-256 in provenance.intoto.jsonl") for line in said)


def test_a_figure_that_is_no_number_is_a_finding(hub: Hub) -> None:
    hub.files[RECEIPT_PATH] = hub.files[RECEIPT_PATH].replace(b'"kl_p99": ', b'"kl_p99": NaN, "x": ', 1)
    said = lines(hub)
    assert "phimill.json: it has a figure that is not finite" in said
    assert "phimill.json: no card follows from it (ValueError)" in said


def test_a_tag_on_another_version_is_a_finding(hub: Hub) -> None:
    assert lines(hub, f"{GOLDEN.repo}@v1.0") == ["phimill.json: version: expected v1.0, found v1.1"]


def test_a_copy_under_another_name_is_only_worth_a_note(hub: Hub) -> None:
    checked = verify.verify(hub, verify.published(hub, "you/copy@v1.1"))  # type: ignore[arg-type]
    assert checked.ok
    assert [finding.found for finding in checked.findings] == [GOLDEN.repo]


def test_a_source_that_is_gone_is_only_worth_a_note(hub: Hub) -> None:
    hub.source = None
    checked = verify.verify(hub, verify.published(hub, GOLDEN.repo))  # type: ignore[arg-type]
    assert checked.ok
    assert "the source cannot be compared" in str(checked.findings[0])


@pytest.mark.parametrize("source", ["../../api/whoami-v2", "a/b@main", "https://elsewhere.example/a/b", ""])
def test_a_source_that_is_no_repo_is_a_finding_and_never_asked_for(hub: Hub, source: str) -> None:
    hub.publication = hub.publication.model_copy(update={"source": source})
    hub.files[RECEIPT_PATH] = receipt(hub.publication)
    assert any(line.startswith("phimill.json: source: ") for line in lines(hub))


def test_other_bytes_at_the_same_source_commit_are_a_finding(hub: Hub) -> None:
    first, *rest = hub.publication.source_files
    hub.source = (first.model_copy(update={"digest": "0" * 64}), *rest[:-1])
    said = lines(hub)
    assert any(f"/{first.path}: digest in phimill.json and in the source" in line for line in said)
    assert any(line.endswith("expected a file, found nothing") for line in said)


def test_of_a_card_that_another_phimill_wrote_the_figures_are_compared(hub: Hub) -> None:
    state = hub.publication.model_copy(update={"phimill": "0.0.1"})
    hub.files |= documents(GGUF, state, ENDPOINT)
    reworded = hub.files[CARD_PATH].replace(b"## Variants", b"## All variants")
    hub.files |= documents_with_card(hub, reworded)
    worse = min(state.variants, key=lambda v: v.fidelity.top1)
    [note] = lines(hub)
    assert "words it otherwise" in note
    figure = f"| {100 * worse.fidelity.top1:.2f} % |".encode()
    hub.files |= documents_with_card(hub, reworded.replace(figure, b"| 100.00 % |"))
    assert any(line.startswith(f"README.md: top-1 of {worse.recipe}: expected") for line in lines(hub))


def documents_with_card(hub: Hub, card: bytes) -> dict[str, bytes]:
    """A card, and the statement with its hash."""
    said = json.loads(hub.files[STATEMENT_PATH])
    for subject in said["subject"]:
        if subject["name"] == CARD_PATH:
            subject["digest"]["sha256"] = hashlib.sha256(card).hexdigest()
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    return {CARD_PATH: card, STATEMENT_PATH: text.encode()}


def test_a_card_whose_links_lead_elsewhere_is_worth_a_note(hub: Hub) -> None:
    hub.files |= documents(GGUF, hub.publication, "https://hub.example")
    assert lines(hub) == [
        "README.md: its links lead to another Hub: expected https://huggingface.co, found https://hub.example"
    ]


def test_a_connection_that_breaks_is_gone_on_with(hub: Hub) -> None:
    hub.breaks = 2
    assert lines(hub) == []


def test_a_repo_without_a_receipt_is_not_ours(hub: Hub) -> None:
    del hub.files[RECEIPT_PATH]
    with pytest.raises(NotOurs, match=r"no phimill\.json"):
        verify.published(hub, GOLDEN.repo)  # type: ignore[arg-type]


def test_an_explanation_has_source_licence_recipes_options_figures_and_limits(hub: Hub) -> None:
    told = explain.explain(hub, verify.published(hub, GOLDEN.repo))  # type: ignore[arg-type]
    text = "\n".join(line for section in told.sections for line in section.lines)
    variant = hub.publication.variants[0]
    for said in (GOLDEN.source, GOLDEN.source_sha, str(GOLDEN.license), variant.recipe, '"type":', variant.toolchain):
        assert said in text
    assert f"{variant.fidelity.kl_mean:.2g} nats" in text
    assert "weights were not audited" in text
    assert "gguf/int8: Of 24 matrices compared with their siblings in other layers, none stands out." in text
    assert "model.layers.3.mlp.down_proj.weight (Q4_K) has a quantization error of 0.45; 0.076 is usual." in text
    assert "gguf/fp16: Its weights were not compared with the source's." in text
    assert f"phimill verify {GOLDEN.repo}@v1.1" in text


def test_what_cannot_be_read_cannot_be_explained(hub: Hub) -> None:
    hub.files[RECEIPT_PATH] = b"{"
    with pytest.raises(NotOurs, match="cannot be read"):
        explain.explain(hub, verify.published(hub, GOLDEN.repo))  # type: ignore[arg-type]


class Mill:
    """As much of a mill as the commands need."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.hub, self.settings = hub, Settings(home=home)

    def close(self) -> None: ...


@pytest.fixture
def call(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    get_settings.cache_clear()
    monkeypatch.setattr("bot.mill.Mill", lambda settings: Mill(hub, tmp_path))

    def called(*words: str) -> tuple[int, str, str]:
        code = run(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return called


def test_the_command_says_that_all_is_well(call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = call("verify", GOLDEN.repo)
    assert (code, "All of it is as recorded." in out) == (0, True)


def test_the_command_exits_with_7_and_lists_what_is_wrong(call: Callable[..., tuple[int, str, str]], hub: Hub) -> None:
    hub.files["evil\x1b[2J.py"] = b""
    code, out, err = call("verify", GOLDEN.repo)
    assert code == NotAsRecorded.exit_code == 7
    assert "wrong: evil" in out
    assert "\x1b" not in out + err
    code, out, err = call("verify", GOLDEN.repo, "--format", "json")
    answer = json.loads(out)
    assert (code, answer["ok"], [f["file"] for f in answer["findings"]]) == (7, False, ["evil\x1b[2J.py"])
    assert json.loads(err.splitlines()[-1])["error"]["code"] == "not_as_recorded"


def test_explain_prints_sentences_or_one_object(call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = call("explain", GOLDEN.repo)
    assert code == 0
    assert "Where it came from" in out
    code, out, _ = call("explain", GOLDEN.repo, "--format", "json")
    assert (code, json.loads(out)["source_sha"]) == (0, GOLDEN.source_sha)


def test_what_to_rebuild_is_chosen_only_where_something_is(call: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = call("verify", GOLDEN.repo, "--only", "gguf/int4")
    assert (code, "Add --rebuild or --measure." in err) == (2, True)
