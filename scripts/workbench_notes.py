"""What the notes in the workbench's workflows say, in Markdown."""

_EXAMPLE = "upload **foley_example.mp4** from this pack's folder *workflows* to *Load Video*"
_SCENES = "upload **foley_scenes_example.mp4** from this pack's folder *workflows* to *Load Video*"

LONG = f"""\
Sound for videos of any length. To try it, {_SCENES}.

The model knows clips of about 8 s. *Foley Context Windows* shows it a longer one in windows of 8 s that overlap, and fuses \
them at every step, for any sampler: here ComfyUI's own. *Foley Sampler* does the same by itself, without that node, \
for everything longer than 10 s."""

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
