"""Makes one recipe: the source's weights in MLX's layout, cast, perhaps quantized, for long or for short contexts.

A recipe's options: `dtype` (where there is none, the source's), `bits` and `group_size`, `embedding_bits` for the
token embedding alone, `calibrated` for GPTQ instead of rounding, `edition` for the short-context edition.
"""

from __future__ import annotations

from typing import Any

import mlx.nn as nn
from mlx_lm.utils import quantize_model, save_config

from converters import weights
from converters.base import ConverterError, ConvertRequest, Events
from converters.files import complete_file, exclusive, sweep
from converters.mlx import assets, calibrate
from converters.mlx import config as configs
from converters.mlx.loading import load
from converters.mlx.save import INDEX, save_weights
from converters.mlx.short_context import scale_keys

Config = dict[str, Any]


def convert(request: ConvertRequest, events: Events) -> None:
    """Make the recipe's files in `out` and announce them."""
    request.out.mkdir(parents=True, exist_ok=True)
    request.shared.mkdir(parents=True, exist_ok=True)
    sweep(request.out)
    options = request.recipe.options
    config, factor = configs.load(request.source), 1.0
    config["torch_dtype"] = options.get("dtype", config["torch_dtype"])
    source = request.source
    with exclusive(request.shared):
        sweep(request.shared)
        survey = weights.kept_survey(request, events)
        _refuse_overflow(survey, config)
        if options.get("calibrated"):
            source, config["quantization"] = calibrate.kept(request, config, events)
    if options.get("edition") == "short-context":
        config, factor = configs.short_context(config)
    model = load(source, config, config["torch_dtype"])
    scale_keys(model, factor)
    if "bits" in options and "quantization" not in config:
        model, config = _quantize(model, config, options)
    names = save_weights(model, request.out, events)
    with complete_file(request.out / "config.json") as partial:
        save_config(dict(config), partial)
    _announce(request, names, config, survey, events)


def _quantize(model: Any, config: Config, options: dict[str, Any]) -> tuple[Any, Config]:
    """Round as `mlx_lm.convert -q` does, the token embedding to bits of its own where the recipe says so."""
    group_size, bits = options["group_size"], options["bits"]
    own = {"group_size": group_size, "bits": options.get("embedding_bits", bits), "mode": "affine"}

    def form(_path: str, module: Any) -> bool | dict[str, Any]:
        return own if own["bits"] != bits and type(module) is nn.Embedding else True

    return tuple(quantize_model(model, config, group_size, bits, quant_predicate=form))


def _refuse_overflow(survey: weights.Survey, config: Config) -> None:
    if config["torch_dtype"] == "float16" and not survey.fits_float16:
        raise ConverterError(
            f"{survey.largest_tensor} has values up to {survey.largest:g}, more than float16 can hold.",
            "Every variant is measured against FP16, so this model cannot be converted here yet.",
        )


def _announce(
    request: ConvertRequest, names: list[str], config: Config, survey: weights.Survey, events: Events
) -> None:
    runs, beside = assets.copy(request.source, request.out)
    size = sum((request.out / name).stat().st_size for name in names)
    events.emit(
        "artifact",
        recipe=request.recipe.id,
        files=[*names, INDEX, "config.json", *runs],
        extras=beside,
        bits_per_weight=8 * size / survey.parameters,
        facts={
            "parameters": survey.parameters,
            "largest_weight": survey.largest,
            "source_types": list(survey.dtypes),
            "edition": request.recipe.options.get("edition", "standard"),
            "context": config["max_position_embeddings"],
        },
    )
