"""Priors of other projects: the original ADM's outputs from its own checkpoints, and clear refusals."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ddip_ray.errors import InputError
from ddip_ray.prior.catalog import find_prior
from ddip_ray.prior.formats.adm import adm_names, build_adm, from_adm, infer_adm, noise_estimator
from ddip_ray.prior.formats.ncsnpp import Ncsnpp, NcsnppConfig, Place, _Block, infer_ncsnpp
from ddip_ray.prior.load import load_prior

VARIANTS = list(itertools.product((True, False), (True, False), (True, False), (1, 2)))
STEPS = torch.tensor([3, 700])


def original(**changes: Any) -> nn.Module:
    """A small ADM with random weights, by its authors' own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it registers its autocast in an older way
        from guided_diffusion.unet import UNetModel
    settings = {
        "image_size": 32,
        "in_channels": 1,
        "model_channels": 32,
        "out_channels": 2,
        "num_res_blocks": 1,
        "attention_resolutions": (2,),
        "channel_mult": (1, 2, 2),
        "num_head_channels": 16,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
    }
    torch.manual_seed(0)
    network: nn.Module = UNetModel(**{**settings, **changes}).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # many are born zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize(("updown", "new_order", "scale_shift", "num_res_blocks"), VARIANTS)
def test_outputs_are_those_of_the_original(
    updown: bool, new_order: bool, scale_shift: bool, num_res_blocks: int
) -> None:
    network = original(
        resblock_updown=updown,
        use_new_attention_order=new_order,
        use_scale_shift_norm=scale_shift,
        num_res_blocks=num_res_blocks,
    )
    state = network.state_dict()
    config = infer_adm(state, 16, new_attention_order=new_order)
    assert config.channels == (32, 64, 64)
    assert config.attention == (False, True, False)
    assert (config.num_res_blocks, config.resblock_updown) == (num_res_blocks, updown)
    ours = build_adm(noise_estimator(config)).eval()
    ours.load_state_dict(from_adm(state, config))
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, STEPS).sample, network(x, STEPS)[:, :1], atol=2e-5, rtol=1e-4)


def test_every_module_of_the_original_has_a_place_and_no_more() -> None:
    network = original(attention_resolutions=(1, 4))
    config = infer_adm(network.state_dict(), 16)
    assert config.attention == (True, False, True)
    modules = {name.rpartition(".")[0] for name in network.state_dict()}
    unused = set(adm_names(config)) - modules
    assert modules <= set(adm_names(config))
    assert all(name.endswith("skip_connection") for name in unused)  # where the width does not change


def wrapped(state: dict[str, torch.Tensor], how: str) -> object:
    match how:
        case "EMA":  # ema_pytorch's own state: the averaged network and the one in training, side by side
            online = {f"online_model.{k}": torch.zeros_like(v) for k, v in state.items()}
            return {**{f"ema_model.{k}": v for k, v in state.items()}, **online, "step": torch.tensor(5)}
        case "entry":
            return {"state_dict": state, "epoch": 3}
        case "parallel":
            return {f"module.{k}": v for k, v in state.items()}
    return state


@pytest.mark.parametrize("how", ["bare", "EMA", "entry", "parallel"])
def test_a_checkpoint_becomes_a_prior(tmp_path: Path, how: str) -> None:
    network = original()
    path = tmp_path / "model.pt"
    torch.save(wrapped(network.state_dict(), how), path)
    (tmp_path / "model.yml").write_text(
        "model: {num_head_channels: 16}\ndiffusion: {beta_end: 0.01}\nimage_range: [0, 1]\n"
    )
    prior = load_prior(find_prior(str(path)))
    assert prior.image_range == (0.0, 1.0)
    assert prior.schedule.at(999) > 1e-3  # 4e-5 with the usual schedule
    x_t = torch.randn(2, 30, 32)  # padded to a multiple of 4, and cropped again
    x0_hat, eps_hat = prior.denoise(x_t, 300)
    assert x0_hat.shape == x_t.shape
    with torch.no_grad():
        whole = torch.randn(1, 1, 32, 32)
        expected = network(whole, torch.tensor([300]))[0, 0]
        torch.testing.assert_close(prior.denoise(whole[0], 300)[1][0], expected, atol=2e-5, rtol=1e-4)
    alpha_bar = prior.schedule.at(300)
    torch.testing.assert_close(alpha_bar**0.5 * x0_hat + (1 - alpha_bar) ** 0.5 * eps_hat, x_t)


NAMELESS = (
    "model: {num_channels: 32, num_res_blocks: 1, image_size: 32, attention_resolutions: '16', "
    "channel_mult: '1,2,2', num_heads: 4, num_head_channels: 16, learn_sigma: true}"
)


