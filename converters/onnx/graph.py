"""Turns the float MatMuls of the builder's graph into quantized ones, weight by weight.

What comes out is what the builder's own pass makes (`Model.to_nbits` with its default algorithm), node for node,
except that the weights are rounded when they are written. Beyond the builder's options, single layers and the
embedding can be kept at 8 bits (`Plan`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from converters.base import ConverterError
from converters.onnx.rounding import Blocks
from converters.onnx.streamed import Streamed, Weight

_HEAD = "/lm_head/MatMul"
_EMBEDDING = "/model/embed_tokens/Gather"


@dataclass(frozen=True)
class Plan:
    """What the builder has no option for: 8 bits for the first and the last layer, and for an embedding of its own."""

    int8_ends: bool = False
    int8_embedding: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Plan:
        return cls(bool(options.get("int8_ends")), bool(options.get("int8_embedding")))


def quantize(model: Any, plan: Plan) -> None:
    """Quantize the graph of a builder's model (`builders.base.Model`) in place.

    Raises:
        ConverterError: the builder was asked to round otherwise than by default.
    """
    if model.quantization_algo != "default" or not model.quant_attrs["is_symmetric"]:
        raise ConverterError("Only the builder's default rounding, symmetric, can be streamed.")
    for node in list(model.model.graph):
        weight = _weight_of(node)
        if weight is None or node.name in model.quant_attrs["nodes_to_exclude"]:
            continue
        if node.op_type == "MatMul":
            blocks = Blocks(_bits(model, node.name, plan), model.quant_attrs["matmul_block_size"])
            if model.quant_attrs["use_qdq"]:
                _dequantize_before(model, node, weight, blocks)
            else:
                _matmul_nbits(model, node, weight, blocks)
        elif node.name == _EMBEDDING and plan.int8_embedding:
            _gather_rounded(model, node, weight)


def _weight_of(node: Any) -> Weight | None:
    at = {"MatMul": 1, "Gather": 0}.get(node.op_type)
    value = None if at is None else node.inputs[at].const_value
    return value if isinstance(value, Weight) else None


def _bits(model: Any, name: str, plan: Plan) -> int:
    """The builder's own choice for a node, or 8 where the plan says so."""
    last = model.num_layers - 1
    if plan.int8_ends and name.startswith(("/model/layers.0/", f"/model/layers.{last}/")):
        return 8
    return int(model.int4_customized_weight_config.get(name, {}).get("bits", model.quant_attrs["bits"]))


def _matmul_nbits(model: Any, node: Any, weight: Weight, blocks: Blocks) -> None:
    inputs, outputs = weight.shape.numpy()
    names = (f"{weight.name}_Q{blocks.bits}", f"{weight.name}_scales")
    if node.name == _HEAD and model.tied_quantized_embeddings:
        # The embedding reads the head's weight by the names that the builder foresees.
        names = model.make_tied_quantized_embedding_input_names()[1:3]
    rounded = weight.rounded(weight.source.T, blocks)
    shape = (outputs, blocks.count(inputs), blocks.bytes)
    codes = _initializer(model, Streamed(rounded.codes, ir.DataType.UINT8, shape, names[0]))
    scales = _initializer(model, Streamed(rounded.scales, weight.dtype, shape[:2], names[1]))
    _rewire(node, node.inputs[0], codes, scales)
    level = model.quant_attrs["accuracy_level"]
    _become(node, "MatMulNBits", blocks, K=inputs, N=outputs, **({"accuracy_level": level} if level else {}))


def _gather_rounded(model: Any, node: Any, weight: Weight) -> None:
    blocks = Blocks(8, model.quant_attrs["matmul_block_size"])
    rows, length = weight.shape.numpy()
    if length % blocks.size:
        return
    rounded = weight.rounded(weight.source, blocks)
    shape = (rows, blocks.count(length))
    codes = _initializer(model, Streamed(rounded.codes, ir.DataType.UINT8, (rows, length), f"{weight.name}_Q8"))
    scales = _initializer(model, Streamed(rounded.scales, weight.dtype, shape, f"{weight.name}_scales"))
    _rewire(node, codes, node.inputs[1], scales)
    _become(node, "GatherBlockQuantized", blocks, gather_axis=0, quantize_axis=1)


def _dequantize_before(model: Any, node: Any, weight: Weight, blocks: Blocks) -> None:
    inputs, outputs = weight.shape.numpy()
    name = f"{weight.name}_DQ_Q{blocks.bits}"
    rounded = weight.rounded_as_it_lies(blocks)
    shape = (blocks.count(inputs), outputs)
    codes = _initializer(model, Streamed(rounded.codes, ir.DataType.INT4, (inputs, outputs), name))
    scales = _initializer(model, Streamed(rounded.scales, weight.dtype, shape, f"{weight.name}_DQ_scales"))
    dequantize = ir.node(
        "DequantizeLinear",
        [codes, scales],
        {"axis": 0, "block_size": blocks.size},
        outputs=[ir.Value(name=f"{name}_output", type=ir.TensorType(weight.dtype), shape=weight.shape)],
        name=f"{node.name}_DQ_Q{blocks.bits}",
    )
    model.model.graph.insert_before(node, dequantize)
    _rewire(node, node.inputs[0], dequantize.outputs[0])
    node.name = f"{node.name}_matmul_Q{blocks.bits}"


def _initializer(model: Any, tensor: Streamed) -> Any:
    """Register the tensor under its name, by which a node may already be waiting for it."""
    value = model.make_value(tensor.name, tensor.dtype, tensor.shape)
    value.const_value = tensor
    model.model.graph.register_initializer(value)
    return value


def _rewire(node: Any, *inputs: Any) -> None:
    """Give a node other inputs; the weight that nobody uses any more leaves the graph."""
    before = [value for value in node.inputs if value not in inputs]
    node.resize_inputs(len(inputs))
    for at, value in enumerate(inputs):
        node.replace_input_with(at, value)
    for value in before:
        if not value.uses():
            del node.graph.initializers[value.name]


def _become(node: Any, op_type: str, blocks: Blocks, **attributes: int) -> None:
    node.op_type, node.domain, node.name = op_type, "com.microsoft", f"{node.name}_Q{blocks.bits}"
    node.attributes.clear()
    for name, value in {**attributes, "bits": blocks.bits, "block_size": blocks.size}.items():
        node.attributes[name] = ir.AttrInt64(name, value)
