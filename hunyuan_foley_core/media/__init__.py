"""Video and sound files in and out, by PyAV alone."""

from .audio import read_audio, resample, to_mono, to_stereo, write_audio
from .containers import CODECS, suffix_for
from .decode import probe, stream_frames
from .ducking import Ducking
from .frames import FrameClock, SelectedFrame, frames_from_images, select_frames
from .mixdown import CHANNELS, DUCKED, Mix, Track, mixdown
from .mux import check_mux, mixdown_for, mux, picture_length
from .output import WriteReport
from .packets import DecodeReport
from .source import VideoInfo

__all__ = [
    "CHANNELS",
    "CODECS",
    "DUCKED",
    "DecodeReport",
    "Ducking",
    "FrameClock",
    "Mix",
    "SelectedFrame",
    "Track",
    "VideoInfo",
    "WriteReport",
    "check_mux",
    "frames_from_images",
    "mixdown",
    "mixdown_for",
    "mux",
    "picture_length",
    "probe",
    "read_audio",
    "resample",
    "select_frames",
    "stream_frames",
    "suffix_for",
    "to_mono",
    "to_stereo",
    "write_audio",
]
