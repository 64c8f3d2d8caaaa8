"""What the notes in the workbench's workflows say, in Markdown."""

_EXAMPLE = "upload **foley_example.mp4** from this pack's folder *workflows* to *Load Video*"
_SCENES = "upload **foley_scenes_example.mp4** from this pack's folder *workflows* to *Load Video*"

LONG = f"""\
Sound for videos of any length. To try it, {_SCENES}.

A model knows clips of some seconds. *Foley Context Windows* shows it a longer one in windows that overlap, and fuses them \
at every step, for any sampler: here ComfyUI's own. **0 and 0 are the windows that the weights want**: 3.96 s for the small \
model that this begins with, 8 s for the released ones.

*Foley Sampler* does the same by itself, without that node, in the windows that the weights want."""

SCENES = f"""\
Every scene gets its sound as a clip of its own, and nothing sounds on over a cut. To try it, {_SCENES}.

*Foley Scenes* takes the times of the cuts, or finds them by itself (*method: detect*, with PySceneDetect installed). In \
*Foley Timed Prompts* a line with **#2** is for the second scene. *Foley Timeline* draws it all; its box *timed_prompts* is \
there only to be drawn."""

TIMED = """\
A sound at its time, from words alone. One prompt a line:

- **0:00.5-0:03 knocking ...** from one time to another
- **0:04 a door slams** for a second from there
- **\\* light rain** everywhere else

Spans may overlap. With *Encode Video* connected to *video* the picture says when within its span a thing is heard."""

MIXDOWN = f"""\
The foley and a video's own sound, ready to publish. To try it, {_EXAMPLE}; the example is silent, so the purple group \
*Your video's own sound* gives it one. With a video of yours that has one, connect *Load Video* to *Foley Mixdown* and delete \
that group.

*Foley Mixdown* lets the original go down while the foley is heard (or the other way round, for speech), widens the foley, and \
brings the whole to a loudness under a ceiling. The picture is copied untouched."""

LAYERS = f"""\
Each *Foley Layer* makes one stem. To try it, {_EXAMPLE}.

The first layer follows the picture; the second is made from its words alone, for what is heard from outside, rain or a \
room. Levels and mutes are on *Foley Layer Mix*: they are instant, since no layer is made again. A change on one \
layer makes that one again and no other. The output *stems* has every layer by itself."""

RETAKE = f"""\
Everything is good but one second. To try it, {_EXAMPLE}.

*Foley Retake* makes the time from *start* to *end* again, with another seed or other words, and fades into and out of it. \
**Every sample outside stays as it is.** It takes any AUDIO, also one that was recorded or loaded from a file; \
*Foley Extend* has the same connections and lets a sound go on."""

LOOP = f"""\
For a picture that loops: the end of the sound goes on into its beginning. To try it, {_EXAMPLE}.

*Foley Seamless Loop* stands in place of sampler and decoder. The model is shown the clip on a circle, its own end before \
its beginning, and the codec decodes across the joint in the same way."""

TAKES = f"""\
Four takes in one run: *batch_size* on *Empty Foley Latent*. To try it, {_EXAMPLE}.

Choose one by its *index* on *Foley Pick Take*, from 0, and run again to hear another: nothing but the file is made \
again. To make a take alone, longer or with more steps, put *Foley Pick Take* between *Empty Foley Latent* and the \
sampler, with the same batch, seed and index."""

EXTEND = """\
A sound that ends too early goes on. In the purple group one is made, so that this runs as it comes: put a *Load Audio* \
of yours in its place, and keep *Encode Text*.

*Foley Extend* makes *seconds* more of it. Up to the last *fade* seconds **every sample stays as it is**; over those the \
old sound hands over to the new one. With *Encode Video* connected to *Encode Text* it is made to the picture too."""

VARY = """\
Another version of a sound. In the purple group one is made, so that this runs as it comes: put a *Load Audio* of yours \
in its place.

*DAC Encode* turns it into latents, and the sampler starts from them. ***denoise*** says how much is changed: 0 nothing, 1 \
all of it. What comes out has gone through the codec; to keep the samples around a part that changes, use *Foley Retake*."""

REGION = f"""\
A part of a sound made anew by any sampler, here ComfyUI's own KSampler. To try it, {_EXAMPLE}.

*Foley Region Mask* puts a mask over the latents: samplers change them from *start* to *end* and hold the rest. They can also \
come from *DAC Encode*, of any sound. The rest goes through the codec once more; *Foley Retake* does the same and keeps \
its samples."""