def test_averages_without_names(tmp_path: Path) -> None:
    """D3IP's ellipses: no more than a list of tensors, in the order of the parameters."""
    network, path = original(), tmp_path / "ellipses_ema.pt"
    shadow = [p.detach().clone() for p in network.parameters()]
    torch.save({"decay": 0.999, "num_updates": 9, "shadow_params": shadow}, path)
    with pytest.raises(InputError, match=r"ellipses_ema\.pt: its averaged weights .* have no names"):
        load_prior(path)
    path.with_suffix(".yml").write_text(NAMELESS)
    whole = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        expected = network(whole, torch.tensor([300]))[0, 0]
    torch.testing.assert_close(load_prior(path).denoise(whole[0], 300)[1][0], expected, atol=2e-5, rtol=1e-4)
    path.with_suffix(".yml").write_text(NAMELESS.replace("1,2,2", "1,2"))
    with pytest.raises(InputError, match=r"are \d+ tensors, the network has \d+"):
        load_prior(path)


def test_images_of_another_project_are_from_0_to_1(tmp_path: Path) -> None:
    """Without a word in a file beside it: SCD and D3IP train on images as they are, air 0."""
    path = tmp_path / "model.pt"
    torch.save(original().state_dict(), path)
    assert load_prior(path).image_range == (0.0, 1.0)


def test_heads_by_their_number(tmp_path: Path) -> None:
    network = original(num_head_channels=-1, num_heads=4, num_heads_upsample=-1)
    path = tmp_path / "model.pt"
    torch.save(network.state_dict(), path)
    path.with_suffix(".yml").write_text("model: {num_heads: 4, num_head_channels: -1}")
    whole = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        expected = network(whole, torch.tensor([300]))[0, 0]
    torch.testing.assert_close(load_prior(path).denoise(whole[0], 300)[1][0], expected, atol=2e-5, rtol=1e-4)
    torch.save(original(attention_resolutions=(1,)).state_dict(), path)
    with pytest.raises(InputError, match=r"num_heads 4 makes heads of 8, 16 channels"):
        load_prior(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "cannot be read as YAML"),
        ("- 1", "does not describe a prior"),
        ("model: {num_head_channels: many}", r"model\.num_head_channels: .*found 'many'"),
        ("diffusion: {beta_schedule: cosine}", r"diffusion\.beta_schedule: .*found 'cosine'"),
        ("image_range: 5", r"image_range: .*found 5"),
        ("image_range: [1, 0]", r"expected \[low, high\]"),
    ],
)
def test_a_file_beside_a_checkpoint_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(original().state_dict(), path)
    path.with_suffix(".yml").write_text(text)
    with pytest.raises(InputError, match=rf"model\.yml: [\s\S]*{message}"):
        load_prior(path)


@pytest.mark.parametrize("text", ["", "model:\ndiffusion:\n"])
def test_a_file_beside_a_checkpoint_may_be_empty(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(original().state_dict(), path)
    path.with_suffix(".yml").write_text(text)
    assert load_prior(path).schedule.num_train_timesteps == 1000


def test_a_checkpoint_that_would_execute_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(nn.Linear(2, 2), path)  # the module itself, as some save it
    with pytest.raises(InputError, match=r"model\.pth: it holds more than tensors"):
        load_prior(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(3)}, "output_blocks' is missing"),
        ([torch.zeros(3)], "expected a state dict of tensors, found list"),
        ({"label_emb.weight": torch.zeros(3)}, "class-conditional"),
        ({"all_modules.0.W": torch.zeros(4), "all_modules.3.weight": torch.zeros(4)}, "do not fit|of a kind"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=message):
        load_prior(path)


