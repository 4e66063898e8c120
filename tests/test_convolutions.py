"""Quick convolutions are torch's own to all but the clock."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data_utils import set_seed
from lab import convolutions
from lab.contract import Submission
from lab.conv_functions import FEW_CHANNELS, ConvGeometry, grad_weight_by_products
from lab.convolutions import use_fast_convolutions

pytestmark = pytest.mark.skipif(
    torch.cpu.get_capabilities().get("architecture") != "x86_64", reason="quick on x86-64 only"
)


def quick(model: nn.Module, viewed: torch.Tensor | None = None) -> nn.Module:
    """Return a quick copy of a model, which is kept to torch's usual order where it is viewed."""
    model = copy.deepcopy(model)
    trials = [] if viewed is None else [lambda: model(viewed).view(len(viewed), -1)]
    use_fast_convolutions(model, *trials)
    return model


def results(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the maps and the gradients of the input and of the layer's parameters."""
    x = x.clone().requires_grad_()
    maps = layer(x)
    set_seed(1)
    maps.mul(torch.randn(maps.shape, dtype=torch.float64)).sum().backward()
    return [maps.detach(), x.grad, *(p.grad for p in layer.parameters())]


@given(
    transposed=st.booleans(),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)).map(
        lambda n: (n[0] * 7, n[1] * 6 - 5)
    ),
    kernel=st.integers(1, 4),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    output_padding=st.integers(0, 2),
    bias=st.booleans(),
    viewed=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=60, deadline=None)
def test_same_maps_and_gradients(
    transposed, channels, kernel, stride, padding, dilation, output_padding, bias, viewed, dtype
):
    set_seed(0)
    how = {"stride": stride, "padding": padding, "dilation": dilation, "bias": bias}
    if transposed:
        how["output_padding"] = min(output_padding, max(dilation, min(stride)) - 1)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(*channels, kernel, **how).to(dtype)
    x = torch.randn(3, channels[0], 8, 7, dtype=dtype)
    quicker = quick(layer, x if viewed else None)
    assert type(quicker) is (convolutions.ConvTranspose2d if transposed else convolutions.Conv2d)
    if viewed:
        assert quicker(x).is_contiguous()
    near = {"rtol": 1e-3, "atol": 1e-3} if dtype is torch.float32 else {}
    for ours, torchs in zip(results(quicker, x), results(layer, x)):
        torch.testing.assert_close(ours, torchs, **near)


@pytest.mark.parametrize("groups, padding_mode, padding", [(2, "zeros", 1), (1, "reflect", "same")])
def test_what_is_left_to_torch(groups, padding_mode, padding):
    set_seed(0)
    layer = nn.Conv2d(4, 6, 3, padding=padding, groups=groups, padding_mode=padding_mode).double()
    x = torch.randn(3, 4, 8, 7, dtype=torch.float64)
    for ours, torchs in zip(results(quick(layer), x), results(layer, x)):
        torch.testing.assert_close(ours, torchs)
    one = x[0]  # a single image without a batch, which torch's layers take as well
    torch.testing.assert_close(quick(layer)(one), layer(one))
    up = nn.ConvTranspose2d(4, 2, 3, 2, 1).double()
    torch.testing.assert_close(quick(up)(x, output_size=[16, 14]), up(x, output_size=[16, 14]))


