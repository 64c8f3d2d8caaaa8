"""The report as a page of text."""

from collections.abc import Iterator

from .machine import Machine
from .report import Report


def to_text(report: Report) -> str:
    sections = (_software(report.machine), _files(report), _workflows(report), _advice(report))
    return "\n".join(line for section in sections for line in section)


def _software(machine: Machine) -> Iterator[str]:
    yield f"Foley {machine.pack_version} in {machine.pack}"
    yield f"Python {machine.python_version} ({machine.python}), {machine.system}"
    around = f"ComfyUI {machine.comfyui_version or 'of unknown version'} in {machine.comfyui}"
    yield around if machine.comfyui else "No ComfyUI around it; name one with --comfyui."
    for title, packages in (("Packages", machine.needed), ("Extras", machine.extras)):
        yield f"\n{title}"
        yield from (f"  {one.name:16} {one.version or 'not installed':14} {one.folder or ''}".rstrip() for one in packages)
    yield "\nDevices"
    for device in machine.devices:
        memory = f", {device.memory / 1e9:.1f} GB, {device.free / 1e9:.1f} GB free" if device.memory else ""
        yield f"  {device.name}{memory}"


def _files(report: Report) -> Iterator[str]:
    for folder in report.folders:
        yield f"\n{folder}"
        found = [file for file in report.files if file.path.startswith(folder)]
        for file in found:
            yield f"  {file.path[len(folder) + 1:]}, {file.size / 1e6:,.1f} MB: {file.what}"
        if not found:
            yield "  no file of ours" if report.looked else "  not looked into: that needs the packages above"


def _workflows(report: Report) -> Iterator[str]:
    if report.looked:
        yield "\nWorkflows"
    for one in report.workflows:
        state = f"lacks {', '.join(one.missing)}" if one.missing else "runs as it is"
        others = f"; can run with {', '.join(one.runs_with)}" if one.missing and one.runs_with else ""
        yield f"  {one.name:26} {state}{others}"


def _advice(report: Report) -> Iterator[str]:
    for must, title in ((True, "What has to be done"), (False, "What could be added")):
        listed = [advice for advice in report.advice if advice.must is must]
        if listed:
            yield f"\n{title}"
        for advice in listed:
            yield f"  {advice.text} [{advice.link}]"
            yield f"      {advice.command}"
    yield f"\n{'All is well.' if report.is_well else 'Something has to be done: see above.'}"
