"""8-bit AdamW against torch's AdamW, against its own second form, and against what its codes promise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gpt_kit.config import ModelConfig, TrainingConfig
from gpt_kit.data import Batch
from gpt_kit.model import GPTModel, linear
from gpt_kit.runtime import choose_precision
from gpt_kit.training import Optimizers, adamw_8bit, optimizer_step
from gpt_kit.training.adamw_8bit import BLOCK, AdamW8bit, decoded, encoded

CPU = torch.device("cpu")
SIZES = (1, 255, 256, 257, 5000, 70_000)


@pytest.fixture(params=["C", "torch"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both forms; the one in C where it can run."""
    if request.param == "C" and adamw_8bit._kernel(CPU) is None:
        pytest.skip("needs AVX-512 and a C compiler")
    if request.param == "torch":
        monkeypatch.setattr(adamw_8bit, "_kernel", lambda _: None)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters(seed: int = 0) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(size, generator=generator(seed + size))) for size in SIZES]


def settings() -> dict[str, object]:
    return {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("wide", [1e-6, 1.0])
@pytest.mark.parametrize("bf16", [False, True])
def test_twenty_updates_stay_close_to_adamws(bf16: bool, wide: float) -> None:
    """Gradients over many sizes, in blocks of every length: the path is AdamW's to a few percent of its length."""
    ours, theirs = parameters(), parameters()
    start = [parameter.detach().clone() for parameter in ours]
    eight = AdamW8bit([{"params": ours, "weight_decay": 0.1}], **settings())
    adamw = torch.optim.AdamW(theirs, weight_decay=0.1, **settings())
    for step in range(20):
        for own, other in zip(ours, theirs, strict=True):
            scale = torch.logspace(-3, 0, own.numel()) * wide
            gradient = (torch.randn(own.shape, generator=generator(step)) + 0.5) * scale
            rounded = gradient.bfloat16()
            own.grad_dtype = None
            own.grad, other.grad = (rounded, rounded.float()) if bf16 else (gradient, gradient.clone())
        eight.step()
        adamw.step()
    for own, other, first in zip(ours, theirs, start, strict=True):
        path = (other - first).detach()
        assert ((own - other).detach().norm() / path.norm()).item() < 0.05


@pytest.mark.usefixtures("kernel")
def test_the_first_update_is_adamws_to_rounding() -> None:
    """What is not stored yet is not rounded yet."""
    ours, theirs = parameters(), parameters()
    for own, other in zip(ours, theirs, strict=True):
        own.grad = torch.randn(own.shape, generator=generator(7))
        other.grad = own.grad.clone()
    AdamW8bit([{"params": ours, "weight_decay": 0.1}], **settings()).step()
    torch.optim.AdamW(theirs, weight_decay=0.1, **settings()).step()
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.detach(), other.detach(), rtol=1e-5, atol=1e-7)


