"""Scenes: their times, and that each is encoded as a clip of its own."""

import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from hunyuan_foley_core import checkpoint, media, small_model
from hunyuan_foley_core.conditions import VideoFeatures, encode_scenes, encode_video, filled
from hunyuan_foley_core.errors import FoleyError, InputError, MediaError
from hunyuan_foley_core.pipeline import find_model_files, load_video_encoders
from hunyuan_foley_core.scenes import CROSSFADE, decode_scenes, detect_cuts, kept_cuts, parse_cuts
from hunyuan_foley_core.timing import ClipTiming
from tests import videos


@pytest.mark.parametrize("text, cuts", [
    ("0:03.2, 0:11", [3.2, 11.0]), ("0:11\n 0:03.2;1:00:00", [3.2, 11.0, 3600.0]), ("", []),
])
def test_cuts_are_read_and_sorted(text, cuts):
    assert parse_cuts(text) == cuts


def test_what_is_no_time_is_pointed_at():
    with pytest.raises(InputError, match="Number 2 of the cuts is `11`. Expected a time as m:ss"):
        parse_cuts("0:03, 11")


@pytest.mark.parametrize("cuts, seconds, kept", [
    ([3.0, 6.0], 9.0, [3.0, 6.0]),
    ([0.5, 3.0], 9.0, [3.0]),  # the first is too short and joins the second
    ([3.0, 3.5, 3.9, 4.2], 9.0, [3.0, 4.2]),
    ([6.0, 3.0, 8.5], 9.0, [3.0, 6.0]),  # the last is too short and joins the one before
    ([3.0, 8.5], None, [3.0, 8.5]),
    ([0.4], 1.3, []),
])
def test_no_scene_is_shorter_than_a_second(cuts, seconds, kept):
    assert kept_cuts(cuts, seconds) == kept


def test_a_cut_behind_the_end_is_refused():
    with pytest.raises(InputError, match="There is a cut at 0:12, and the video ends at 0:09"):
        kept_cuts([3.0, 12.0], 9.0)


def test_cuts_behind_what_is_watched_are_left_out():
    assert kept_cuts([3.0, 6.0], 9.0, 4.5) == kept_cuts([3.0, 6.0], None, 4.5) == [3.0]
    assert kept_cuts([3.0, 6.0], 9.0, 3.5) == []
    assert kept_cuts([3.0, 6.0], 9.0, 3600.0) == [3.0, 6.0]
    with pytest.raises(InputError, match="the video ends at 0:09"):
        kept_cuts([3.0, 12.0], 9.0, 4.0)


def frames(visual, sync):
    return [SimpleNamespace(image=index, visual_repeats=v, sync_repeats=s) for index, (v, s) in enumerate(zip(visual, sync))]


@pytest.mark.parametrize("pictures", [25, 26, 30, 40])
@pytest.mark.parametrize("count", [25, 30, 35])
def test_a_scene_gets_as_many_pictures_as_it_has_room_for(pictures, count):
    given = frames([1 if index % 3 == 0 else 0 for index in range(count)], [1] * count)
    seen = list(filled(given, pictures))
    assert sum(frame.sync_repeats for frame in seen) == pictures
    assert sum(frame.visual_repeats for frame in seen) == ClipTiming.from_latent_frames(2 * pictures).visual_tokens
    assert seen[-1].image == count - 1


@pytest.fixture(scope="module")
def encoders():
    return load_video_encoders(find_model_files(small_model.FOLDER), "cpu")


def test_each_scene_is_encoded_as_a_clip_of_its_own(encoders, tmp_path):
    """A cut at 1.2 s, on a picture of 25 a second: exactly what two files would give."""
    path = videos.make_video(tmp_path / "clip.mp4", frames=65, rate=25)

    def between(start, duration):
        return media.stream_frames(path, start=start, duration=duration, max_seconds=None)

    seen = encode_scenes(between, [1.2], *encoders)
    apart = [encode_video(filled(between(0.0, 1.2), 30), *encoders), encode_video(between(1.2, None), *encoders)]
    assert seen.cuts == (60,) and seen.seconds == 1.2 + apart[1].seconds
    for name in ("visual", "sync"):
        assert torch.equal(getattr(seen, name), torch.cat([getattr(part, name) for part in apart], dim=1))
    assert seen.sync.shape[1] == 8 * (2 + 3)
    whole = encode_video(between(0.0, None), *encoders)
    plain = encode_scenes(between, [], *encoders)
    assert torch.equal(plain.visual, whole.visual) and plain.cuts == ()


def test_a_cut_without_pictures_behind_it_is_named(encoders):
    black = SimpleNamespace(image=torch.zeros(3, 32, 32, dtype=torch.uint8), visual_repeats=1, sync_repeats=1)
    with pytest.raises(InputError, match="No picture comes after the cut at 2.00 s"):
        encode_scenes(lambda start, duration: [black] * (start == 0), [2.0], *encoders)
    with pytest.raises(MediaError, match="No picture came out"):
        encode_scenes(lambda start, duration: [], [2.0], *encoders)


def test_without_pyscenedetect_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(FoleyError, match="pip install scenedetect"):
        detect_cuts(tmp_path / "clip.mp4")


def write_scenes(path, lengths):
    """A slowly moving pattern, of another kind in each scene."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        rows, columns = np.mgrid[:96, :128]
        for number, length in enumerate(lengths):
            for frame in range(length):
                wave = np.sin((columns * (number + 1) + rows * number + frame) / 9) * 60 + 60 + 50 * number
                image = np.repeat(wave[..., None], 3, axis=2).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))


def test_cuts_are_found(tmp_path):
    pytest.importorskip("scenedetect")
    path = tmp_path / "clip.mp4"
    write_scenes(path, (40, 35, 50))
    assert detect_cuts(path) == pytest.approx([40 / 25, 75 / 25], abs=0.01)
    (tmp_path / "clip.mp4").write_bytes(b"nothing")
    with pytest.raises(MediaError, match="cannot read clip.mp4"):
        detect_cuts(path)


def test_features_without_scenes_have_no_cuts():
    assert VideoFeatures(torch.zeros(1, 1, 1), torch.zeros(1, 8, 1), 1.0).cuts == ()


def test_no_scene_is_heard_in_the_other_but_for_the_crossfade():
    vae = checkpoint.load_vae(find_model_files(small_model.FOLDER).vae)
    latents = torch.randn(1, vae.config.latent_channels, 60, generator=torch.Generator().manual_seed(1))
    other = torch.cat((latents[..., :25], torch.randn(1, vae.config.latent_channels, 35)), dim=-1)
    cut = 25 * 960
    with torch.inference_mode():
        joined, changed = (decode_scenes(vae.decode, x, (25,)) for x in (latents, other))
        alone = vae.decode(latents[..., 25:])
        assert torch.equal(decode_scenes(vae.decode, latents, ()), vae.decode(latents))
    assert joined.shape == (1, 1, 60 * 960) and torch.equal(joined[..., :cut], changed[..., :cut])
    assert torch.equal(joined[..., cut + CROSSFADE :], alone[..., CROSSFADE:])
    jumps = joined.diff().abs().flatten()
    assert jumps[cut - 10 : cut + CROSSFADE + 10].max() <= jumps.max()
    assert jumps[cut - 1] <= jumps[: cut - 1].max()  # no click where the cut is
