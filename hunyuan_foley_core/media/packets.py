"""Taking packets from a file and frames from packets, past damage, keeping count of it."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import av

from ..timing import seconds_of_sync_frames

logger = logging.getLogger(__name__)

# Decoders with threads hold frames back and give them at the end, one error at a time if they are damaged.
_MAX_FLUSHES = 32


@dataclass
class DecodeReport:
    """What happened while a file was read; filled in as the reading goes on.

    Attributes:
        decoded: frames (or blocks of sound) decoded.
        failed: packets that could not be decoded, or only in part.
        visual_frames, sync_frames: frames chosen at 8 and 25 fps, repeats counted.
        warnings: one sentence each, for the user.
    """

    decoded: int = 0
    failed: int = 0
    visual_frames: int = 0
    sync_frames: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Length of the sound that belongs to the frames chosen."""
        return seconds_of_sync_frames(self.sync_frames)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        logger.warning(text)


def decoded_frames(container, stream, report: DecodeReport) -> Iterator:
    """All frames of a stream, in the order they are shown or heard."""
    for packet in demuxed(container, stream, report):
        for frame in decoded(packet, report):
            report.failed += bool(frame.is_corrupt)
            yield frame


def demuxed(container, streams, report: DecodeReport) -> Iterator[av.Packet]:
    """The packets of one or several streams; a file that breaks off ends early, with a warning."""
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            report.warn(f"The file could be read only in part ({error.strerror}); what came before is used.")
            return
        report.failed += bool(packet.is_corrupt)
        yield packet


def decoded(packet: av.Packet, report: DecodeReport) -> Iterator:
    """The frames of a packet; a failure is counted. The last, empty packet is asked again for what is still held."""
    for _ in range(1 if packet.size else _MAX_FLUSHES):
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            logger.debug("packet at %s: %s", packet.pts, error)
            report.failed += 1
            continue
        report.decoded += len(frames)
        yield from frames
        return
