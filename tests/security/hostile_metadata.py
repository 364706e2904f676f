"""config.json as a bomb: numbers that would overflow, tables that would exhaust the stack, types that are others."""

from __future__ import annotations

import json
from pathlib import Path

from hostile_repos import UNSUPPORTED, Made, case, good, with_config, with_raw_config

CORRUPT = "source_corrupt"


def _config(text: str | bytes) -> Made:
    return {**good(), "config.json": text.encode() if isinstance(text, str) else text}


@case("config", CORRUPT, "not JSON")
def a_config_of_a_hundred_thousand_brackets(canary: Path) -> Made:
    return _config('{"a":' * 100_000)


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@case("config", CORRUPT, "no sensible vocab_size")
def a_size_that_is_a_list_of_lists(canary: Path) -> Made:
    return with_raw_config("vocab_size", _nested(90))


@case("config", CORRUPT)
def sizes_nested_as_deep_as_json_is_read(canary: Path) -> Made:
    """Read by a parser that stops at some depth, and then written by something that stops earlier."""
    return with_raw_config("vocab_size", _nested(900))


@case("config", CORRUPT, "RoPE type is not a text")
def a_rope_type_nested_as_deep_as_json_is_read(canary: Path) -> Made:
    return with_raw_config("rope_scaling", '{"type": ' + _nested(900) + "}")


@case("config", CORRUPT, "not JSON")
def a_size_of_a_million_digits(canary: Path) -> Made:
    return with_raw_config("vocab_size", "9" * 1_000_000)


@case("config", CORRUPT, "no sensible num_hidden_layers")
def a_thousand_million_layers(canary: Path) -> Made:
    return with_config(num_hidden_layers=10**9)


@case("config", CORRUPT, "no sensible hidden_size")
def a_negative_size(canary: Path) -> Made:
    return with_config(hidden_size=-64)


@case("config", CORRUPT, "no sensible num_attention_heads")
def no_heads_at_all(canary: Path) -> Made:
    return with_config(num_attention_heads=0)


@case("config", CORRUPT, "no sensible vocab_size")
def a_size_that_is_not_a_number(canary: Path) -> Made:
    return with_raw_config("vocab_size", "NaN")


@case("config", CORRUPT, "no sensible max_position_embeddings")
def an_infinite_context(canary: Path) -> Made:
    return with_raw_config("max_position_embeddings", "Infinity")


@case("config", CORRUPT, "no sensible num_hidden_layers")
def layers_that_are_a_truth(canary: Path) -> Made:
    return with_config(num_hidden_layers=True)


@case("config", CORRUPT, "no sensible hidden_size")
def a_size_in_words(canary: Path) -> Made:
    return with_config(hidden_size="64; touch evil")


@case("config", CORRUPT, "says nothing about")
def a_config_that_names_its_class_and_nothing_else(canary: Path) -> Made:
    return _config('{"architectures": ["Phi3ForCausalLM"]}')


@case("config", CORRUPT, "not a JSON object")
def a_config_that_is_a_list(canary: Path) -> Made:
    return _config("[1, 2, 3]")


@case("config", CORRUPT, "not UTF-8")
def a_config_that_is_no_text(canary: Path) -> Made:
    return _config(b"\xff\xfe\x00{")


@case("config", CORRUPT, "larger than")
def a_config_of_many_megabytes(canary: Path) -> Made:
    return with_config(comment="x" * 5_000_000)


@case("config", "refused", "names no class")
def a_class_that_is_a_table(canary: Path) -> Made:
    return with_config(architectures=[{"Phi3ForCausalLM": 1}])


@case("config", CORRUPT, "not a list of numbers")
def rope_factors_in_words(canary: Path) -> Made:
    return with_config(rope_scaling={"type": "longrope", "long_factor": ["1"] * 8, "short_factor": [1.0] * 8})


@case("config", CORRUPT, "not a list of numbers")
def rope_factors_that_are_infinite(canary: Path) -> Made:
    return with_raw_config("rope_scaling", '{"type": "longrope", "long_factor": [Infinity], "short_factor": [NaN]}')


@case("config", UNSUPPORTED, "RoPE factors are not")
def rope_factors_of_another_length(canary: Path) -> Made:
    return with_config(rope_scaling={"type": "longrope", "long_factor": [1.0] * 7, "short_factor": [1.0] * 9})


@case("config", UNSUPPORTED, "RoPE factors are not")
def a_hundred_thousand_rope_factors(canary: Path) -> Made:
    return with_config(rope_scaling={"type": "longrope", "long_factor": [1.0] * 100_000, "short_factor": [1.0]})


@case("config", CORRUPT, "not a table")
def rope_that_is_a_list(canary: Path) -> Made:
    return with_config(rope_scaling=[1, 2])


@case("config", CORRUPT, "partial_rotary_factor")
def a_rotary_share_that_is_not_a_number(canary: Path) -> Made:
    return with_raw_config("partial_rotary_factor", "NaN")


@case("config", CORRUPT, "no sensible head_dim")
def heads_wider_than_any_memory(canary: Path) -> Made:
    return with_config(head_dim=2**40)


@case("config", CORRUPT, "tie_word_embeddings")
def ties_that_are_neither_true_nor_false(canary: Path) -> Made:
    return with_config(tie_word_embeddings={"yes": 1})


@case("config", CORRUPT, "no sensible hidden_size")
def sizes_in_a_text_config_over_good_ones(canary: Path) -> Made:
    return with_config(text_config={"vocab_size": 2**60, "hidden_size": 2**60})


@case("config", UNSUPPORTED, "quantized already")
def a_quantization_that_names_a_program(canary: Path) -> Made:
    config = {"quant_method": "custom", "module": "os", "class": "system", "args": [f"touch {canary}"]}
    return with_config(quantization_config=config)


@case("config", UNSUPPORTED, "lacks intermediate_size")
def a_config_without_what_the_converter_reads(canary: Path) -> Made:
    return with_config(intermediate_size=None, rms_norm_eps=None)


@case("config", CORRUPT, "no sensible original_max_position_embeddings")
def an_original_context_of_less_than_nothing(canary: Path) -> Made:
    scaling = json.loads('{"type": "longrope", "original_max_position_embeddings": -1}')
    return with_config(rope_scaling=scaling, original_max_position_embeddings=None)
