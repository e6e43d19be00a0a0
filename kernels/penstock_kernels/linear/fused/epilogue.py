"""What happens to a product before it leaves the registers. Tiles lie as [outputs, rows], like the weight."""

import triton
import triton.language as tl

from penstock_kernels.activation.fused import activated


@triton.jit
def multiply(weight, x_low, x_high, scale, total, FORM: tl.constexpr):
    """total + weight x, in float32, for weights as memory holds them.

    weight: [..., outputs, depth]; x_low: [..., depth, rows]. x_high and scale only with int4: the inputs of the high
    halves of the bytes, and [..., outputs, 1], the scale of the group that the bytes are.
    """
    if FORM == "int4":
        # Two shifts carry the sign of the low half down from bit 3.
        low = ((weight << 4) >> 4).to(x_low.dtype)
        high = (weight >> 4).to(x_low.dtype)
        group = tl.dot(low, x_low, input_precision="ieee")
        group = tl.dot(high, x_high, group, input_precision="ieee")
        total += group * scale
    else:
        total = tl.dot(weight.to(x_low.dtype), x_low, total, input_precision="ieee")
    return total


@triton.jit
def finish(
    product, up, scales, bias, residual, out, n, m, num_rows, num_outputs,
    FORM: tl.constexpr, ACTIVATION: tl.constexpr, IS_GATED: tl.constexpr,
):  # fmt: skip
    """Scale, bias, activation, gate, residual, all in float32; then one rounding and the write.

    product, up: [outputs, rows] float32; up is looked at only if gated. n, m: which outputs and rows they are; those
    beyond num_outputs and num_rows are not written.
    """
    is_output = n < num_outputs
    y = _scaled(product, scales, bias, n, is_output, FORM)
    if ACTIVATION is not None:
        y = activated(y, ACTIVATION)
    if IS_GATED:
        y *= _scaled(up, scales, bias, n + num_outputs, is_output, FORM)
    place = m.to(tl.int64)[None, :] * num_outputs + n[:, None]
    is_inside = is_output[:, None] & (m < num_rows)[None, :]
    if residual is not None:
        y += tl.load(residual + place, mask=is_inside, other=0.0).to(tl.float32)
    tl.store(out + place, y.to(out.dtype.element_ty), mask=is_inside)


@triton.jit
def _scaled(product, scales, bias, n, is_output, FORM: tl.constexpr):
    if FORM == "int8":
        product *= tl.load(scales + n, mask=is_output, other=0.0)[:, None]
    if bias is not None:
        product += tl.load(bias + n, mask=is_output, other=0.0).to(tl.float32)[:, None]
    return product
