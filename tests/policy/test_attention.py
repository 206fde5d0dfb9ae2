"""Attention over shared heads is transformers' own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
sdpa = pytest.importorskip("transformers.integrations.sdpa_attention")

from gensegcli.policy.attention import _attend  # noqa: E402


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    ("device", "queries"), [("cpu", 1), ("cpu", 5), pytest.param("cuda", 1, marks=pytest.mark.gpu)]
)
def test_as_with_keys_written_out_for_each_head(device: str, masked: bool, queries: int) -> None:
    """Six query heads on three; keys are a view of a larger buffer, as the cache's are."""
    torch.manual_seed(0)
    query = torch.randn(2, 6, queries, 32, device=device)
    key, value = (torch.randn(2, 3, 40, 32, device=device)[:, :, :9] for _ in range(2))
    mask = torch.rand(2, 1, queries, 9, device=device) > 0.3 if masked else None
    if masked:
        mask[..., 0] = True
    module = SimpleNamespace(num_key_value_groups=2, is_causal=True)
    expected, _ = sdpa.sdpa_attention_forward(module, query, key, value, mask, scaling=0.2)
    found, _ = _attend(module, query, key, value, mask, scaling=0.2)
    assert found.shape == expected.shape == (2, queries, 6, 32)
    assert torch.allclose(found, expected, atol=1e-5)
