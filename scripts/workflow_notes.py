"""What the notes in the workflows say, in Markdown."""

from hunyuan_foley_core import small_model

# What docs/solvers.md recommends for speed.
FAST_SOLVER, FAST_STEPS, FAST_SHIFT = "dpmpp_2m", 16, 5.0

# Bold and not code: "Nodes 2.0" draws code as dark as its background.
SMALL_MODEL = f"""\
This workflow runs as it is, with the **small model that comes with this pack** (**{small_model.TRANSFORMER}** and its \
encoders and VAE, **foley_tiny_...**). It was trained on **simple synthetic scenes**: things of wood, metal, glass, rubber \
and stone that fall, bounce, roll, are hammered or knocked at. It is **not for real footage** and knows no other sounds.

For real footage get the released weights, below."""

RELEASED_NOTE = """\
The same as *video to foley*, **with the released weights chosen** (XXL): for real footage. **They do not come with this \
pack**: where one is missing ComfyUI says so when this opens, and the note below says where each file goes. Read its \
licence first.

Then choose a video in *Load Video*, say what is heard in *Encode Text*, and run."""

FILES = """\
Put these into the folders of ComfyUI's *models*, press R, and **choose them in the three loaders** (*Load Foley Model*, \
*Load Foley Encoders*, *Load Foley VAE*) in place of the small model's:

*diffusion_models*
- **hunyuanvideo_foley.pth** (XXL, 10.3 GB) or **hunyuanvideo_foley_xl.pth** (XL, 5.8 GB)

*vae*
- **vae_128d_48k.pth** (1.5 GB)

*foley*
- **synchformer_state_dict.pth** (0.95 GB)

These are in [tencent/HunyuanVideo-Foley](https://huggingface.co/tencent/HunyuanVideo-Foley).

*clip_vision*
- **siglip2_base_patch16_512.safetensors** (1.5 GB): model.safetensors of [google/siglip2-base-patch16-512]\
(https://huggingface.co/google/siglip2-base-patch16-512), renamed

*text_encoders*
- **larger_clap_general.safetensors** (0.8 GB): model.safetensors of [laion/larger_clap_general]\
(https://huggingface.co/laion/larger_clap_general), renamed
- **tokenizer.json** from the same place

Other names and subfolders are fine too. The loader's *tokenizer_name* can stay as it is.

**Licence.** Tencent's weights come under the Tencent Hunyuan community licence, which does not extend to the European \
Union, the United Kingdom and South Korea."""

VIDEO_NOTE = """\
1. Choose a video in *Load Video*. To try the small model, upload **foley_example.mp4** from this pack's folder \
*workflows*.
2. Say what is heard in *Encode Text*.
3. Run. The video comes back with sound, its picture untouched.

Clips of 8 to 10 s are best; longer ones are made in windows of 8 s."""

TEXT_NOTE = """\
1. Say what is heard in *Encode Text*.
2. Set the length in *Empty Foley Latent*; 8 to 10 s are best.
3. Run. The sound is saved as a FLAC file, 48 kHz."""

GENERATOR_NOTE = """\
Sound for pictures that a video model has just made.

1. To try it, upload **foley_example.mp4** from this pack's folder *workflows* to *Load Video*. Then replace the two \
nodes of the purple group with your generator: connect its IMAGE to *Encode Video* and *Create \
Video*, and give both the frame rate it was made for.
2. Say what is heard in *Encode Text* and run."""

FAST_NOTE = f"""\
The same as *video to foley* (try it on **foley_example.mp4** from this pack's folder *workflows*) in a third of the time: \
**{FAST_STEPS} steps** of **{FAST_SOLVER}**, and *ModelSamplingSD3* shifts the steps towards noise, where it is decided \
what is heard and when (shift **{FAST_SHIFT:g}**).

With the small model this comes nearer to the exact result than 50 steps of euler do; docs/solvers.md has the \
figures. For the most exact result set 50 steps."""

KSAMPLER_NOTE = """\
The same as *video to foley* (try it on **foley_example.mp4** from this pack's folder *workflows*), sampled by ComfyUI's own \
KSampler: the model is a plain MODEL, so other samplers, guiders and model patches work on it in the same way.

Keep the scheduler at *simple* and the steps at a divisor of 1000, such as 25, 40 or 50: then it takes exactly the \
published steps."""
