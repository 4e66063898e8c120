"""The fast convolutions compute what torch's own layers compute, up to rounding."""

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
from lab.conv_functions import FEW_CHANNELS, ConvGeometry, grad_weight_by_products
from lab.convolutions import use_fast_convolutions
from lab.split_model import Submission

pytestmark = pytest.mark.skipif(
    torch.cpu.get_capabilities().get("architecture") != "x86_64",
    reason="fast layers are for x86-64",
)


def fast_copy(model: nn.Module, view_input: torch.Tensor | None = None) -> nn.Module:
    """Return a copy of a model with fast layers.

    With view_input, a trial calls `view` on the output for that input, so that the last layers
    keep torch's default memory format.
    """
    model = copy.deepcopy(model)
    trials = []
    if view_input is not None:
        trials = [lambda: model(view_input).view(len(view_input), -1)]
    use_fast_convolutions(model, *trials)
    return model


def results(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the output and the gradients of the input and of the parameters."""
    x = x.clone().requires_grad_()
    output = layer(x)
    set_seed(1)
    output.mul(torch.randn(output.shape, dtype=torch.float64)).sum().backward()
    return [output.detach(), x.grad, *(p.grad for p in layer.parameters())]


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
    with_view=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=60)
def test_outputs_and_gradients_equal_torchs(
    transposed, channels, kernel, stride, padding, dilation, output_padding, bias, with_view, dtype
):
    set_seed(0)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "bias": bias}
    if transposed:
        options["output_padding"] = min(output_padding, max(dilation, min(stride)) - 1)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(*channels, kernel, **options).to(dtype)
    x = torch.randn(3, channels[0], 8, 7, dtype=dtype)
    fast = fast_copy(layer, x if with_view else None)
    assert type(fast) is (convolutions.ConvTranspose2d if transposed else convolutions.Conv2d)
    if with_view:
        assert fast(x).is_contiguous()
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if dtype is torch.float32 else {}
    for actual, expected in zip(results(fast, x), results(layer, x)):
        torch.testing.assert_close(actual, expected, **tolerance)


@pytest.mark.parametrize("groups, padding_mode, padding", [(2, "zeros", 1), (1, "reflect", "same")])
def test_unsupported_layers_use_torchs_forward(groups, padding_mode, padding):
    set_seed(0)
    layer = nn.Conv2d(4, 6, 3, padding=padding, groups=groups, padding_mode=padding_mode).double()
    x = torch.randn(3, 4, 8, 7, dtype=torch.float64)
    for actual, expected in zip(results(fast_copy(layer), x), results(layer, x)):
        torch.testing.assert_close(actual, expected)
    image = x[0]  # without a batch dimension, which torch's layers also accept
    torch.testing.assert_close(fast_copy(layer)(image), layer(image))
    up = nn.ConvTranspose2d(4, 2, 3, 2, 1).double()
    torch.testing.assert_close(fast_copy(up)(x, output_size=[16, 14]), up(x, output_size=[16, 14]))


@given(
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    images=st.integers(1, 9),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
)
@settings(max_examples=40)
def test_grad_weight_by_products_equals_torchs(channels, images, kernel, stride, padding):
    set_seed(0)
    weight = torch.randn(channels[1], channels[0], *kernel, dtype=torch.float64, requires_grad=True)
    x = torch.randn(images, channels[0], 7, 6, dtype=torch.float64)
    output = nn.functional.conv2d(x, weight, None, stride, padding)
    grad_output = torch.randn_like(output)
    output.backward(grad_output)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab.conv_functions.COLUMN_BYTES", 10_000)  # several chunks
        geometry = ConvGeometry(stride, padding, dilation=(1, 1))
        grad_weight = grad_weight_by_products(grad_output, x, kernel, geometry)
    torch.testing.assert_close(grad_weight, weight.grad)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(FEW_CHANNELS, 2 * FEW_CHANNELS, 3, 2, 1),  # grad_weight by products
        nn.Conv2d(3, 5, 4, 2, 1),
        nn.ConvTranspose2d(2 * FEW_CHANNELS, FEW_CHANNELS, 3, 2, 1, 1),  # grad_weight by products
        nn.ConvTranspose2d(32, 1, 4, 2, 1),  # forward by a product
        nn.ConvTranspose2d(32, 24, 3, 2, 1),  # no output padding
    ],
    ids=str,
)
def test_bf16_is_as_accurate_as_torchs(layer):
    set_seed(0)
    x = torch.randn(40, layer.in_channels, 8, 8)
    in_fp32 = results(layer, x)
    fast = fast_copy(layer)
    layer.zero_grad()
    fast.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        torchs, ours = results(layer, x), results(fast, x)
    for exact, our, their in zip(in_fp32, ours, torchs):
        assert our.dtype == their.dtype
        our_error, their_error = (_rms(v.double() - exact.double()) for v in (our, their))
        assert our_error <= 1.5 * their_error and our_error < 0.01 * _rms(exact.double())


def _rms(values: torch.Tensor) -> torch.Tensor:
    """Return the root mean square."""
    return values.square().mean().sqrt()


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(3, 2, 3, 2, 1), nn.ConvTranspose2d(3, 2, 3, 2, 1), nn.ConvTranspose2d(5, 1, 2)],
    ids=str,
)
def test_second_derivatives(layer):
    set_seed(0)
    layer = fast_copy(layer.double())
    x = torch.randn(2, layer.in_channels, 4, 4, dtype=torch.float64, requires_grad=True)

    def output(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradgradcheck(output, (x, *layer.parameters()))


@pytest.mark.parametrize("with_view", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        *(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Identity()),
        *(nn.ConvTranspose2d(3, 2, 3), nn.ConvTranspose2d(3, 1, 1), nn.ConvTranspose2d(12, 1, 3)),
    ],
    ids=str,
)
def test_the_next_layer_may_work_in_place(layer, with_view):
    set_seed(0)
    channels = getattr(layer, "in_channels", 3)
    after = nn.LeakyReLU(0.2, inplace=True)
    model = nn.Sequential(nn.Conv2d(1, channels, 3), copy.deepcopy(layer), after).double()
    x = torch.randn(3, 1, 8, 7, dtype=torch.float64)
    fast = fast_copy(model, x if with_view else None)
    for actual, expected in zip(results(fast, x), results(model, x)):
        torch.testing.assert_close(actual, expected)


def test_the_gradient_of_flatten_has_the_memory_format_of_its_input():
    maps = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    strides = []
    maps.register_hook(lambda grad: strides.append(grad.stride()))
    layer = fast_copy(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten()))[1]
    assert type(layer) is convolutions.Flatten
    values = torch.randn(2, 60)
    layer(maps).backward(values)
    assert strides == [maps.stride()]
    torch.testing.assert_close(maps.grad, values.view(2, 3, 4, 5))
    assert torch.equal(layer(maps), nn.Flatten()(maps))


def test_sequential_activates_in_place_only_where_nothing_else_sees_the_values():
    set_seed(0)
    activation, x = nn.ELU(), torch.randn(2, 3, 6, 6)
    layers = nn.ConvTranspose2d(3, 4, 3), activation, activation, nn.Conv2d(4, 3, 3), activation
    original = nn.Sequential(*layers)
    model = fast_copy(original)
    inplace = []  # of each call of an activation
    model[1].register_forward_pre_hook(lambda layer, _: inplace.append(layer.inplace))
    before = x.clone()
    with torch.no_grad():
        torch.testing.assert_close(model(x), original(x))
        assert inplace == [True, False, True]
        assert torch.equal(x, before)
        assert not model[1].inplace
        seen = []
        model[0].register_forward_hook(lambda _, __, output: seen.append(output))
        model(x)
        torch.testing.assert_close(seen[0], original[0](x))
        assert inplace[3:] == [False, False, True]
    model(x)
    assert inplace[6:] == [False] * 3, "a gradient may need the values before the activation"


def test_code_that_calls_view_gets_the_default_memory_format(tmp_path):
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
        flattens = path.name == "submission.py"  # the other one calls view after the encoder
        expected = {convolutions.Conv2d: flattens, convolutions.ConvTranspose2d: True}
        for layer_class, channels_last in expected.items():
            layers = [layer for layer in submission.model.modules() if type(layer) is layer_class]
            assert [layer.channels_last for layer in layers] == [channels_last, channels_last]
        set_seed(1)
        x, labels = torch.rand(5, 1, 28, 28), torch.zeros(5, dtype=torch.int64)
        reconstructions.append(submission.decode(submission.encode(x, labels), labels))
    torch.testing.assert_close(*reconstructions)


def test_view_works_after_an_input_of_one_channel_or_one_pixel():
    """Such an input is in both memory formats at once, so it does not decide the output's."""
    set_seed(0)
    x, z = torch.rand(3, 1, 28, 28), torch.randn(3, 5, 1, 1)
    for layer, values in ((nn.Conv2d(1, 4, 4, 2, 1), x), (nn.ConvTranspose2d(5, 4, 7), z)):
        fast = fast_copy(nn.Sequential(layer, nn.ReLU()), values)
        assert type(fast[0]) is not type(layer)
        torch.testing.assert_close(fast(values).view(3, -1), layer(values).relu().view(3, -1))


def test_a_model_whose_trial_keeps_failing_gets_torchs_layers_back():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())

    def trial() -> None:
        assert type(model[0]) is nn.Conv2d, "this model accepts torch's class only"

    use_fast_convolutions(model, trial)
    assert [type(layer) for layer in model] == [nn.Conv2d, nn.Flatten]
    use_fast_convolutions(
        nn.Sequential(nn.Flatten()), lambda: pytest.fail("there is no convolution to try")
    )


