from dataclasses import dataclass

import pytest
import torch

from hunyuan_foley_core.checkpoint import load_siglip2, load_synchformer
from hunyuan_foley_core.conditions import encode_text_pair, encode_video, with_bandwidth_tag
from hunyuan_foley_core.errors import MediaError
from hunyuan_foley_core.timing import sync_segments

from .parity import weights


@dataclass
class Picked:
    image: torch.Tensor
    visual_repeats: int
    sync_repeats: int


def clip(sync_frames: int, every: int = 3, held: int = 1) -> list[Picked]:
    """Distinct small pictures; each `every`-th is seen at 8 fps too, the last of those `held` times."""
    generator = torch.Generator().manual_seed(7)
    pictures = torch.randint(0, 256, (sync_frames, 3, 40, 60), generator=generator, dtype=torch.uint8)
    frames = [Picked(picture, int(index % every == 0), 1) for index, picture in enumerate(pictures)]
    frames[(sync_frames - 1) // every * every].visual_repeats = held
    return frames


@pytest.fixture(scope="module")
def encoders():
    return load_siglip2(weights("siglip2_vision")), load_synchformer(weights("synchformer_visual"))


@pytest.mark.parametrize("sync_frames", [1, 15, 16, 23, 24, 31, 32, 50])
def test_a_stream_gives_what_the_whole_clip_gives(encoders, sync_frames):
    frames = clip(sync_frames, held=2)
    features = encode_video(iter(frames), *encoders)
    visual = torch.cat([frame.image[None].expand(frame.visual_repeats, -1, -1, -1) for frame in frames])
    sync = torch.stack([frame.image for frame in frames])
    assert torch.allclose(features.visual[0], encoders[0].encode_frames(visual), atol=1e-5)
    assert torch.allclose(features.sync[0], encoders[1].encode_frames(sync), atol=1e-5)
    assert features.sync.shape[1] == 8 * sync_segments(sync_frames)
    assert features.seconds == sync_frames / 25


def test_a_held_frame_is_encoded_once(encoders, monkeypatch):
    seen = []
    encode = encoders[0].encode_frames
    monkeypatch.setattr(encoders[0], "encode_frames", lambda frames, **where: seen.append(len(frames)) or encode(frames, **where))
    features = encode_video([Picked(torch.zeros(3, 20, 30, dtype=torch.uint8), 8, 25)], *encoders)
    assert seen == [1] and features.visual.shape[1] == 8 and features.sync.shape[1] == 16


def test_frames_are_dropped_as_they_are_encoded(encoders):
    """A generator that counts what is still referenced: memory does not grow with the clip."""
    import weakref

    alive, most = [], 0

    def stream():
        nonlocal most
        for frame in clip(60):
            image = frame.image.clone()
            alive.append(weakref.ref(image))
            yield Picked(image, frame.visual_repeats, frame.sync_repeats)
            del image
            most = max(most, sum(ref() is not None for ref in alive))

    encode_video(stream(), *encoders)
    assert most <= 2


def test_progress_counts_seconds_and_can_cancel(encoders):
    seen = []

    def cancel_at_half_a_second(seconds):
        seen.append(seconds)
        if seconds >= 0.5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        encode_video(clip(50), *encoders, callback=cancel_at_half_a_second)
    assert seen[0] == 0.04 and len(seen) == 13


def test_no_frame_is_an_error(encoders):
    with pytest.raises(MediaError, match="No picture"):
        encode_video([], *encoders)


@pytest.mark.parametrize("prompt, tagged", [
    ("footsteps on gravel", "footsteps on gravel, high-quality"),
    ("A door slams. ", "A door slams, high-quality"),
    ("", "high-quality"), ("  ", "high-quality"),
    ("rain, high-quality", "rain, high-quality"),
])
def test_the_bandwidth_tag_ends_the_prompt(prompt, tagged):
    assert with_bandwidth_tag(prompt) == tagged


class CountingClap:
    def __init__(self):
        self.calls = []

    def encode_text(self, texts, device=None, dtype=None):
        self.calls.append(texts)
        return torch.arange(2 * 90 * 4, dtype=torch.float32).view(2, 90, 4)


def test_prompt_and_negative_are_encoded_together_and_cut_at_77():
    clap = CountingClap()
    text, negative = encode_text_pair(clap, "rain", "hiss", tag=False)
    assert clap.calls == [["rain", "hiss"]]
    assert text.shape == negative.shape == (1, 77, 4) and text[0, 0, 0] == 0 and negative[0, 0, 0] == 360
    encode_text_pair(clap, "rain", "hiss")
    assert clap.calls[1] == ["rain, high-quality", "hiss"]