@given(
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    images=st.integers(1, 9),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
)
@settings(max_examples=40, deadline=None)
def test_a_weights_gradient_is_a_sum_of_products(channels, images, kernel, stride, padding):
    set_seed(0)
    weight = torch.randn(channels[1], channels[0], *kernel, dtype=torch.float64, requires_grad=True)
    x = torch.randn(images, channels[0], 7, 6, dtype=torch.float64)
    maps = nn.functional.conv2d(x, weight, None, stride, padding)
    grad_output = torch.randn_like(maps)
    maps.backward(grad_output)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab.conv_functions.COLUMN_BYTES", 10_000)  # several pieces
        geometry = ConvGeometry(stride, padding, dilation=(1, 1))
        ours = grad_weight_by_products(grad_output, x, kernel, geometry)
    torch.testing.assert_close(ours, weight.grad)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(FEW_CHANNELS, 2 * FEW_CHANNELS, 3, 2, 1),  # gradients by products
        nn.Conv2d(3, 5, 4, 2, 1),
        nn.ConvTranspose2d(2 * FEW_CHANNELS, FEW_CHANNELS, 3, 2, 1, 1),  # gradients by products
        nn.ConvTranspose2d(32, 1, 4, 2, 1),  # folded
        nn.ConvTranspose2d(32, 24, 3, 2, 1),  # no output padding
    ],
    ids=str,
)
def test_bf16_is_as_near_to_the_truth_as_torchs(layer):
    set_seed(0)
    x = torch.randn(40, layer.in_channels, 8, 8)
    truth = results(layer, x)
    for one in (layer, quicker := quick(layer)):
        one.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        torchs, ours = results(layer, x), results(quicker, x)
    for true, own, other in zip(truth, ours, torchs):
        assert own.dtype == other.dtype
        errors = [_size(values.double() - true.double()) for values in (own, other)]
        assert errors[0] <= 1.5 * errors[1] and errors[0] < 0.01 * _size(true.double())


def _size(values: torch.Tensor) -> torch.Tensor:
    return values.square().mean().sqrt()


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(3, 2, 3, 2, 1), nn.ConvTranspose2d(3, 2, 3, 2, 1), nn.ConvTranspose2d(5, 1, 2)],
    ids=str,
)
def test_gradients_of_gradients(layer):
    set_seed(0)
    layer = quick(layer.double())
    x = torch.randn(2, layer.in_channels, 4, 4, dtype=torch.float64, requires_grad=True)

    def maps(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradgradcheck(maps, (x, *layer.parameters()))


@pytest.mark.parametrize("viewed", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        *(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Identity()),
        *(nn.ConvTranspose2d(3, 2, 3), nn.ConvTranspose2d(3, 1, 1), nn.ConvTranspose2d(12, 1, 3)),
    ],
    ids=str,
)
def test_what_comes_next_may_work_in_place(layer, viewed):
    set_seed(0)
    channels = getattr(layer, "in_channels", 3)
    after = nn.LeakyReLU(0.2, inplace=True)
    model = nn.Sequential(nn.Conv2d(1, channels, 3), copy.deepcopy(layer), after).double()
    x = torch.randn(3, 1, 8, 7, dtype=torch.float64)
    for ours, torchs in zip(results(quick(model, x if viewed else None), x), results(model, x)):
        torch.testing.assert_close(ours, torchs)


def test_a_flattens_gradient_is_in_the_order_of_its_input():
    maps = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    orders = []
    maps.register_hook(lambda gradient: orders.append(gradient.stride()))
    layer = quick(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten()))[1]
    assert type(layer) is convolutions.Flatten
    values = torch.randn(2, 60)
    layer(maps).backward(values)
    assert orders == [maps.stride()]
    torch.testing.assert_close(maps.grad, values.view(2, 3, 4, 5))
    assert torch.equal(layer(maps), nn.Flatten()(maps))


def test_maps_are_activated_in_place_where_nobody_else_sees_them():
    set_seed(0)
    activation, x = nn.ELU(), torch.randn(2, 3, 6, 6)
    layers = nn.ConvTranspose2d(3, 4, 3), activation, activation, nn.Conv2d(4, 3, 3), activation
    usual = nn.Sequential(*layers)
    model = quick(usual)
    given = []  # whether each activation was told to work in place
    model[1].register_forward_pre_hook(lambda layer, _: given.append(layer.inplace))
    before = x.clone()
    with torch.no_grad():
        torch.testing.assert_close(model(x), usual(x))
        assert given == [True, False, True]
        assert torch.equal(x, before)
        assert not model[1].inplace
        seen = []
        model[0].register_forward_hook(lambda _, __, maps: seen.append(maps))
        model(x)
        torch.testing.assert_close(seen[0], usual[0](x))
        assert given[3:] == [False, False, True]
    model(x)
    assert given[6:] == [False] * 3, "a gradient may need the maps as they were"


