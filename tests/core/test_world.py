"""The small world: what is seen, what is heard and what is said agree, and the truth about it is true."""

import numpy as np
import pytest

from hunyuan_foley_core import media
from hunyuan_foley_core.data import make_clip, scoring, write_clip, write_sounds
from hunyuan_foley_core.data.actions import MARGIN, SPACING
from hunyuan_foley_core.data.captions import ADJECTIVES
from hunyuan_foley_core.data.listening import MaterialClassifier
from hunyuan_foley_core.data.materials import MATERIALS
from hunyuan_foley_core.data.motion import Path
from hunyuan_foley_core.errors import InputError
from hunyuan_foley_core.timing import SAMPLE_RATE

SECONDS = 3.0
SEEDS = range(500, 620)


@pytest.fixture(scope="module")
def clips():
    return [make_clip(seed, SECONDS, size=(64, 64)) for seed in SEEDS]


def bandwidth(waveform) -> float:
    """Highest frequency in Hz within 60 dB of the strongest in the mean spectrum."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 2048)[::1024] * np.hanning(2048)
    power = (np.abs(np.fft.rfft(frames)) ** 2).mean(axis=0)
    return np.flatnonzero(power > power.max() * 1e-6).max() * SAMPLE_RATE / 2048


def test_a_seed_gives_one_sound_at_any_rate_and_size():
    first, again = make_clip(7, 2.0), make_clip(7, 2.0, fps=60, size=(90, 160))
    assert first.waveform.equal(again.waveform) and first.caption == again.caption
    assert first.events == again.events and first.tagged == again.tagged
    assert all(a.equal(b) for a, b in zip(first.frames(), make_clip(7, 2.0).frames(), strict=True))
    assert first.frame(0.56).equal(make_clip(7, 2.0, fps=12).frame(0.56))
    assert not first.waveform.equal(make_clip(8, 2.0).waveform)


@pytest.mark.parametrize("seconds, fps, frames", [(0.1, 12, 1), (2.0, 29.97, 60), (8.0, 25, 200), (12.0, 60, 720)])
def test_any_length_and_rate(seconds, fps, frames):
    clip = make_clip(3, seconds, fps)
    assert len(clip.waveform) == round(seconds * SAMPLE_RATE) and len(clip.times) == frames
    assert all(MARGIN <= event.time <= seconds - MARGIN for event in clip.events)


@pytest.mark.parametrize("size", [(16, 16), (97, 61), (128, 228), (720, 1280)])
def test_any_size(size):
    clip = make_clip(4, SECONDS, size=size)
    frame = clip.frame(clip.events[0].time)
    assert frame.shape == (3, *size) and str(frame.dtype) == "torch.uint8"
    changed = (frame.int() - clip.frame(clip.events[0].time - 0.2).int()).abs().amax(dim=0) > 20
    assert changed.float().mean() > 0.002


def test_the_world_is_varied(clips):
    actors = [actor for clip in clips for actor in clip.scene.actors]
    assert {actor.material for actor in actors} == set(MATERIALS)
    assert {actor.action for actor in actors} == {"drop", "roll", "hammer", "knock", "rest"}
    assert {1, 2, 3, 4} < {len(clip.events) for clip in clips}
    assert 0.04 < np.mean([clip.silent for clip in clips]) < 0.2
    assert 0.2 < np.mean([not clip.tagged for clip in clips]) < 0.46
    assert len({clip.caption for clip in clips}) > 0.75 * len(clips)


def test_as_many_things_act_as_are_asked_for(clips):
    crowded = [clip for clip in clips if len(clip.scene.actors) > 1]
    assert {len(clip.scene.actors) for clip in crowded} == {2, 3}
    for clip in crowded[:5]:
        alone = make_clip(clip.scene.seed, SECONDS, size=(64, 64), things=1)
        assert len(alone.scene.actors) == 1 and not alone.waveform.equal(clip.waveform)
    clip = next(clip for clip in clips if len(clip.scene.actors) == 1 and clip.events)
    assert make_clip(clip.scene.seed, SECONDS, size=(64, 64), things=1).waveform.equal(clip.waveform)


def test_hits_are_apart_and_in_order(clips):
    for clip in clips:
        assert all(gap >= SPACING for gap in np.diff([event.time for event in clip.events]))


def test_things_touch_when_they_are_said_to(clips):
    """Each kind of contact, from where the bodies are; a frame later they part or rest."""
    for actor in (actor for clip in clips for actor in clip.scene.actors):
        thing, striker = actor.bodies[0], actor.bodies[-1]
        for event in actor.events:
            place, before = striker.path.at(event.time), striker.path.velocity(event.time - 1e-9)
            if actor.action == "drop":
                assert place[1] == pytest.approx(thing.parts[0].half_height)
                assert -before[1] == pytest.approx(event.speed)
            elif actor.action == "hammer":
                assert place[2] == pytest.approx(0, abs=1e-9)
                head = striker.parts[1]
                top = thing.path.at(event.time)[1] + thing.parts[0].half_height
                assert place[1] - head.half_height == pytest.approx(top)
                assert abs(before[2] * head.x) == pytest.approx(event.speed)
            elif actor.action == "knock":
                gap = abs(place[0] - thing.path.at(event.time)[0])
                assert gap == pytest.approx(thing.parts[0].half_width + striker.parts[1].half_width)
                assert abs(before[0]) == pytest.approx(event.speed)
            else:
                ball = thing.path.at(event.time)[0]
                assert abs(place[0] - ball) == pytest.approx(thing.parts[0].half_width + striker.parts[0].half_width)
                assert abs(thing.path.velocity(event.time - 1e-9)[0]) == pytest.approx(event.speed)


def test_paths_do_not_jump(clips):
    for body in (body for clip in clips for actor in clip.scene.actors for body in actor.bodies):
        starts = body.path.starts
        assert (np.diff(starts) > 0).all()
        np.testing.assert_allclose(body.path.at(starts[1:] - 1e-9), body.path.at(starts[1:]), atol=1e-6)


def test_balls_roll_without_sliding(clips):
    rolling = [actor for clip in clips for actor in clip.scene.actors if actor.action == "roll"]
    for actor in rolling:
        velocity = actor.bodies[0].path.velocity(np.linspace(0, SECONDS, 50))
        np.testing.assert_allclose(velocity[:, 0], -velocity[:, 2] * actor.size, atol=1e-9)


def test_a_path_is_what_its_pieces_say():
    path = Path.of([(1.0, (0.0, 2.0, 0.0), (1.0, 0.0, 0.0), (0.0, -4.0, 0.0))])
    np.testing.assert_allclose(path.at([0.0, 1.0, 2.0]), [[0, 2, 0], [0, 2, 0], [1, 0, 0]])
    np.testing.assert_allclose(path.velocity(1.5), [1, -2, 0])


def test_the_first_hit_begins_on_time(clips):
    """Within 5 ms after its time and not before, against the noise of the room alone."""
    seen = set()
    for clip in clips:
        if not clip.events or any(actor.rolling for actor in clip.scene.actors):
            continue
        waveform, at = clip.waveform.abs().numpy(), round(clip.events[0].time * SAMPLE_RATE)
        # The steep filter of a band-limited clip rings about a millisecond ahead.
        noise = waveform[: at - 96].max()
        begin = np.flatnonzero(waveform[at - 96 :] > 2 * noise)[0] - 96
        assert -96 < begin < 0.005 * SAMPLE_RATE
        assert begin >= 0 or not clip.tagged
        seen.add(clip.events[0].material)
    assert seen == set(MATERIALS)


def test_sound_stays_below_full_scale_and_the_room_below_it(clips):
    for clip in clips:
        assert clip.waveform.isfinite().all() and clip.waveform.abs().max() < 0.96
        if clip.silent:
            assert clip.waveform.square().mean().sqrt() < 10 ** (-53 / 20)
            assert not len(scoring.onsets(clip.waveform.numpy()))


def test_harder_hits_are_louder(clips):
    levels = [scoring.levels(clip.waveform.numpy(), [event.time for event in clip.events]) for clip in clips]
    speeds = [event.speed for clip in clips for event in clip.events]
    assert scoring.rank_correlation(np.concatenate(levels), speeds) > 0.8


def test_rolling_follows_the_speed(clips):
    checked = 0
    for clip in clips:
        (actor, *others) = clip.scene.actors
        if actor.action != "roll" or actor.events or others:
            continue
        speed = np.abs(actor.bodies[0].path.velocity(np.arange(0.05, SECONDS, 0.1))[:, 0])
        blocks = clip.waveform.numpy().reshape(-1, SAMPLE_RATE // 10)
        level = np.sqrt((blocks**2).mean(axis=1))
        if np.ptp(speed) > 0.5:
            assert np.corrcoef(speed, level)[0, 1] > 0.5
            checked += 1
    assert checked


def test_the_tag_tells_the_bandwidth(clips):
    for clip in clips:
        reach = bandwidth(clip.waveform.numpy())
        assert reach > 16_000 if clip.tagged else reach < 8000


def test_captions_name_material_and_action(clips):
    named = 0
    for clip in clips:
        actors = clip.scene.actors
        assert all(actor.thing in clip.caption for actor in actors)
        named += all(any(word in clip.caption for word in ADJECTIVES[actor.material]) for actor in actors)
        assert clip.silent == any(word in clip.caption for word in ("silence", "no sound", "quiet"))
    assert 0.8 < named / len(clips) < 1


def test_a_neutral_picture_hides_the_material():
    clip, neutral = make_clip(6, SECONDS), make_clip(6, SECONDS, look="neutral")
    assert clip.caption == neutral.caption and clip.waveform.equal(neutral.waveform)
    change = (clip.frame(0).int() - neutral.frame(0).int()).abs().amax(dim=0) > 20
    assert 0.01 < change.float().mean() < 0.3


def test_the_plain_picture_shows_the_same_motion(clips):
    """Where the two renderers see something move between two moments, they mostly agree."""
    for clip in (clip for clip in clips[:30] if clip.events):
        plain = make_clip(clip.scene.seed, SECONDS, size=(64, 64), look="plain")
        time = clip.events[0].time
        moved, moved_plain = (
            (c.frame(time).int() - c.frame(time - 0.08).int()).abs().amax(dim=0) > 12 for c in (clip, plain)
        )
        assert plain.waveform.equal(clip.waveform)
        assert (moved & moved_plain).sum() > 0.3 * moved_plain.sum() > 0


def test_a_clip_is_written_and_read_back(tmp_path):
    clip = make_clip(6, 2.5, fps=30, size=(96, 160))
    write_clip(clip, tmp_path / "clip.mp4")
    info = media.probe(tmp_path / "clip.mp4")
    assert (info.width, info.height) == (160, 96) and info.duration == pytest.approx(2.5, abs=0.05)
    waveform, rate = media.read_audio(tmp_path / "clip.wav")
    assert rate == SAMPLE_RATE and waveform[0].equal(clip.waveform)
    coded, _ = media.read_audio(tmp_path / "clip.mp4")
    score = scoring.compare(scoring.onsets(coded[0].numpy()), [event.time for event in clip.events], 0.03)
    assert score.f1 == 1 and score.true


def test_sounds_are_written_once(tmp_path):
    write_sounds(tmp_path / "sounds", [5, 6], 1.0)
    first, second = sorted((tmp_path / "sounds").iterdir())
    waveform, _ = media.read_audio(second)
    assert (waveform[0] - make_clip(6, 1.0).waveform).abs().max() < 1e-6
    stamp = first.stat().st_mtime_ns
    write_sounds(tmp_path / "sounds", [5], 1.0)
    assert first.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seconds": 0.0}, {"fps": 0.0}, {"size": (8, 128)}])
def test_wrong_requests_are_named(wrong):
    with pytest.raises(InputError, match="must not be negative"):
        make_clip(**{"seed": 1, "seconds": 2.0, **wrong})


def test_unknown_looks_are_named():
    with pytest.raises(InputError, match="full, neutral, plain"):
        make_clip(1, 2.0, look="shiny")


@pytest.mark.parametrize("things", [0, 4])
def test_more_things_than_there_is_room_for_are_named(things):
    with pytest.raises(InputError, match="Expected 1 to 3"):
        make_clip(1, 2.0, things=things)


def test_odd_sizes_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="even"):
        write_clip(make_clip(1, 1.0, size=(33, 64)), tmp_path / "clip.mp4")


def test_onsets_of_true_sounds_are_found(clips):
    found = [scoring.onsets(clip.waveform.numpy()) for clip in clips]
    true = [[event.time for event in clip.events] for clip in clips]
    score = scoring.total([scoring.compare(a, b, 0.03) for a, b in zip(found, true, strict=True)])
    assert score.f1 >= 0.98 and score.median_offset < 0.005
    assert scoring.chance(found, true, 0.03) < 0.15


def test_materials_are_told_apart_by_ear(clips):
    classifier = MaterialClassifier(clips[:90])
    assert classifier.accuracy(clips[90:]) > 0.9
    assert classifier(clips[0].waveform.numpy(), []) == []
    with pytest.raises(InputError, match="no hit"):
        MaterialClassifier([])


@pytest.mark.parametrize("found, true, matched", [
    ([], [], 0), ([1.0], [], 0), ([1.0], [1.05], 1), ([1.0], [1.07], 0),
    ([1.0, 1.04], [1.03], 1),  # one true time is used once
    ([1.0, 1.1], [1.05, 1.15], 2), ([1.05, 1.15], [1.0, 1.1], 2),  # greedy by distance would also do; by order too
    ([1.05], [1.0, 1.1], 1), ([2.0, 1.0], [1.0, 2.0], 2),
])
def test_pairs_of_onsets(found, true, matched):
    score = scoring.compare(found, true, 0.06)
    assert (score.matched, score.found, score.true) == (matched, len(found), len(true))
    assert len(score.offsets) == matched


def test_scores_add_up():
    score = scoring.total([scoring.compare([1.0], [1.02], 0.06), scoring.compare([], [2.0], 0.06)])
    assert score.f1 == pytest.approx(2 / 3) and score.median_offset == pytest.approx(0.02)
    assert scoring.compare([], [], 0.06).f1 == 1
