"""Small repos in the shapes of the Phi family, and in every shape that has ever broken a converter.

Each is made by code, of real bytes: `write("sharded", folder)` makes a folder that can be uploaded (`upload`)
or read as if it were a Hub (`FolderHub`). `KINDS` names them all. The numbers are tiny (hidden 64, two layers,
320 tokens), the structure is the real one.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.utils.tqdm import disable_progress_bars

from bot.errors import RepoUnavailable
from bot.hub import Hub, Standing
from bot.models import RepoRef, SourceFile

VOCAB, HIDDEN, LAYERS, HEADS, KV_HEADS, FEED = 320, 64, 2, 4, 2, 128
HEAD = HIDDEN // HEADS
BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I8": 1, "U8": 1}

Shapes = dict[str, tuple[str, tuple[int, ...]]]
Maker = Callable[[Path], None]

KINDS: dict[str, Maker] = {}


def kind(make: Maker) -> Maker:
    """Register a kind of repo under its function's name."""
    KINDS[make.__name__] = make
    return make


def write(name: str, folder: Path) -> Path:
    """Make the repo called `name` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    KINDS[name](folder)
    return folder


def upload(url: str, token: str, repo: str, folder: Path) -> str:
    """Put a folder onto a Hub as one commit; returns its sha."""
    disable_progress_bars()
    api = HfApi(endpoint=url, token=token)
    api.create_repo(repo, exist_ok=True)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    operations = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in paths]
    return api.create_commit(repo, operations=operations, commit_message="upload").oid


class FolderHub(Hub):
    """A Hub with one repo, read from a folder. Counts what is read as the real one does."""

    sha = "c" * 40

    def __init__(self, folder: Path, repo: str = "microsoft/phi") -> None:
        super().__init__("http://127.0.0.1:1")
        self.folder, self.repo = folder, repo

    def look(self, ref: RepoRef) -> Standing:
        return Standing(sha=self.sha)

    def tree(self, repo: str, sha: str) -> tuple[SourceFile, ...]:
        return tuple(listed(self.folder, path) for path in sorted(self.folder.rglob("*")) if path.is_file())

    def read_bytes(self, repo: str, sha: str, path: str, max_bytes: int) -> bytes:
        return self.read_range(repo, sha, path, 0, max_bytes)

    def read_range(self, repo: str, sha: str, path: str, start: int, end: int) -> bytes:
        self.calls.append(f"GET {path}")
        if not (self.folder / path).is_file():
            raise RepoUnavailable(f"{path} does not exist.")
        data = (self.folder / path).read_bytes()[start:end]
        self.bytes_read += len(data)
        return data

    @contextmanager
    def stream(self, repo: str, sha: str, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        data = self.read_range(repo, sha, path, start, 2**40)
        yield (data[at : at + 1000] for at in range(0, len(data), 1000))


def listed(folder: Path, path: Path) -> SourceFile:
    """A file as the Hub lists it: sha256 for large files, git's sha1 for small ones."""
    data = path.read_bytes()
    large = path.suffix in (".safetensors", ".bin")
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    digest = hashlib.sha256(data).hexdigest() if large else git
    return SourceFile(path=path.relative_to(folder).as_posix(), size=len(data), digest=digest)


# --- pieces ----------------------------------------------------------------------------------------------


