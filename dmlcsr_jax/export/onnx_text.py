"""What is before and behind the network, in ONNX's own text: `program.fit` and the way back."""

from dmlcsr_jax.export.program import STRIP_ROWS

# `count` and `longer` are the photograph's pixels along the axis and along the longer one. Whole
# numbers are divided downwards only where they are positive; `longer` lifts them.
_TAPS = """
{axis}_less = Sub({axis}_count, one)
{axis}_scaled = Mul(centred, longer)
{axis}_middle = Mul({axis}_less, size)
{axis}_lift = Mul(longer, twice)
{axis}_position = Add({axis}_scaled, {axis}_middle)
{axis}_lifted = Add({axis}_position, {axis}_lift)
{axis}_lifted_first = Div({axis}_lifted, twice)
{axis}_lifted_floor = Mul({axis}_lifted_first, twice)
{axis}_share = Sub({axis}_lifted, {axis}_lifted_floor)
{axis}_rest = Sub(twice, {axis}_share)
{axis}_first_place = Sub({axis}_lifted_first, longer)
{axis}_second_place = Add({axis}_first_place, one)
{axis}_first_least = Max({axis}_first_place, zero)
{axis}_second_least = Max({axis}_second_place, zero)
{axis}_first = Min({axis}_first_least, {axis}_less)
{axis}_second = Min({axis}_second_least, {axis}_less)
{axis}_first_inside = Equal({axis}_first, {axis}_first_place)
{axis}_second_inside = Equal({axis}_second, {axis}_second_place)
{axis}_first_long = Where({axis}_first_inside, {axis}_rest, zero)
{axis}_second_long = Where({axis}_second_inside, {axis}_share, zero)
{axis}_first_weight = Cast<to=6>({axis}_first_long)
{axis}_second_weight = Cast<to=6>({axis}_second_long)
"""

# Runtimes multiply lines of `3 size` numbers much faster than pixels of three.
_WEIGHTS = """
{side}_pixel_weight = Unsqueeze(column_{tap}_weight, last_axis)
{side}_pixel_weights = Tile({side}_pixel_weight, by_channels)
{side}_weight = Reshape({side}_pixel_weights, minus_one)
"""

_BLENDED = """
{row}_strip = Gather<axis=1>(images, row_{row})
{row}_left_pixels = Gather<axis=2>({row}_strip, column_first)
{row}_right_pixels = Gather<axis=2>({row}_strip, column_second)
{row}_left_bytes = Reshape({row}_left_pixels, lines_shape)
{row}_right_bytes = Reshape({row}_right_pixels, lines_shape)
{row}_left = Cast<to=6>({row}_left_bytes)
{row}_right = Cast<to=6>({row}_right_bytes)
{row}_left_part = Mul({row}_left, left_weight)
{row}_right_part = Mul({row}_right, right_weight)
{row}_row = Add({row}_left_part, {row}_right_part)
{row}_row_weight = Unsqueeze(row_{row}_weight, last_axis)
{row}_part = Mul({row}_row, {row}_row_weight)
"""

_MATRIX = """
{axis}_end = Squeeze({axis}_{range})
{axis}_places = Range(zero_scalar, {axis}_end, one_scalar)
{axis}_doubled = Mul({axis}_places, two)
{axis}_next = Add({axis}_doubled, one)
{axis}_centred = Sub({axis}_next, {axis}_count)
{axis}_scaled = Mul({axis}_centred, size)
{axis}_raised = Add({axis}_scaled, middle)
{axis}_numerator = Cast<to=1>({axis}_raised)
{axis}_position = Div({axis}_numerator, denominator)
{axis}_shown = Clip({axis}_position, least, most)
{axis}_column = Unsqueeze({axis}_shown, minus_one)
{axis}_offset = Sub({axis}_column, grid)
{axis}_distance = Abs({axis}_offset)
{axis}_near = Sub(one_float, {axis}_distance)
{axis}_linear = Relu({axis}_near)
{axis}_matrix = MatMul({axis}_linear, resize)
"""


def _numbers(values) -> str:
    return "{" + ", ".join(map(str, values)) + "}"


def _model(opset: int, signature: str, initial: dict[str, str], lines: list[str]) -> str:
    constants = ", ".join(f"{name} = {value}" for name, value in initial.items())
    body = "\n".join(line for text in lines for line in text.strip().splitlines())
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    return f"{header}\n{signature}\n<{constants}>\n{{\n{body}\n}}\n"


def before(size: int, opset: int) -> str:
    """Returns the model from `images` uint8 `[B, H, W, 3]` to the network's input.

    Its outputs are `fitted` float32 `[B, size, size, 3]`, and `row_count` and `column_count` int64
    `[1]`, the photographs' height and width.
    """
    centred = range(1 - size, 1 + size, 2)
    initial = {
        f"int64[{size}] centred": _numbers(centred),
        "int64[1] zero": "{0}",
        "int64[1] one": "{1}",
        "int64[1] size": _numbers([size]),
        "int64[1] twice": _numbers([2 * size]),
        "int64[1] last_axis": "{1}",
        "int64[1] minus_one": "{-1}",
        "int64[2] by_channels": "{1, 3}",
        "int64[3] lines_shape": _numbers([-1, size, 3 * size]),
        "int64[4] fitted_shape": _numbers([-1, size, size, 3]),
        "int32[1] half": _numbers([2 * size**2]),
        "int32[1] all": _numbers([4 * size**2]),
    }
    lines = [
        "row_count = Shape<start=1, end=2>(images)",
        "column_count = Shape<start=2, end=3>(images)",
        "longer = Max(row_count, column_count)",
        _TAPS.format(axis="row"),
        _TAPS.format(axis="column"),
        _WEIGHTS.format(side="left", tap="first"),
        _WEIGHTS.format(side="right", tap="second"),
        _BLENDED.format(row="first"),
        _BLENDED.format(row="second"),
        "total = Add(first_part, second_part)",
        "raised = Add(total, half)",
        "levels = Div(raised, all)",
        "lines = Cast<to=1>(levels)",
        "fitted = Reshape(lines, fitted_shape)",
    ]
    signature = (
        f"before (uint8[B,H,W,3] images) => (float[B,{size},{size},3] fitted, int64[1] row_count, "
        "int64[1] column_count)"
    )
    return _model(opset, signature, initial, lines)


