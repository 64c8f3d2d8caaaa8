"""Retake, extend and vary: what stays and what is new, with a codec that loses nothing and a model that makes noise."""

import pytest
import torch
from einops import rearrange

from hunyuan_foley_core import media
from hunyuan_foley_core.editing import Region, context, crossfade, extend, region_mask, retake, vary
from hunyuan_foley_core.errors import InputError


class PlainCodec:
    """A latent frame is its 960 samples."""

    def encode(self, waveform):
        waveform = torch.nn.functional.pad(waveform, (0, -waveform.shape[-1] % 960))
        return rearrange(waveform, "B 1 (L C) -> B C L", C=960)

    def decode(self, latents):
        return rearrange(latents, "B C L -> B 1 (L C)")


class Maker:
    """Keeps the latents outside of the mask and makes noise inside; remembers what it was asked."""

    def __init__(self, value=None):
        self.calls, self.value = [], value

    def __call__(self, latents, mask, first):
        self.calls.append((latents, mask, first))
        new = noise(*latents.shape, seed=99) if self.value is None else torch.full_like(latents, self.value)
        return new if mask is None else mask * new + (1 - mask) * latents


def noise(*shape, seed=0):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


STEREO = noise(1, 2, 44_100 * 3, seed=1)


def test_outside_of_the_region_every_sample_is_the_old_one():
    before = STEREO.clone()
    new = retake(STEREO, 44_100, Region(1.0, 2.0, 0.1), PlainCodec(), Maker())
    assert torch.equal(STEREO, before)
    assert new.shape == STEREO.shape and new.dtype == STEREO.dtype
    assert torch.equal(new[..., :44_100], STEREO[..., :44_100])
    assert torch.equal(new[..., 88_200:], STEREO[..., 88_200:])
    assert (new[..., 44_100:88_200] != STEREO[..., 44_100:88_200]).float().mean() > 0.99


def test_between_the_fades_the_sound_is_new_and_in_time():
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(3 * 48_000) / 48_000)[None, None]
    codec = PlainCodec()
    new = retake(
        STEREO, 44_100, Region(1.0, 2.0, 0.1), codec, lambda latents, mask, first: codec.encode(tone)
    )
    expected = media.resample(tone, 48_000, 44_100)[..., 50_000:80_000].expand(1, 2, -1)
    torch.testing.assert_close(new[..., 50_000:80_000], expected, atol=1e-4, rtol=0)


def test_a_long_sound_is_seen_in_part_from_where_a_segment_begins():
    make, long = Maker(), noise(1, 1, 8_000 * 40)
    new = retake(long, 8_000, Region(20.0, 21.5, 0.05), PlainCodec(), make)
    ((latents, mask, first),) = make.calls
    assert first % 16 == 0 and 400 <= latents.shape[-1] < 416
    seen = mask[0, 0].nonzero().flatten() + first
    assert (int(seen.min()), int(seen.max())) == (1000, 1074)
    changed = (new != long)[0, 0].nonzero()
    assert 160_000 <= int(changed.min()) < 160_010 and 171_990 < int(changed.max()) < 172_000


@pytest.mark.parametrize("region, total", [
    (Region(0, 1), 2000), (Region(39, 40), 2000), (Region(5, 25), 2000), (Region(0, 40), 2000), (Region(1, 2), 500),
])
def test_the_context_holds_the_region_and_as_much_as_there_is_around_it(region, total):
    first, frames = context(region, total)
    assert first % 16 == 0 and first + frames <= total
    assert first <= max(0, region.start * 50 - 100) and first + frames >= min(total, region.end * 50 + 100)
    assert frames == total or frames < max(400, (region.end - region.start) * 50 + 200) + 16


def test_the_mask_rises_and_falls_within_the_region():
    mask = region_mask(Region(1.0, 2.0, 0.1), 3.0, 0, 150)[0, 0]
    assert mask[:50].max() == 0 and mask[100:].max() == 0 and mask[55:95].min() == 1
    torch.testing.assert_close(mask[50:55], torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    torch.testing.assert_close(mask[95:100], mask[50:55].flip(0))


def test_there_are_no_fades_where_the_sound_itself_begins_or_ends():
    assert region_mask(Region(0.0, 3.0, 0.5), 3.0, 0, 150).min() == 1
    new = retake(STEREO, 44_100, Region(0.0, 3.0, 0.5), PlainCodec(), Maker(value=0.25))
    torch.testing.assert_close(new[..., 100:-100], torch.full_like(new, 0.25)[..., 100:-100], atol=1e-3, rtol=0)
    assert abs(float(new[0, 0, -1])) > 0.1  # up to the last sample


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_a_crossfade_keeps_the_level_however_alike_the_sounds_are(alike):
    old, other = noise(1, 200_000, seed=2), noise(1, 200_000, seed=3)
    faded = crossfade(old, alike * old + (1 - alike**2) ** 0.5 * other)
    levels = faded.reshape(20, -1).std(dim=1) / 0.1
    assert (levels - 1).abs().max() < 0.03
    torch.testing.assert_close(crossfade(old, old), old)


def test_a_longer_sound_begins_with_the_old_one():
    new = extend(STEREO, 44_100, 1.5, 0.1, PlainCodec(), Maker())
    assert new.shape == (1, 2, 44_100 * 4.5)
    kept = 44_100 * 3 - 4_410
    assert torch.equal(new[..., :kept], STEREO[..., :kept])
    assert new[..., -44_100:].std() > 0.05 and new[..., -10:].abs().min() > 0


def test_variation_covers_the_sound_and_no_more():
    make = Maker()
    assert vary(STEREO, 44_100, PlainCodec(), make).shape == (1, 1, 48_000 * 3)
    assert make.calls[0][1] is None and make.calls[0][0].shape[-1] == 150


def test_a_batch_is_edited_item_by_item():
    batch = torch.cat((STEREO, noise(1, 2, 44_100 * 3, seed=4)))
    together = retake(batch, 44_100, Region(1, 2), PlainCodec(), Maker(value=0.1))
    for index in range(2):
        alone = retake(batch[index : index + 1], 44_100, Region(1, 2), PlainCodec(), Maker(value=0.1))
        torch.testing.assert_close(together[index : index + 1], alone)


@pytest.mark.parametrize("region, message", [
    (Region(2.0, 1.0), "from 2 s to 1 s. Expected an end"),
    (Region(1.0, 1.01), "at least 0.04 s"),
    (Region(float("nan"), 1.0), "from nan s"),
    (Region(1.0, 3.5), "3.5 s, the sound is 3.000 s long"),
    (Region(5.0, 6.0), "the sound is 3.000 s long"),
    (Region(-1.0, 1.0), "inside the sound"),
    (Region(1.0, 2.0, 0.6), "fades of 0.6 s"),
    (Region(1.0, 2.0, -0.1), "fades of -0.1 s"),
])
def test_regions_that_cannot_be_made_are_refused_before_any_work(region, message):
    make = Maker()
    with pytest.raises(InputError, match=message):
        retake(STEREO, 44_100, region, PlainCodec(), make)
    assert make.calls == []


@pytest.mark.parametrize("seconds, fade, message", [
    (0.0, 0.1, "go on for 0 s"), (-1.0, 0.1, "go on for -1 s"), (float("inf"), 0.1, "go on for inf s"),
    (1.0, 3.0, "fade is 3 s"), (1.0, -1.0, "fade is -1 s"),
])
def test_extensions_that_cannot_be_made_are_refused(seconds, fade, message):
    with pytest.raises(InputError, match=message):
        extend(STEREO, 44_100, seconds, fade, PlainCodec(), Maker())