def test_other_cpus_keep_torchs_layers(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "arm64"})
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    assert [type(layer) for layer in fast_copy(model)] == [nn.Conv2d, nn.Flatten]


def test_a_student_sees_their_own_layers():
    model = nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(32, 1, kernel_size=4, stride=2, padding=1),
        nn.Flatten(),
    )
    fast = fast_copy(model)
    assert [type(layer) for layer in fast.modules()] != [type(layer) for layer in model.modules()]
    assert str(fast) == str(model)
    assert "  (0): Conv2d(1, 32, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))\n" in str(fast)
    for fast_layer, layer in zip(fast.modules(), model.modules()):
        assert isinstance(fast_layer, type(layer))
        assert type(fast_layer).__name__ == type(layer).__name__


def test_parameters_and_state_dict_are_unchanged():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 1, 3))
    parameters, state = list(model.parameters()), model.state_dict()
    use_fast_convolutions(model)
    assert all(after is before for after, before in zip(model.parameters(), parameters))
    assert list(model.state_dict()) == list(state)
    torchs = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 1, 3))
    torchs.load_state_dict(model.state_dict())


def test_deepcopy_keeps_the_fast_layers_and_shares_no_weights():
    set_seed(0)
    x = torch.randn(2, 1, 8, 8)
    model = fast_copy(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 2, 3)), x)
    assert not model[1].channels_last, "the trial calls view"
    copied = copy.deepcopy(model)
    for layer, original in zip(copied.modules(), model.modules()):
        assert type(layer) is type(original)
        assert getattr(layer, "channels_last", None) == getattr(original, "channels_last", None)
    assert torch.equal(copied(x), model(x))
    nn.init.zeros_(copied[0].weight)
    assert model[0].weight.any()


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 2, "padding": 2},
        {"kernel_size": 3, "dilation": 2},
    ],
)
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_unusual_kernels_use_torchs_default_memory_format(kind, options):
    """In channels-last, oneDNN writes outside its memory for some of them."""
    layer = kind(8, 16, **options)
    x = torch.randn(3, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    output = fast_copy(layer)(x)
    assert output.is_contiguous()
    torch.testing.assert_close(output, layer(x.contiguous()))