def behind(size: int, side: int, num_classes: int, opset: int, *, scores: bool) -> str:
    """Returns the model from `logits` float32 `[B, side, side, num_classes]` to the result.

    It also takes the counts that `before` gives, and `resize` float32 `[size, side]`. The result is
    `labels` uint8 `[B, H, W]` or `scores` float32 `[B, H, W, num_classes]`.
    """
    initial = {
        "int64 zero_scalar": "{0}",
        "int64 one_scalar": "{1}",
        "bool always": "{1}",
        "int64[1] one": "{1}",
        "int64[1] zero": "{0}",
        "int64[1] two": "{2}",
        "int64[1] minus_one": "{-1}",
        "int64[1] size": _numbers([size]),
        "int64[1] size_less": _numbers([size - 1]),
        "int64[1] side": _numbers([side]),
        "int64[1] strip": _numbers([STRIP_ROWS]),
        "int64[1] strip_less": _numbers([STRIP_ROWS - 1]),
        "int64[3] strips_shape": _numbers([-1, STRIP_ROWS, side]),
        "float least": "{0}",
        "float most": _numbers([size - 1]),
        "float one_float": "{1}",
        f"float[{size}] grid": _numbers(range(size)),
    }
    lines = [
        "longer = Max(row_count, column_count)",
        "middle = Mul(longer, size_less)",
        "longer_twice = Mul(longer, two)",
        "denominator = Cast<to=1>(longer_twice)",
        "planes = Transpose<perm=[0, 3, 1, 2]>(logits)",
        _MATRIX.format(axis="column", range="count"),
        "column_turned = Transpose<perm=[1, 0]>(column_matrix)",
        "columns = MatMul(planes, column_turned)",
    ]
    if scores:
        result = f"float[B,H,W,{num_classes}] scores"
        lines += [
            _MATRIX.format(axis="row", range="count"),
            "score_planes = MatMul(row_matrix, columns)",
            "scores = Transpose<perm=[0, 2, 3, 1]>(score_planes)",
        ]
    else:
        result = "uint8[B,H,W] labels"
        lines += [
            "row_reach = Add(row_count, strip_less)",
            "num_strips = Div(row_reach, strip)",
            "row_padded = Mul(num_strips, strip)",
            _MATRIX.format(axis="row", range="padded"),
            "strips = Reshape(row_matrix, strips_shape)",
            # Few of the logits' rows have a part in a strip: as many for each, to have one shape.
            "reach = ReduceMax<axes=[1], keepdims=0>(strips)",
            "reached = Sign(reach)",
            "first_reached = ArgMax<axis=1>(reached)",
            "last_reached = ArgMax<axis=1, select_last_index=1>(reached)",
            "further = Sub(last_reached, first_reached)",
            "furthest = ReduceMax<axes=[0], keepdims=0>(further)",
            "num_near = Add(furthest, one)",
            "latest = Sub(side, num_near)",
            "first_near = Min(first_reached, latest)",
            "trip_count = Squeeze(num_strips)",
            # `compose.add_prefix` leaves a loop's constants to itself, so that they are its own.
            # OpenVINO knows a loop that reads what is about it, but no such scan.
            f"""labelled = Loop<body = one_strip (int64 strip_index, bool going_on)
            => (bool still_going_on, uint8[B,{STRIP_ROWS},W] strip_labels) {{
            still_going_on = Identity(going_on)
            rows = Gather<axis=0>(strips, strip_index)
            first = Gather<axis=0>(first_near, strip_index)
            end = Add(first, num_near)
            row_axis = Constant<value_ints = [1]>()
            column_axis = Constant<value_ints = [2]>()
            near_rows = Slice(rows, first, end, row_axis)
            near_columns = Slice(columns, first, end, column_axis)
            strip_scores = MatMul(near_rows, near_columns)
            best = ArgMax<axis=1, keepdims=0>(strip_scores)
            strip_labels = Cast<to=2>(best)
            }}>(trip_count, always)""",
            "turned_labels = Transpose<perm=[1, 0, 2, 3]>(labelled)",
            "labelled_shape = Concat<axis=0>(zero, minus_one, column_count)",
            "padded_labels = Reshape(turned_labels, labelled_shape)",
            "labels = Slice(padded_labels, zero, row_count, one)",
        ]
    signature = (
        f"behind (float[B,{side},{side},{num_classes}] logits, int64[1] row_count, "
        f"int64[1] column_count, float[{size},{side}] resize) => ({result})"
    )
    return _model(opset, signature, initial, lines)
