"""Random samples with predictions, for properties."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gensegcli.records import PixelBox, RefusalKind
from tests.metrics.oracle import Case


@st.composite
def boxes(draw: st.DrawFn) -> PixelBox:
    x, y = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    return PixelBox(float(x), float(y), float(x + draw(st.integers(1, 6))), float(y + draw(st.integers(1, 6))))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any number of objects on either side; masks may be empty, may overlap, may stand beside a flag or a refusal."""
    size = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    masks = arrays(bool, (size[1], size[0]))
    true, predicted = draw(st.lists(masks, max_size=3)), draw(st.lists(masks, max_size=3))
    if true and draw(st.booleans()):
        predicted = [*true]
    refusal = draw(st.none() | st.none() | st.sampled_from(RefusalKind))
    return Case(
        size=size,
        true=true,
        predicted=predicted,
        true_boxes=[draw(boxes()) for _ in true],
        predicted_boxes=[draw(boxes()) for _ in predicted],
        ignore=draw(st.none() | masks),
        abstained=refusal is None and draw(st.booleans()),
        refusal=refusal,
    )
