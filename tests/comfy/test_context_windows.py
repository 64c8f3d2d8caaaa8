"""Long sound, scenes and timed prompts through ComfyUI's samplers: as the core makes them."""

import importlib

import pytest
import torch

WIDTH, TOKENS = 128, 12
FRAMES = 600
TIMES = "0:02-0:05 hammering\n0:04-0:09.5 a bell"


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.fixture(scope="module")
def core(nodes):
    def load(name):
        return importlib.import_module(f"foley_pack.{name}")

    nodes.windows, nodes.context = load("hunyuan_foley_core.windows"), load("nodes.context_windows")
    nodes.velocity, nodes.prompts = load("hunyuan_foley_core.velocity"), load("hunyuan_foley_core.timed_prompts")
    nodes.timing, nodes.conditioning = load("hunyuan_foley_core.timing"), load("nodes.conditioning")
    return nodes


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(core, lengths):
    """Features of scenes of these lengths in a row."""
    counts = [core.timing.ClipTiming.from_latent_frames(length) for length in lengths]
    return {
        "visual": normal(1, 1, sum(c.visual_tokens for c in counts), WIDTH),
        "sync": normal(2, 1, sum(c.sync_tokens for c in counts), WIDTH),
    }


def conditionings(core, text, negative, features, cuts=()):
    extras = {core.model.LENGTHS_KEY: (features["visual"].shape[1], features["sync"].shape[1])} if features else {}
    picture = {core.model.VISUAL_KEY: features["visual"], core.model.SYNC_KEY: features["sync"]} if features else {}
    if cuts:
        extras[core.conditioning.CUTS_KEY] = cuts
    return [[text, {**extras, **picture}]], [[negative, extras]]


def reference(core, path, noise, text, negative, windows=None, **features):
    transformer = core.checkpoint.load_transformer(path, dtype=torch.float32)
    return core.sampling.sample(
        transformer, noise, text=text, negative_text=negative, steps=2, windows=windows, **features
    )


@pytest.fixture
def case(core, features):
    return normal(3, 1, WIDTH, FRAMES), features.text, features.negative


def test_weights_that_say_so_are_sampled_in_windows_of_their_own(core, nodes):
    from hunyuan_foley_core import small_model

    patcher = nodes.loading.load_foley_model(str(small_model.FOLDER / small_model.TRANSFORMER))
    handler = core.context.with_default_windows(patcher).model_options[core.context.HANDLER_KEY]
    assert handler.settings == core.windows.WindowSettings(198, 48, 400)
    lengths = [window.stop - window.start for window in handler.windows((), 598)]
    assert len(lengths) == 4 and max(lengths) == 198 and len(handler.windows((), 400)) == 1


def test_the_node_left_as_it_is_gives_the_windows_that_the_weights_want(core, nodes, patcher):
    from hunyuan_foley_core import small_model

    node = core.context.FoleyContextWindows
    own = nodes.loading.load_foley_model(str(small_model.FOLDER / small_model.TRANSFORMER))
    fresh = [widget.default for widget in node.define_schema().inputs[1:]]

    def settings(model, *lengths):
        return node.execute(model, *lengths).args[0].model_options[core.context.HANDLER_KEY].settings

    windows = core.windows.WindowSettings
    assert settings(own, *fresh) == windows(198, 48, 400) and settings(patcher, *fresh) == windows(400, 96, 500)
    assert settings(own, 8.0, 1.92) == settings(patcher, 8.0, 1.92) == windows(400, 96, 400)  # as saved workflows have it
    assert settings(own, 0.0, 1.92) == windows(198, 96, 400) and settings(own, 6.0, 0.0) == windows(300, 48, 300)
    with pytest.raises(core.errors.InputError, match="Windows of 0.32 s"):
        settings(patcher, 0.32, 0.0)


@pytest.mark.parametrize("with_picture", [True, False])
def test_long_sound_is_that_of_the_core(core, run, patcher, path, case, with_picture):
    noise, text, negative = case
    features = seen(core, [FRAMES]) if with_picture else {}
    model = core.context.with_default_windows(patcher)
    sampled = run(model, *conditionings(core, text, negative, features), noise=noise, steps=2)
    windows = core.windows.plan_windows(FRAMES)
    # Without a picture windows of one length have the same conditions.
    assert run.forwards == [2] * len(windows) * 2 and run.prepares == (len(windows) if with_picture else 1)
    assert relative(sampled, reference(core, path, noise, text, negative, **features)) < 2e-6


