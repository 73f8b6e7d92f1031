"""The Jaccard steps of `lovasz` from counts in bins of the errors, without ranking them.

The Lovász extension is an integral of the Jaccard loss over error thresholds. What it is at a
threshold follows from two counts: the pixels of the class and the others whose error is above.
"""

import jax
import jax.numpy as jnp
from jax import lax

ONE = 0x3F800000  # the bits of 1.0 in float32; those of smaller positive numbers order like them

ROWS, COLUMNS = 64, 128  # of the table of bins: with the class bit, one tile of a matrix unit
MANTISSA = 9  # bits: bins are 1/512 to 1/1024 of their errors wide, the last one 0 to 2**-16
PIXELS = 2**15  # of a chunk, whose counts are exact in float32


def binned_steps(errors, is_class, valid, axes=()):
    """Returns float32 `[C, P]`: by about how much each pixel raises the Jaccard loss.

    All pixels of the class in a bin have one step, all others in it another: the means, were the
    bin's pixels evenly mixed. As those of the ranking they sum to the Jaccard loss's rise.

    Args:
      errors: floating `[C, P]`, 0 to 1.
      is_class: bool `[C, P]`.
      valid: bool `[1, P]`; other pixels have steps of 0.
      axes: the mesh axes over which the pixels are split, inside `shard_map`.
    """
    bits = lax.bitcast_convert_type(jnp.clip(errors, 0, 1).astype(jnp.float32), jnp.uint32)
    bins = jnp.minimum((ONE - bits) >> (23 - MANTISSA), ROWS * COLUMNS - 1).astype(jnp.int32)
    # Beyond the table: counted nowhere.
    bins = jnp.where(valid, bins + is_class * (ROWS * COLUMNS), 2 * ROWS * COLUMNS)

    def one_class(bins):
        return lax.platform_dependent(bins, cpu=count_one_by_one, default=count_by_products)

    counts = lax.map(one_class, bins)
    if axes:
        counts = lax.psum(counts, axes)
    tables = jax.vmap(steps_of_bins)(counts)

    def look_up(bins_and_table):
        return lax.platform_dependent(
            *bins_and_table, cpu=look_up_one_by_one, default=look_up_by_products
        )

    return lax.map(look_up, (bins, tables))


def steps_of_bins(counts):
    """Returns float32 `[2*K]` from int32 `[2*K]`, other pixels' bins before those of the class.

    In a bin, from (a, b) to (a + da, b + db) pixels of the class and others, the loss
    1 - (G-a)/(G+b) is followed along the straight line: the mean of 1/(G+b) and of
    (G-a)/(G+b)**2 on it, in closed form.
    """
    others, of_class = counts.reshape(2, -1)
    total = of_class.sum()
    ranked, ranked_others = jnp.cumsum(of_class) - of_class, jnp.cumsum(others) - others
    union = jnp.maximum(total + ranked_others, 1).astype(jnp.float32)
    missed = (total - ranked).astype(jnp.float32)
    growth = others / union
    # log(1+x)/x and (log(1+x) - x/(1+x))/x**2, which lose their digits near 0.
    small = growth < 0.1
    x = jnp.where(small, 1, growth)
    series = jnp.where(small, growth, 0)
    signs = [(-1) ** k for k in range(7)]
    mean_series = jnp.polyval(jnp.array([signs[k] / (k + 1) for k in reversed(range(7))]), series)
    mean = jnp.where(small, mean_series, jnp.log1p(x) / x)
    late_series = jnp.polyval(
        jnp.array([signs[k] * (k + 1) / (k + 2) for k in reversed(range(7))]), series
    )
    late = jnp.where(small, late_series, (jnp.log1p(x) - x / (1 + x)) / x**2)
    step = mean / union
    step_others = (missed / (1 + growth) - of_class * late) / union**2
    return jnp.where(total > 0, jnp.concatenate([step_others, step]), 0).astype(jnp.float32)


def count_one_by_one(bins):
    """Returns int32 `[2*K]`, how often each bin is in `bins` `[P]`."""
    return jnp.zeros(2 * ROWS * COLUMNS, jnp.int32).at[bins].add(1, mode="drop")


def look_up_one_by_one(bins, table):
    """Returns the table's entry, 0 beyond it, for each of `bins` `[P]`."""
    return table.at[bins].get(mode="fill", fill_value=0)


def count_by_products(bins):
    """The same as products of one-hot matrices: an accelerator would scatter one by one."""

    def add(counts, bins):
        row, column = one_hot(bins)
        product = jnp.einsum("pr,pc->rc", row, column, preferred_element_type=jnp.float32)
        return counts + product.astype(jnp.int32), None

    start = jnp.zeros((2 * ROWS, COLUMNS), jnp.int32)
    # Inside `shard_map` the counts differ from device to device, as the bins do.
    start += 0 * bins[0]
    return lax.scan(add, start, in_chunks(bins))[0].ravel()


def look_up_by_products(bins, table):
    """The same as products of one-hot matrices."""
    # Three numbers of 8 bits hold a float32's 24; one-hot products of them are exact.
    parts, rest = [], table.reshape(2 * ROWS, COLUMNS)
    for _ in range(3):
        part = lax.reduce_precision(rest, exponent_bits=8, mantissa_bits=7)
        parts.append(part.astype(jnp.bfloat16))
        rest -= part
    parts = jnp.concatenate(parts, 1)

    def chunk(bins):
        row, column = one_hot(bins)
        rows = jnp.dot(row, parts, preferred_element_type=jnp.float32)
        return (rows.reshape(-1, 3, COLUMNS).sum(1) * column).sum(1)

    return lax.map(chunk, in_chunks(bins)).ravel()[: bins.size]


def one_hot(bins):
    """Returns bfloat16 `[P, 2*ROWS]` and `[P, COLUMNS]`; both are all 0 or hold one 1."""
    row = (bins // COLUMNS)[:, None] == jnp.arange(2 * ROWS)
    column = (bins % COLUMNS)[:, None] == jnp.arange(COLUMNS)
    return row.astype(jnp.bfloat16), column.astype(jnp.bfloat16)


def in_chunks(bins):
    """Returns `[P]` as `[N, PIXELS]`, filled up with bins beyond the table."""
    pixels = min(PIXELS, bins.size)
    fill = 2 * ROWS * COLUMNS
    return jnp.pad(bins, (0, -bins.size % pixels), constant_values=fill).reshape(-1, pixels)