@pytest.mark.parametrize("name", ["out.2.bias", "middle_block.1.qkv.bias", "time_embed.0.weight"])
def test_a_missing_weight_is_named(tmp_path: Path, name: str) -> None:
    path, state = tmp_path / "model.pt", original().state_dict()
    del state[name]
    torch.save(state, path)
    path.with_suffix(".yml").write_text("model: {num_head_channels: 16}")
    with pytest.raises(InputError, match="the weights do not fit"):
        load_prior(path)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(original().state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot be read as a PyTorch checkpoint"):
        load_prior(path)


def test_colour_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    colour = tmp_path / "colour.pt"
    torch.save(original(in_channels=3, out_channels=6).state_dict(), colour)
    (tmp_path / "colour.yaml").write_text("model: {num_head_channels: 16}\n")
    with pytest.raises(InputError, match="expected a network for 1 channel, or 2, found 3"):
        load_prior(colour)
    foreign = tmp_path / "foreign.pt"
    torch.save({**original().state_dict(), "extra.weight": torch.zeros(2)}, foreign)
    with pytest.raises(InputError, match=r"extra\.weight has no place"):
        load_prior(foreign)


NCSNPP = {
    "published": NcsnppConfig(16, (1, 2, 2), 2, (False, True, False), residual_input=True),
    "attention at the ends": NcsnppConfig(16, (1, 2), 1, (True, True), residual_input=True),
    "plain input": NcsnppConfig(16, (1, 1, 2), 1, (False, False, True), residual_input=False),
}


def score_network(name: str) -> Ncsnpp:
    torch.manual_seed(1)
    return Ncsnpp(NCSNPP[name]).eval()


@pytest.mark.parametrize("name", NCSNPP)
def test_an_ncsnpp_in_score_sdes_format_comes_back(tmp_path: Path, name: str) -> None:
    """A file as score_sde saves it: parallel names, averages as a list, the optimiser, the step."""
    network = score_network(name)
    assert infer_ncsnpp(network.state_dict()) == NCSNPP[name]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    saved = {
        "model": {f"module.{k}": 0 * v for k, v in network.state_dict().items()}
        | {"module.all_modules.0.W": network.state_dict()["all_modules.0.W"], "module.sigmas": torch.ones(5)},
        "ema": {"decay": 0.999, "num_updates": 7, "shadow_params": [p.detach().clone() for p in trained]},
        "optimizer": torch.optim.Adam(trained).state_dict(),
        "step": 1,
    }
    path = tmp_path / "checkpoint.pth"
    torch.save(saved, path)
    prior = load_prior(path)
    x_t = torch.rand(2, 16, 24)
    x0_hat, eps_hat = prior.denoise(x_t, 250)
    alpha_bar = prior.schedule.at(250)
    sigma = ((1 - alpha_bar) / alpha_bar) ** 0.5
    with torch.no_grad():
        score = network(x_t[:, None] / alpha_bar**0.5, torch.full((2,), sigma)).sample[:, 0]
    torch.testing.assert_close(eps_hat, -sigma * score)
    torch.testing.assert_close(x0_hat, x_t / alpha_bar**0.5 + sigma**2 * score, atol=1e-4, rtol=1e-4)
    assert prior.image_range == (0.0, 1.0)


def test_ncsnpp_resampling_is_its_definition() -> None:
    """Zeros in between, a 4 x 4 filter of 1, 3, 3, 1 around each pixel, and every other one left out."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    x = torch.rand(1, 1, 6, 6)
    block = _Block(Place("down", 16, 16), 8)
    down, padded = block.resampled(x), nn.functional.pad(x, (1, 1, 1, 1))[0, 0]
    for i, j in itertools.product(range(3), range(3)):
        window = padded[2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
        assert float(down[0, 0, i, j]) == pytest.approx(float(taps @ window @ taps), rel=1e-5)
    up = _Block(Place("up", 16, 16), 8).resampled(torch.ones(1, 1, 6, 6))
    assert up.shape == (1, 1, 12, 12)
    torch.testing.assert_close(up[..., 2:-2, 2:-2], torch.ones(1, 1, 8, 8))


def test_an_adapter_fits_an_ncsnpp_and_an_adm(tmp_path: Path) -> None:
    from ddip_ray.adaptation.lora import Adapter, LoraConfig

    adm = tmp_path / "adm.pt"
    torch.save(original().state_dict(), adm)
    (tmp_path / "adm.yaml").write_text("model: {num_head_channels: 16}")
    score = tmp_path / "score.pth"
    torch.save(score_network("published").state_dict(), score)
    for path in (adm, score):
        prior = load_prior(path)
        adapter = Adapter.create(prior.network, LoraConfig(rank=2), seed=0)
        adapter.add(0.1 * torch.ones(adapter.num_parameters()))
        x_t = torch.rand(1, 16, 16)
        adapted, _ = prior.denoise(x_t, 100, adapter.bind(prior.network))
        assert not torch.equal(adapted, prior.denoise(x_t, 100)[0])


def test_an_ncsnpp_of_another_kind_is_refused(tmp_path: Path) -> None:
    state = score_network("published").state_dict()
    del state[next(name for name in state if name.endswith("NIN_0.W"))]
    path = tmp_path / "score.pth"
    torch.save(state, path)
    with pytest.raises(InputError, match=r"score\.pth: (an NCSN\+\+ of a kind|the weights do not fit)"):
        load_prior(path)


def test_info_says_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ddip_ray_cli.main import main

    path = tmp_path / "score.pth"
    torch.save(score_network("published").state_dict(), path)
    assert main(["prior", "info", str(path)]) == 0
    words = capsys.readouterr().out
    assert "Ncsnpp" in words
    assert "0 to 1" in words
    assert "assumed" not in words
    torch.save(original().state_dict(), path)
    assert main(["prior", "info", str(path)]) == 0
    assert "heads of attention 64 channels wide" in capsys.readouterr().out
