"""The two resizes, level for level, whatever the layout the frames come in."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from hunyuan_foley_core.encoders.preprocess import _interleaved, normalise, siglip2_pixels, synchformer_pixels
from hunyuan_foley_core.errors import InputError

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"


def random_frames(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def from_decoder(frames):
    """The same frames stored pixel by pixel, as an array from a decoder is."""
    return torch.stack([frame.permute(1, 2, 0) for frame in frames]).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def pictures():
    return load_file(PARITY / "pictures.safetensors")


LAYOUTS = [torch.Tensor.contiguous, from_decoder, lambda x: x.contiguous(memory_format=torch.channels_last)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", [0, 1])
def test_pictures_match_the_reference_level_for_level(pictures, number, layout):
    picture = layout(pictures[f"picture_{number}"][None])
    assert torch.equal(siglip2_pixels(picture)[0, :, ::4, ::4], pictures[f"siglip2_u8_{number}_every_4th"])
    assert torch.equal(synchformer_pixels(picture)[0], pictures[f"synchformer_u8_{number}"])


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("height,width", [(90, 161), (301, 233), (224, 397), (640, 224), (1, 9), (700, 31)])
def test_layout_and_batch_change_nothing(height, width, number):
    frames = random_frames(number, 3, height, width)
    for resize in (siglip2_pixels, synchformer_pixels):
        whole = resize(frames)
        interleaved = resize(from_decoder(frames))
        assert whole.is_contiguous() and interleaved.is_contiguous()
        assert torch.equal(interleaved, whole)
        assert torch.equal(torch.cat([resize(frame[None]) for frame in frames]), whole)


def test_a_decoders_layout_takes_the_fast_path():
    """Guards the strides by which torch recognises interleaved pixels, for a single picture too."""
    single = random_frames(32, 48, 3).permute(2, 0, 1)[None]
    assert single.stride() != _interleaved(single).stride() == (32 * 48 * 3, 1, 48 * 3, 3)
    assert torch.equal(_interleaved(single), single)


def test_resizing_twice_changes_nothing():
    frames = random_frames(2, 3, 100, 180)
    for resize in (siglip2_pixels, synchformer_pixels):
        assert torch.equal(resize(resize(frames)), resize(frames))


@pytest.mark.parametrize("height,width", [(90, 160), (481, 640), (224, 225), (448, 454), (454, 448)])
def test_centre_crop_rounds_half_to_even(height, width):
    """Longer sides of 225 and 227 leave 0.5 and 1.5 on the left: 0 and 2 are cut, not 0 and 1."""
    frames = random_frames(1, 3, height, width)
    short, long = min(height, width), max(height, width)
    longer = int(224 * long / short)
    size = (224, longer) if height < width else (longer, 224)
    resized = F.interpolate(frames, size=size, mode="bicubic", antialias=True, align_corners=False)
    offset = int(round((longer - 224) / 2))
    expected = resized.narrow(3 if height < width else 2, offset, 224)
    assert torch.equal(synchformer_pixels(frames), expected)


def test_normalise_spans_minus_one_to_one_and_leaves_its_input():
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert torch.allclose(normalise(levels), torch.tensor([-1.0, -0.6, 1.0]))
    assert normalise(levels, torch.bfloat16).dtype == torch.bfloat16
    floats = levels.float()
    normalise(floats)
    assert torch.equal(floats, levels.float())


@pytest.mark.parametrize(
    "frames,named",
    [
        (torch.zeros(2, 3, 8, 8), "torch.float32"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), "[2, 8, 8, 3]"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "[3, 8, 8]"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), "[0, 3, 8, 8]"),
        ([1, 2], "list"),
    ],
)
def test_wrong_frames_are_named(frames, named):
    for resize in (siglip2_pixels, synchformer_pixels):
        with pytest.raises(InputError) as error:
            resize(frames)
        assert named in str(error.value)