def test_short_sound_is_not_touched(core, run, patcher):
    assert torch.equal(run(core.context.with_default_windows(patcher)), run(patcher))
    assert torch.equal(run(core.context.FoleyContextWindows.execute(patcher, 2.0, 0.64).args[0]), run(patcher))


def test_the_node_sets_other_lengths(core, run, patcher, path, case):
    noise, text, negative = case
    (model,) = core.context.FoleyContextWindows.execute(patcher, 4.0, 1.0).args
    settings = core.windows.WindowSettings(200, 50, 200)
    sampled = run(model, *conditionings(core, text, negative, {}), noise=noise, steps=2)
    windows = core.windows.plan_windows(FRAMES, settings)
    assert len(windows) == 4
    assert relative(sampled, reference(core, path, noise, text, negative, windows)) < 2e-6
    assert core.context.HANDLER_KEY not in patcher.model_options
    with pytest.raises(core.errors.InputError, match="8 and 1.92"):
        core.context.FoleyContextWindows.execute(patcher, 2.0, 2.0)


def test_scenes_are_kept_apart_by_every_sampler(core, run, patcher, path, case):
    noise, text, negative = case
    cuts, features = (130, 400), seen(core, [130, 270, 200])
    sampled = run(patcher, *conditionings(core, text, negative, features, cuts), noise=noise, steps=2)
    windows = core.windows.plan_windows(FRAMES, cuts=cuts)
    assert relative(sampled, reference(core, path, noise, text, negative, windows, **features)) < 2e-6


@pytest.mark.parametrize("frames", [500, 600])
def test_timed_prompts_are_those_of_the_core(core, run, patcher, path, frames):
    noise, negative = normal(4, 1, WIDTH, frames), normal(5, 1, TOKENS, WIDTH)
    shares = core.prompts.prompt_weights(core.prompts.complete(core.prompts.parse(TIMES), ""), frames)
    texts = [normal(6 + number, 1, TOKENS, WIDTH) for number in range(3)]
    timed = [core.velocity.TimedText(text, weights) for text, weights in zip(texts, shares)]
    positive = [[text.features, {"mask": text.weights[None]}] for text in timed]
    model = core.context.with_default_windows(patcher)
    sampled = run(model, positive, [[negative, {}]], noise=noise, steps=2)
    assert relative(sampled, reference(core, path, noise, timed, negative)) < 1e-5
    # In one piece all four are computed; in windows of 8 s the second one does not reach the last of two.
    assert len(run.forwards) == (2 if frames == 500 else 4)


