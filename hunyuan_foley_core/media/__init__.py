"""Video and sound files in and out, by PyAV alone."""

from .audio import read_audio, resample, to_mono, to_stereo, write_audio
from .decode import probe, stream_frames
from .frames import FrameClock, SelectedFrame, frames_from_images, select_frames
from .mux import check_mux, mux, suffix_for
from .output import WriteReport
from .packets import DecodeReport
from .source import VideoInfo
from .track import sound_track

__all__ = [
    "DecodeReport",
    "FrameClock",
    "SelectedFrame",
    "VideoInfo",
    "WriteReport",
    "check_mux",
    "frames_from_images",
    "mux",
    "probe",
    "read_audio",
    "resample",
    "select_frames",
    "sound_track",
    "stream_frames",
    "suffix_for",
    "to_mono",
    "to_stereo",
    "write_audio",
]