def test_code_that_wants_the_usual_order_gets_it(tmp_path):
    text = (ROOT / "submission.py").read_text(encoding="utf-8")
    viewing = text.replace("            nn.Flatten(),  # (B, 3136)\n", "").replace(
        "self.image_to_features(x)", "self.image_to_features(x).view(len(x), -1)"
    )
    assert viewing.count(".view(len(x), -1)") == 2
    (tmp_path / "viewing.py").write_text(viewing, encoding="utf-8")
    reconstructions = []
    for path in (ROOT / "submission.py", tmp_path / "viewing.py"):
        set_seed(0)
        submission = Submission(path, "VAEwolabel", 20)
        use_fast_convolutions(submission.model, submission.try_encode, submission.try_decode)
        conv_last = path.name == "submission.py"
        lasts = {convolutions.Conv2d: conv_last, convolutions.ConvTranspose2d: True}
        for kind, last in lasts.items():
            layers = [layer for layer in submission.model.modules() if type(layer) is kind]
            assert [layer.channels_last for layer in layers] == [last, last]
        set_seed(1)
        x, labels = torch.rand(5, 1, 28, 28), torch.zeros(5, dtype=torch.int64)
        reconstructions.append(submission.decode(submission.encode(x, labels), labels))
    torch.testing.assert_close(*reconstructions)


def test_a_first_layer_and_maps_of_one_place_may_be_viewed():
    """Both are in either order to torch, which goes by the strides alone."""
    set_seed(0)
    x, z = torch.rand(3, 1, 28, 28), torch.randn(3, 5, 1, 1)
    for layer, values in ((nn.Conv2d(1, 4, 4, 2, 1), x), (nn.ConvTranspose2d(5, 4, 7), z)):
        quicker = quick(nn.Sequential(layer, nn.ReLU()), values)
        assert type(quicker[0]) is not type(layer)
        torch.testing.assert_close(quicker(values).view(3, -1), layer(values).relu().view(3, -1))


def test_torchs_own_layers_where_a_trial_fails_all_the_same():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())

    def trial() -> None:
        assert type(model[0]) is nn.Conv2d, "as torch.func asks for"

    use_fast_convolutions(model, trial)
    assert [type(layer) for layer in model] == [nn.Conv2d, nn.Flatten]
    use_fast_convolutions(
        nn.Sequential(nn.Flatten()), lambda: pytest.fail("there is nothing to try")
    )


def test_nothing_is_changed_where_it_was_not_measured(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "arm64"})
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    assert [type(layer) for layer in quick(model)] == [nn.Conv2d, nn.Flatten]


def test_a_student_sees_their_own_layers():
    model = nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(32, 1, kernel_size=4, stride=2, padding=1),
        nn.Flatten(),
    )
    fast = quick(model)
    assert [type(layer) for layer in fast.modules()] != [type(layer) for layer in model.modules()]
    assert str(fast) == str(model)
    assert "  (0): Conv2d(1, 32, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))\n" in str(fast)
    for changed, layer in zip(fast.modules(), model.modules()):
        assert isinstance(changed, type(layer))
        assert type(changed).__name__ == type(layer).__name__


def test_weights_stay_where_they_are():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 1, 3))
    parameters, state = list(model.parameters()), model.state_dict()
    use_fast_convolutions(model)
    assert all(after is before for after, before in zip(model.parameters(), parameters))
    assert list(model.state_dict()) == list(state)
    torchs = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 1, 3))
    torchs.load_state_dict(model.state_dict())


def test_a_deep_copy_is_as_fast_and_shares_no_weights():
    set_seed(0)
    x = torch.randn(2, 1, 8, 8)
    model = quick(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 1, 3)), x)
    copied = copy.deepcopy(model)
    for layer, original in zip(copied.modules(), model.modules()):
        assert type(layer) is type(original)
        assert getattr(layer, "channels_last", None) == getattr(original, "channels_last", None)
    assert torch.equal(copied(x), model(x))
    nn.init.zeros_(copied[0].weight)
    assert model[0].weight.any()