def safetensors(shapes: Shapes, seed: int = 0) -> bytes:
    """A sound safetensors file with random bytes in it."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape) in shapes.items():
        size = BYTES[dtype]
        for extent in shape:
            size *= extent
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    return raw_safetensors(table, random.Random(seed).randbytes(position))


def raw_safetensors(table: Mapping[str, Any] | str, data: bytes) -> bytes:
    """A file with any header, sound or not."""
    header = (table if isinstance(table, str) else json.dumps(table)).encode()
    return len(header).to_bytes(8, "little") + header + data


def phi3_shapes(dtype: str = "BF16", tied: bool = False) -> Shapes:
    """The tensors of a Phi3ForCausalLM."""
    shapes: Shapes = {"model.embed_tokens.weight": (dtype, (VOCAB, HIDDEN))}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.input_layernorm.weight": (dtype, (HIDDEN,)),
            f"{at}.self_attn.qkv_proj.weight": (dtype, ((HEADS + 2 * KV_HEADS) * HEAD, HIDDEN)),
            f"{at}.self_attn.o_proj.weight": (dtype, (HIDDEN, HIDDEN)),
            f"{at}.mlp.gate_up_proj.weight": (dtype, (2 * FEED, HIDDEN)),
            f"{at}.mlp.down_proj.weight": (dtype, (HIDDEN, FEED)),
        }
    shapes["model.norm.weight"] = (dtype, (HIDDEN,))
    return shapes if tied else shapes | {"lm_head.weight": (dtype, (VOCAB, HIDDEN))}


def phi3_config(**changes: Any) -> dict[str, Any]:
    """The config.json of a short-context Phi3ForCausalLM; a change to None takes the key away."""
    config = {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "hidden_size": HIDDEN,
        "intermediate_size": FEED,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "vocab_size": VOCAB,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "auto_map": {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
        **changes,
    }
    return {key: value for key, value in config.items() if value is not None}


def longrope(name: str = "longrope", rotary: float = 1.0) -> dict[str, Any]:
    """LongRoPE in transformers 4's style."""
    pairs = int(rotary * HIDDEN) // HEADS // 2
    return {"type": name, "long_factor": [1.5 + i for i in range(pairs)], "short_factor": [1.0] * pairs}


def put(folder: Path, name: str, content: bytes | str | Mapping[str, Any]) -> None:
    """Write one file; a mapping as JSON."""
    if isinstance(content, Mapping):
        content = json.dumps(content, indent=2)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def card(folder: Path, front: str = "license: mit\nlanguage: [en]") -> None:
    put(folder, "README.md", f"---\n{front}\n---\n# A model\n")