def test_both_forms_read_each_others_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is taken to a machine without a compiler goes on: the same means, but for what chance rounds."""
    if adamw_8bit._kernel(CPU) is None:
        pytest.skip("needs AVX-512 and a C compiler")
    first, second = parameters(), parameters()
    in_c, in_torch = (AdamW8bit([{"params": each, "weight_decay": 0.0}], **settings()) for each in (first, second))
    for own, other in zip(first, second, strict=True):
        own.grad = torch.randn(own.shape, generator=generator(7))
        other.grad = own.grad.clone()
    in_c.step()
    with monkeypatch.context() as patch:
        patch.setattr(adamw_8bit, "_kernel", lambda _: None)
        in_torch.step()
    for own, other in zip(first, second, strict=True):
        left, right = in_c.state[own], in_torch.state[other]
        assert torch.equal(left["exponents"], right["exponents"])
        for name in ("exp_avg", "exp_avg_sq"):
            assert (left[name].int() - right[name].int()).abs().max() <= 1, name
        torch.testing.assert_close(own.detach(), other.detach(), rtol=1e-6, atol=1e-8)


def test_state_takes_two_bytes_a_number_and_two_a_block() -> None:
    parameter = nn.Parameter(torch.zeros(300, 512))
    state = AdamW8bit([{"params": [parameter], "weight_decay": 0.0}], **settings()).state[parameter]
    assert sum(tensor.nbytes for name, tensor in state.items() if name != "step") == 300 * 512 * 2 + 300 * 512 // BLOCK * 2


def test_codes_are_right_on_average_and_near_every_time() -> None:
    """Means down to 2^-16 of a block's largest within an eighth, below it zero or that; squares to 2^-32, and never zero."""
    sizes = torch.logspace(-7, 0, BLOCK, base=10)
    means = (sizes * torch.where(torch.arange(BLOCK) % 2 == 0, 1.0, -1.0)).expand(4000, BLOCK)
    squares = sizes.square().expand(4000, BLOCK)
    codes = encoded(means, squares, generator(1))
    back, back2 = decoded(*codes)
    reached, reached2 = sizes > 1.126 * 2.0**-15, sizes.square() > 1.126 * 2.0**-31
    assert ((back - means).abs() / means.abs())[:, reached].max() < 0.126
    assert ((back2 - squares).abs() / squares)[:, reached2].max() < 0.126
    assert (back2 > 0).all()
    error = (back.mean(0) - means[0]).abs() / (back.std(0) / 4000**0.5 + 1e-12)
    assert error[sizes < 0.9].max() < 5, "rounded up as often as it should be"
    assert ((back == 0) | (back.sign() == means.sign())).all()


@pytest.mark.usefixtures("kernel")
def test_a_mean_of_squares_follows_a_change_that_is_less_than_its_last_bit() -> None:
    """A step changes it by 1 / 1,000, a code by 1 / 16: rounded to the nearest it would stand still for ever."""
    parameter = nn.Parameter(torch.zeros(BLOCK * 16))
    eight = AdamW8bit([{"params": [parameter], "weight_decay": 0.0}], lr=0.0, betas=(0.9, 0.999))
    for step in range(1000):
        parameter.grad = torch.full_like(parameter, 10.0 if step == 0 else 1.0)
        eight.step()
    state = eight.state[parameter]
    means, squares = decoded(*(state[name].view(-1, BLOCK) for name in ("exp_avg", "exp_avg_sq")), state["exponents"])
    expected = 0.1 * 0.999**999 + 1 - 0.999**999
    assert squares.mean().item() == pytest.approx(expected, rel=0.02)
    assert means.mean().item() == pytest.approx(1.0, rel=0.02)


@pytest.mark.usefixtures("kernel")
def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads() -> None:
    results = []
    threads = torch.get_num_threads()
    for number in (1, 2):
        torch.set_num_threads(number)
        mine = parameters()
        eight = AdamW8bit([{"params": mine, "weight_decay": 0.1}], **settings(), seed=5)
        for step in range(3):
            for parameter in mine:
                parameter.grad = torch.randn(parameter.shape, generator=generator(step))
            eight.clip_gradients(1.0)
            eight.step()
        results.append([*mine, *(tensor for state in eight.state.values() for tensor in state.values())])
    torch.set_num_threads(threads)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


@pytest.mark.usefixtures("kernel")
def test_clipping_is_torchs_and_happens_in_the_step() -> None:
    for limit in (0.0, 0.5, 1e9):
        ours, theirs = parameters(), parameters()
        for own, other in zip(ours, theirs, strict=True):
            own.grad = torch.randn(own.shape, generator=generator(3))
            other.grad = own.grad.clone()
        eight = AdamW8bit([{"params": ours, "weight_decay": 0.0}], **{**settings(), "eps": 1.0})  # at which the size of gradients matters
        norm = eight.clip_gradients(limit)
        eight.step()
        expected = nn.utils.clip_grad_norm_(theirs, limit or float("inf"))
        torch.optim.AdamW(theirs, weight_decay=0.0, **{**settings(), "eps": 1.0}).step()
        assert norm.item() == pytest.approx(expected.item(), rel=1e-5)
        for own, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(own.detach(), other.detach(), rtol=1e-5, atol=1e-7)