def test_prompts_that_are_not_alive_in_a_window_cost_nothing(core, run, patcher):
    noise, negative = normal(4, 1, WIDTH, FRAMES), normal(5, 1, TOKENS, WIDTH)
    times = torch.arange(FRAMES)
    masks = [((times // 50) == number).float() for number in range(12)]
    positive = [[normal(6, 1, TOKENS, WIDTH), {"mask": mask[None]}] for mask in masks]
    model = core.context.with_windows(patcher, core.windows.WindowSettings(100, 50, 100))
    run(model, positive, [[negative, {}]], noise=noise, steps=1)
    assert max(run.forwards) <= 1 + 4 and sum(run.forwards) < 12 * 4


def test_many_windows_go_past_the_cache(core, run, patcher):
    model = core.context.with_windows(patcher, core.windows.WindowSettings(64, 32, 64))
    windows = core.windows.plan_windows(FRAMES, core.windows.WindowSettings(64, 32, 64))
    run(model, noise=normal(4, 1, WIDTH, FRAMES), steps=2, positive=[[normal(6, 1, TOKENS, WIDTH), {}]],
        negative=[[normal(7, 1, TOKENS, WIDTH), {}]])
    assert len(windows) > core.velocity.KEPT_WINDOWS and run.prepares == 2 * len(windows)


def test_windows_of_the_same_frames_may_see_other_tokens(core, run, patcher, case):
    """Where one half has scenes and the other none, the windows are others as soon as one is predicted alone."""
    _, text, negative = case
    noise, features = normal(4, 1, WIDTH, 1000), seen(core, [1000])
    positive, _ = conditionings(core, text, negative, features)
    _, of_scenes = conditionings(core, text, negative, features, cuts=(400,))
    model = core.guidance.guide_within(core.context.with_windows(patcher, core.windows.WindowSettings()), (1.0, 0.4))
    made = run(model, positive, of_scenes, noise)
    with pytest.MonkeyPatch.context() as nothing_kept:
        nothing_kept.setattr(core.cache.PreparedCache, "part", lambda self, whole, key, make: make())
        assert relative(made, run(model, positive, of_scenes, noise)) < 1e-6


def test_room_is_made_for_one_window(core, run, patcher, monkeypatch):
    shapes, required = [], core.model.FoleyModel.memory_required

    def noted(self, shape, *args, **kwargs):
        shapes.append(shape)
        return required(self, shape, *args, **kwargs)

    monkeypatch.setattr(core.model.FoleyModel, "memory_required", noted)
    texts = [[[normal(seed, 1, TOKENS, WIDTH), {}]] for seed in (6, 7)]
    run(core.context.with_default_windows(patcher), *texts, noise=normal(4, 1, WIDTH, FRAMES), steps=1)
    assert {shape[-1] for shape in shapes} == {400}


def test_the_sampler_node_makes_long_sound_by_itself(core, patcher, path, case):
    noise, text, negative = case
    positive, negatives = conditionings(core, text, negative, {})
    with torch.inference_mode():
        made = core.sampler.sample_latents(
            patcher, positive, negatives, {"samples": torch.zeros_like(noise)}, seed=3, steps=2, cfg=4.5
        )["samples"]
    assert relative(made, reference(core, path, core.sampling.make_noise(1, WIDTH, FRAMES, 3), text, negative)) < 2e-6


def test_a_picture_that_is_too_short_is_named(core, run, patcher, case):
    noise, text, negative = case
    model = core.context.with_default_windows(patcher)
    with pytest.raises(core.errors.InputError, match="picture ends about"):
        run(model, *conditionings(core, text, negative, seen(core, [400])), noise=noise, steps=1)


@pytest.mark.parametrize("ours", [True, False])
def test_one_window_is_refused_a_short_picture_and_takes_the_beginning_of_a_long_one(core, run, patcher, path, case, ours):
    noise, (_, text, negative) = normal(3, 1, WIDTH, 100), case
    model = core.context.with_default_windows(patcher) if ours else patcher
    with pytest.raises(core.errors.InputError, match="picture ends about 6.1 s before 8.0 s"):
        run(model, *conditionings(core, text, negative, seen(core, [98])), noise=normal(3, 1, WIDTH, 400), steps=1)
    long = seen(core, [400])
    sampled = run(model, *conditionings(core, text, negative, long), noise=noise, steps=2)
    beginning = {"visual": long["visual"][:, :16], "sync": long["sync"][:, :40]}
    assert relative(sampled, reference(core, path, noise, text, negative, **beginning)) < 2e-6
    assert relative(sampled, reference(core, path, noise, text, negative, **long)) < 2e-6  # and so does the core


def test_a_picture_about_as_long_as_the_sound_is_taken_as_it_is(core, run, patcher, path, case):
    """As released: 1.96 s of sound for 16 pictures at 8 a second; and a film whose own sound goes on a moment longer."""
    _, text, negative = case
    features = {"visual": normal(1, 1, 16, WIDTH), "sync": normal(2, 1, 40, WIDTH)}
    model = core.context.with_default_windows(patcher)
    for frames in (98, 120):
        noise = normal(3, 1, WIDTH, frames)
        ours, stock = (run(m, *conditionings(core, text, negative, features), noise=noise, steps=2) for m in (model, patcher))
        other = {**features, "visual": torch.cat((features["visual"][:, :-1], normal(9, 1, 1, WIDTH)), dim=1)}
        assert torch.equal(ours, stock) and relative(ours, reference(core, path, noise, text, negative, **features)) < 2e-6
        assert relative(ours, reference(core, path, noise, text, negative, **other)) > 1e-5