def spm_tokenizer(folder: Path) -> None:
    """A SentencePiece tokenizer as Phi-3 has it (the bytes of tokenizer.model are not read before conversion)."""
    put(folder, "tokenizer.model", b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    put(
        folder,
        "tokenizer_config.json",
        {"tokenizer_class": "LlamaTokenizer", "chat_template": "{{ messages }}"},
    )


def bpe_json(vocab: int = VOCAB, pattern: str = r"\p{N}{1,3}|\p{L}+|[^\s\p{L}\p{N}]+|\s+") -> str:
    """A byte-level BPE tokenizer.json of `vocab` tokens without merges, that splits by `pattern`."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"<|{number}|>" for number in range(vocab - len(alphabet)))]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    return tokenizer.to_str()


def bpe_tokenizer(folder: Path, cls: str = "GPT2Tokenizer", vocab: int = VOCAB) -> None:
    put(folder, "tokenizer.json", bpe_json(vocab))
    put(folder, "tokenizer_config.json", {"tokenizer_class": cls})


def phi3(folder: Path, shapes: Shapes | None = None, **config: Any) -> None:
    """A Phi3ForCausalLM with a SentencePiece tokenizer, in one file."""
    put(folder, "config.json", phi3_config(**config))
    put(folder, "generation_config.json", {"eos_token_id": [2, 3]})
    put(folder, "model.safetensors", safetensors(shapes or phi3_shapes()))
    put(folder, "modeling_phi3.py", "raise SystemExit('the code of a repo is never run')\n")
    spm_tokenizer(folder)
    card(folder)


def shard(folder: Path, count: int = 2) -> None:
    """Cut a repo's model.safetensors (of `phi3_shapes`) into `count` files with an index."""
    (folder / "model.safetensors").unlink()
    everything = list(phi3_shapes().items())
    weight_map: dict[str, str] = {}
    for number in range(count):
        name = f"model-{number + 1:05}-of-{count:05}.safetensors"
        part = dict(everything[number::count])
        put(folder, name, safetensors(part, seed=number))
        weight_map |= dict.fromkeys(part, name)
    put(folder, "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


# --- the family ------------------------------------------------------------------------------------------


@kind
def phi3_mini_4k(folder: Path) -> None:
    phi3(folder, sliding_window=2047)


@kind
def phi35_mini(folder: Path) -> None:
    phi3(folder, max_position_embeddings=131072, rope_scaling=longrope())


@kind
def phi3_mini_128k_before_june_2024(folder: Path) -> None:
    phi3(folder, max_position_embeddings=131072, rope_scaling=longrope("su"))


@kind
def phi35_mini_saved_by_transformers_5(folder: Path) -> None:
    turned = {
        **longrope(),
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 4096,
    }
    del turned["type"]
    changes: dict[str, Any] = {"torch_dtype": None, "dtype": "bfloat16", "rope_theta": None}
    phi3(folder, max_position_embeddings=131072, rope_parameters=turned, original_max_position_embeddings=None,
         **changes)  # fmt: skip


@kind
def tokenizer_saved_by_transformers_5(folder: Path) -> None:
    phi35_mini_saved_by_transformers_5(folder)
    (folder / "tokenizer.model").unlink()
    bpe_tokenizer(folder, "TokenizersBackend")


@kind
def phi4_mini(folder: Path) -> None:
    phi3(folder, phi3_shapes(tied=True), max_position_embeddings=131072, tie_word_embeddings=True,
         partial_rotary_factor=0.75, rope_scaling=longrope(rotary=0.75))  # fmt: skip
    (folder / "tokenizer.model").unlink()
    bpe_tokenizer(folder)


@kind
def phi4(folder: Path) -> None:
    phi3(folder, max_position_embeddings=16384, original_max_position_embeddings=16384)
    (folder / "tokenizer.model").unlink()
    bpe_tokenizer(folder)


@kind
def phi2(folder: Path) -> None:
    config = phi3_config(architectures=["PhiForCausalLM"], model_type="phi", partial_rotary_factor=0.4,
                         intermediate_size=4 * HIDDEN, max_position_embeddings=2048, torch_dtype="float16",
                         original_max_position_embeddings=None, auto_map=None)  # fmt: skip
    put(folder, "config.json", config)
    shapes = {k: v for k, v in phi3_shapes("F16").items() if "qkv" not in k}
    for layer in range(LAYERS):
        for name in "qkv":
            shapes[f"model.layers.{layer}.self_attn.{name}_proj.weight"] = ("F16", (HIDDEN, HIDDEN))
    put(folder, "model.safetensors", safetensors(shapes))
    bpe_tokenizer(folder, "CodeGenTokenizer")
    card(folder)


@kind
def fp16_source(folder: Path) -> None:
    phi3(folder, phi3_shapes("F16"), torch_dtype="float16")


@kind
def sharded(folder: Path) -> None:
    phi3_mini_4k(folder)
    shard(folder)


@kind
def phi35_moe(folder: Path) -> None:
    phi3(folder, architectures=["PhiMoEForCausalLM"], model_type="phimoe", num_local_experts=4)


@kind
def tiny_moe(folder: Path) -> None:
    """SlimMoE: heads narrower than hidden / heads."""
    phi3(folder, architectures=["PhiMoEForCausalLM"], model_type="phimoe", num_local_experts=4, head_dim=8)


@kind
def phi3_small(folder: Path) -> None:
    phi3(folder, architectures=["Phi3SmallForCausalLM"], model_type="phi3small")
    (folder / "tokenizer.model").unlink()
    put(folder, "cl100k_base.tiktoken", "IQ== 0\n")
    put(folder, "tokenizer_config.json", {"tokenizer_class": "Phi3SmallTokenizer"})


@kind
def phi3_vision(folder: Path) -> None:
    phi3(
        folder,
        architectures=["Phi3VForCausalLM"],
        model_type="phi3_v",
        img_processor={"name": "clip_vision_model"},
    )


@kind
def phi4_multimodal(folder: Path) -> None:
    phi3(folder, architectures=["Phi4MMForCausalLM"], model_type="phi4mm", audio_processor={"name": "cascades"})


@kind
def phi4_flash(folder: Path) -> None:
    phi3(folder, architectures=["Phi4FlashForCausalLM"], model_type="phi4flash")


@kind
def phi4_vision(folder: Path) -> None:
    """The decoder's numbers lie in `text_config`."""
    config = phi3_config(architectures=["Phi4ForCausalLMV"], model_type="phi4-siglip")
    nested = {key: config.pop(key) for key in ("hidden_size", "num_hidden_layers", "vocab_size")}
    phi3(folder)
    put(folder, "config.json", {**config, "text_config": nested, "mm_vision_tower": "siglip2"})


# --- what is wrong with people's repos -------------------------------------------------------------------


@kind
def pickles_only(folder: Path) -> None:
    phi3_mini_4k(folder)
    (folder / "model.safetensors").unlink()
    put(folder, "pytorch_model.bin", b"\x80\x04cposix\nsystem\n(S'true'\ntR.")


@kind
def no_tokenizer(folder: Path) -> None:
    phi3_mini_4k(folder)
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer_config.json").unlink()


@kind
def quantized_already(folder: Path) -> None:
    phi3(folder, quantization_config={"quant_method": "gptq", "bits": 4})


@kind
def wrong_vocabulary(folder: Path) -> None:
    phi3(folder, vocab_size=VOCAB + 64)


@kind
def missing_layer(folder: Path) -> None:
    phi3(folder, num_hidden_layers=LAYERS + 1)


@kind
def token_beyond_vocabulary(folder: Path) -> None:
    phi4(folder)
    bpe_tokenizer(folder, vocab=VOCAB + 1)


@kind
def tokenizer_is_not_json(folder: Path) -> None:
    phi4(folder)
    put(folder, "tokenizer.json", "[" * 100_000)


@kind
def absurd_config(folder: Path) -> None:
    phi3(folder, num_hidden_layers=10**30)


@kind
def overlapping_tensors(folder: Path) -> None:
    phi3_mini_4k(folder)
    entry = {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}
    put(
        folder,
        "model.safetensors",
        raw_safetensors({"a": entry, "b": {**entry, "data_offsets": [4, 12]}}, b"0" * 12),
    )


@kind
def missing_shard(folder: Path) -> None:
    sharded(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


# --- repos that are made from a release ------------------------------------------------------------------


@kind
def adapter(folder: Path) -> None:
    put(folder, "adapter_config.json", {"peft_type": "LORA"})
    put(folder, "adapter_model.safetensors", safetensors({"lora": ("F32", (4, 4))}))
    card(folder, "base_model: microsoft/phi-4\nlibrary_name: peft")


@kind
def fine_tune(folder: Path) -> None:
    phi3_mini_4k(folder)
    card(folder, "base_model: microsoft/phi-4")


@kind
def quantization(folder: Path) -> None:
    phi3_mini_4k(folder)
    card(folder, "base_model: microsoft/phi-4\nbase_model_relation: quantized")


@kind
def our_conversion(folder: Path) -> None:
    phi3_mini_4k(folder)
    card(folder, "phimill:\n  schema_version: 1")


@kind
def gguf_only(folder: Path) -> None:
    put(folder, "config.json", phi3_config())
    put(folder, "model.gguf", b"GGUF" + bytes(60))
    card(folder, "tags: [gguf]")


@kind
def not_a_phi(folder: Path) -> None:
    phi3(folder, architectures=["Qwen2ForCausalLM"], model_type="qwen2")