@pytest.fixture
def all_layers_arranged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if these small weights were large ones."""
    monkeypatch.setattr(linear, "SMALL", 0)


def gradients(model: GPTModel, optimizer: str, batches: list[Batch]) -> dict[str, Tensor]:
    """After one step in bf16 with a learning rate of zero."""
    optimizers = Optimizers(model, TrainingConfig(optimizer=optimizer, learning_rate=0.0), CPU)
    precision = choose_precision("bf16", CPU)
    optimizer_step(model, optimizers, batches, max_grad_norm=0.0, precision=precision, device=CPU)
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.usefixtures("all_layers_arranged")
@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"norm": "post", "position_embedding": "rotary"}])
def test_gradients_in_bf16_are_those_of_autograd(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel], changes: dict[str, object]
) -> None:
    """Of one micro-batch: matrices in bf16 in a room of their own, vectors in float32, all within bf16's rounding."""
    ids = torch.randint(0, 61, (4, 12), generator=generator(1))
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
    model = random_model(tiny_config(**changes)).train()
    expected = {name: gradient.clone() for name, gradient in gradients(model, "adamw", [batch]).items()}
    for _ in range(2):  # the second time in the same room
        found = gradients(model, "adamw8bit", [batch])
        for name, gradient in found.items():
            layer = name.rsplit(".", 1)[0]
            assert gradient.dtype == (torch.float32 if gradient.ndim < 2 else torch.bfloat16), layer
            torch.testing.assert_close(
                gradient.float(), expected[name], rtol=2**-7, atol=2**-8 * expected[name].abs().max().item(), msg=name
            )


@pytest.mark.usefixtures("all_layers_arranged")
def test_several_micro_batches_are_added_up_in_float32(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    ids = torch.randint(0, 61, (4, 12), generator=generator(1))
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
    model = random_model(tiny_config()).train()
    expected = {name: gradient.clone() for name, gradient in gradients(model, "adamw", batch.split(1)).items()}
    found = gradients(model, "adamw8bit", batch.split(1))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.usefixtures("all_layers_arranged")
def test_a_room_taken_by_one_step_is_given_back_by_the_next(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    """One micro-batch, then several, then one again: never a gradient of another step."""
    ids = torch.randint(0, 61, (4, 12), generator=generator(1))
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
    model = random_model(tiny_config()).train()
    optimizers = Optimizers(model, TrainingConfig(optimizer="adamw8bit", learning_rate=0.0), CPU)
    norms = []
    for batches in ([batch], batch.split(2), [batch]):
        report = optimizer_step(model, optimizers, batches, max_grad_norm=0.0, precision=choose_precision("bf16", CPU), device=CPU)
        norms.append(report.grad_norm)
    assert norms[0] == norms[2] == pytest.approx(norms[1], rel=0.01)


@pytest.mark.usefixtures("all_layers_arranged")
def test_a_layer_that_is_used_twice_gets_the_sum_of_both_gradients() -> None:
    """The second use finds its place taken by the first one's gradient, and its rounded weight gone."""
    torch.manual_seed(0)
    layer = nn.Sequential(linear.Linear(48, 48))
    x, found = torch.randn(2, 5, 48), []
    for optimizer in ("adamw", "adamw8bit"):
        optimizers = Optimizers(layer, TrainingConfig(optimizer=optimizer), CPU)
        optimizers.zero_grad(rounded=True)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            layer(layer(x)).square().sum().backward()
        found.append(layer[0].weight.grad.float())
    assert ((found[1] - found[0]).norm() / found[0].norm()).item() < 0.01
