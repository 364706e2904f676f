"""Turns a Hub snapshot into an unquantized GGUF with llama.cpp's own converter, run as a library.

The snapshot is converted as it is: the tokenizer is read from `tokenizer.model` or from `tokenizer.json`,
and a re-saved one would lose what llama.cpp needs. What differs from `convert_hf_to_gguf.py`: metadata
comes from the request instead of from folder names and the source's card (so that the bytes do not depend
on where the work is done), and every tensor is checked while it is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

from converters.base import ConverterError, Events, Metadata

FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
}


def export(source: Path, target: Path, outtype: str, model_name: str, metadata: Metadata, events: Events) -> None:
    """Write `target` from the snapshot in `source`."""
    with torch.inference_mode():
        hparams = ModelBase.load_hparams(source, False)
        architecture = get_model_architecture(hparams, ModelType.TEXT)
        try:
            model_class = get_model_class(architecture)
        except NotImplementedError as error:
            raise ConverterError(
                f"llama.cpp's converter does not know {architecture}.",
                "A later llama.cpp may; nothing was made.",
            ) from error
        model = model_class(source, FILE_TYPES[outtype], target, model_name=model_name)
        _write(model, model_name, metadata, events)


def _write(model: Any, model_name: str, metadata: Metadata, events: Events) -> None:
    writer = model.gguf_writer
    loaded = gguf.Metadata.load
    gguf.Metadata.load = staticmethod(lambda *_args: _describe(model, model_name, metadata))
    try:
        _prepare(model)
    finally:
        gguf.Metadata.load = loaded
    _take_chat_template(writer, model.dir_model)
    writer.write_header_to_file(path=model.fname_out)
    writer.write_kv_data_to_file()
    _write_tensors(writer, events)
    writer.close()


def _take_chat_template(writer: Any, source: Path) -> None:
    """Let `chat_template.jinja` win over `tokenizer_config.json`, as in transformers; llama.cpp reads them the
    other way round."""
    file, key = source / "chat_template.jinja", gguf.Keys.Tokenizer.CHAT_TEMPLATE
    if file.is_file() and key in writer.kv_data[0]:
        writer.kv_data[0][key].value = file.read_text(encoding="utf-8")


def _prepare(model: Any) -> None:
    try:
        model.prepare_tensors()
        model.prepare_metadata(vocab_only=False)
    except NotImplementedError as error:
        raise ConverterError(
            f"llama.cpp's converter refuses this model: {str(error).strip()[:200]}",
            "Usually a tokenizer it has not met yet; converting it anyway would tokenize wrongly.",
        ) from error


def _describe(model: Any, model_name: str, metadata: Metadata) -> Any:
    """Fill `general.*` (names as in llama.cpp's gguf-py `Metadata`).

    The name stays as the repo has it: llama.cpp looks for "phi-3" in it to strip spaces after Phi-3's
    special tokens.
    """
    total = model.gguf_writer.get_total_parameter_count()[0]
    loaded = gguf.Metadata()
    for key, value in (gguf.Metadata.load_generation_config(model.dir_model) or {}).items():
        if hasattr(loaded, field := _SAMPLING.get(key, "")):
            setattr(loaded, field, value)
    parts = gguf.Metadata.get_model_id_components(model_name, total)
    _, _, loaded.basename, loaded.finetune, loaded.version, loaded.size_label = parts
    loaded.name = model_name
    loaded.quantized_by = metadata.quantized_by or None
    loaded.license = metadata.license or None
    loaded.license_name = metadata.license_name or None
    loaded.license_link = metadata.license_link or None
    loaded.repo_url = metadata.repo_url or None
    loaded.source_repo_url = metadata.source_url or None
    loaded.tags = list(metadata.tags) or None
    loaded.languages = list(metadata.languages) or None
    if metadata.source_repo:
        owner, _, name = metadata.source_repo.rpartition("/")
        entry = {"name": name, "organization": owner, "repo_url": metadata.source_url}
        if metadata.source_revision:
            entry["version"] = metadata.source_revision
        loaded.base_models = [{k: v for k, v in entry.items() if v}]
        loaded.organization = owner or None
    return loaded


_SAMPLING = {
    "top_k": "sampling_top_k",
    "top_p": "sampling_top_p",
    "min_p": "sampling_min_p",
    "temperature": "sampling_temp",
}


def _write_tensors(writer: Any, events: Events) -> None:
    """Do what `GGUFWriter.write_tensors_to_file` does, looking at each tensor on the way."""
    writer.write_ti_data_to_file()
    (stream,), (infos,) = writer.fout, writer.tensors
    writer.write_padding(stream, stream.tell())
    total = sum(info.nbytes for info in infos.values())
    done = 0
    for name, info in infos.items():
        data = np.asarray(gguf.LazyNumpyTensor.to_eager(info.tensor))
        if data.dtype.kind == "f" and not np.isfinite(data).all():
            raise ConverterError(
                f"{name} does not fit this type: some of its values became infinite.",
                "Every variant is measured against FP16, so this model cannot be converted here yet.",
            )
        data.tofile(stream)
        writer.write_padding(stream, info.nbytes)
        info.tensor = None
        done += info.nbytes
        events.progress("export", done, total, "bytes")
    writer.state = gguf.gguf_writer.WriterState.WEIGHTS
