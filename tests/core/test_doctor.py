"""What `doctor` says of an empty machine, a half-installed and a complete one."""

import json
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hunyuan_foley_core import cli, cli_doctor, doctor, places, small_model
from hunyuan_foley_core.convert import convert
from hunyuan_foley_core.doctor import advice, machine
from hunyuan_foley_core.errors import PAGE
from scripts import small_weights

ROOT = Path(__file__).parent.parent.parent
VAE = "models/vae/vae_128d_48k.pth"
TRANSFORMER = "models/diffusion_models/hunyuanvideo_foley.pth"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    small_weights.write(folder)
    return folder


@pytest.fixture
def comfyui(tmp_path):
    """A ComfyUI without model files."""
    (tmp_path / "models").mkdir()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.3.75"\n')
    return tmp_path


@pytest.fixture
def complete(comfyui, weights):
    shutil.copytree(weights, comfyui / "models", dirs_exist_ok=True)
    return comfyui


def found(report, name: str):
    """What is said of the file of that name; None where nothing is."""
    return next((file for file in report.files if Path(file.path).name == Path(name).name), None)


def must(report) -> list:
    return [advice for advice in report.advice if advice.must]


def test_a_machine_with_nothing_but_python():
    def run(*words):
        command = [sys.executable, "-S", "-m", "hunyuan_foley_core", *words]  # -S: no package that was installed
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    done = run("doctor", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 1 and not done.stderr and not said["is_well"] and not said["looked"]
    assert [package["version"] for package in said["machine"]["needed"]] == [None] * 6
    first = said["advice"][0]
    assert first["command"] == f"{sys.executable} -m pip install torch numpy safetensors av einops tokenizers"
    assert first["must"] and first["link"] == f"{PAGE}#missing-package"
    assert "not looked into" in run("doctor").stdout
    refused = run("generate", "--prompt", "rain", "--out", "x.wav")
    assert refused.returncode == 1 and "doctor" in refused.stderr and "Traceback" not in refused.stderr


def test_without_the_released_weights_the_small_model_is_enough(comfyui):
    report = doctor.examine(comfyui=comfyui)
    assert report.is_well and [one.name for one in report.sets] == ["the small model"]
    assert {Path(path).name for path in report.sets[0].files.values()} == {*small_model.WEIGHTS, small_model.TOKENIZER}
    (advice,) = [advice for advice in report.advice if "released weights" in advice.text]
    assert advice.command == (
        f"{sys.executable} {places.PACK / 'hunyuan_foley_core'} download --model xxl --to {comfyui / 'models'}"
    )
    runs = {one.name: one for one in report.workflows}
    assert not runs["video_to_foley"].missing and "the small model" in runs["text_to_foley"].runs_with


def test_the_comfyui_around_the_package_is_known():
    assert places.comfyui_around(Path("/x/custom_nodes/foley")) == Path("/x")
    assert places.comfyui_around(Path("/x/foley")) is None


def test_a_complete_machine_is_well(complete):
    report = doctor.examine(comfyui=complete)
    assert report.is_well and report.machine.comfyui_version == "0.3.75"
    assert [(one.name, one.missing) for one in report.sets if not one.is_small] == [("hunyuanvideo_foley.pth", [])]
    assert "transformer of another size (2 + 2 blocks, 128 wide), " in found(report, TRANSFORMER).what
    assert found(report, TRANSFORMER).what.endswith("bfloat16") and found(report, VAE).what.startswith("DAC-VAE, ")
    assert all("hunyuanvideo_foley.pth" in one.runs_with for one in report.workflows)


def test_half_installed_each_fault_has_its_command(complete, capsys):
    (complete / "comfyui_version.py").write_text('__version__ = "0.3.9"\n')
    cut = complete / VAE
    cut.write_bytes(cut.read_bytes()[:10_000])
    clip = complete / "models" / small_weights.SIGLIP2
    clip.write_bytes(clip.read_bytes()[:-1])
    (complete / "models" / small_weights.SYNCHFORMER).unlink()
    report = doctor.examine(comfyui=complete)
    again = f"{sys.executable} {places.PACK / 'hunyuan_foley_core'} download --model xxl --to {complete / 'models'}"
    assert [(advice.command, advice.link) for advice in must(report)] == [
        (f"git -C {complete} pull", f"{PAGE}#missing-package"),
        (f"rm {cut} && {again} --only vae", f"{PAGE}#damaged-file"),
        (f"rm {clip} && {again} --only siglip2", f"{PAGE}#damaged-file"),
        (f"{again} --only synchformer", f"{PAGE}#missing-file"),
    ]
    assert f"{clip.stat().st_size:,} of its {clip.stat().st_size + 1:,} bytes" in found(report, clip.name).problem
    assert cli_doctor.main(["--comfyui", str(complete)]) == 1
    text = capsys.readouterr().out
    assert "What has to be done" in text and f"rm {cut} && {again}" in text


def test_commands_are_those_of_the_system(complete, monkeypatch):
    (complete / VAE).write_bytes(b"cut")
    monkeypatch.setattr(advice, "WINDOWS", True)
    monkeypatch.setattr(places, "PACK", Path("C:/Comfy UI/custom_nodes/foley"))
    command = must(doctor.examine(comfyui=complete))[0].command
    package = '"C:/Comfy UI/custom_nodes/foley/hunyuan_foley_core"'
    assert command.startswith(f"del {complete / VAE} && {sys.executable} {package} download ")


def test_only_a_few_files_of_a_model_are_a_model_that_is_incomplete(comfyui, weights):
    (comfyui / "models/vae").mkdir()
    shutil.copy(weights / small_weights.VAE, comfyui / VAE)
    report = doctor.examine(comfyui=comfyui)
    assert not report.is_well
    assert must(report)[0].text == (
        "For the released model there is no file of: transformer, siglip2, synchformer, clap, tokenizer."
    )


class RunsCode:
    def __reduce__(self):
        return print, ("code ran",)


def test_files_of_other_packs_are_left_alone_and_nothing_is_run(complete, capsys):
    models = complete / "models"
    image, words = ("decoder.conv_in.weight", "post_quant_conv.weight"), "bert.embeddings.word_embeddings.weight"
    save_file({key: torch.zeros(1) for key in image}, models / "vae/image.safetensors")
    save_file({words: torch.zeros(3, 2)}, models / "text_encoders/bert.safetensors")
    torch.save({"x": RunsCode(), words: torch.zeros(2)}, models / "text_encoders/code.pt")
    (models / "vae/page.ckpt").write_text("<html>")
    (models / "vae/legacy.pt").write_bytes(pickle.dumps(RunsCode()))
    report = doctor.examine(comfyui=complete)
    others = ("image.safetensors", "bert.safetensors", "code.pt", "page.ckpt", "legacy.pt")
    assert report.is_well and not any(found(report, name) for name in others)
    assert "code ran" not in capsys.readouterr().out


def test_a_page_saved_under_the_name_of_a_model_is_one_that_is_damaged(complete):
    (complete / VAE).write_text("<html>Please log in</html>")
    report = doctor.examine(comfyui=complete)
    assert "is a web page" in found(report, VAE).problem and found(report, VAE).what == "damaged" and not report.is_well


def test_a_whole_file_of_a_format_that_is_not_read_is_not_called_damaged(complete):
    (complete / VAE).write_bytes(b"GGUF" + bytes(100))
    file = found(doctor.examine(comfyui=complete), VAE)
    assert file.what == "cannot be used" and "is a GGUF file" in file.problem


def test_a_file_of_the_other_format_gets_its_suffix(complete):
    path = complete / VAE
    convert(path, path.with_suffix(".safetensors"))
    path.with_suffix(".safetensors").replace(path)
    (advice,) = must(doctor.examine(comfyui=complete))
    assert advice.command == f"mv {path} {path.with_suffix('.safetensors')}"


def test_encoders_that_do_not_fit_the_transformer_do_not_count(complete):
    other = complete / "models" / small_weights.SIGLIP2
    generator = torch.Generator().manual_seed(0)
    original, small_weights.FEATURES = small_weights.FEATURES, 64
    try:
        save_file(small_weights.siglip2(generator), other)
    finally:
        small_weights.FEATURES = original
    report = doctor.examine(comfyui=complete)
    assert found(report, other.name).widths == {"siglip2": 64}
    assert [one.missing for one in report.sets if not one.is_small] == [["siglip2"]]


def test_scaled_fp8_is_known(complete):
    target = complete / "models/diffusion_models/other.safetensors"
    convert(complete / TRANSFORMER, target, "fp8_e4m3fn_scaled")
    report = doctor.examine(comfyui=complete)
    file = found(report, target.name)
    assert file.what.endswith(", float8_e4m3fn and bfloat16") and file.problem is None
    assert [one.name for one in report.sets] == ["hunyuanvideo_foley.pth", "other.safetensors", "the small model"]


def sparse(path: Path, manifest: str) -> None:
    """A file with the keys, shapes and size of a released one, and holes in place of its values."""
    said = json.loads((ROOT / "tests/fixtures/manifests" / manifest).read_text())
    shapes = said.get("tensors", said)
    header, end = {}, 0
    for key, entry in shapes.items():
        shape = entry["shape"] if isinstance(entry, dict) else entry
        size = 2 * torch.Size(shape).numel()
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


@pytest.mark.parametrize("size, blocks, count", [
    ("xxl", "XXL (18 + 36 blocks, 1536 wide)", "5,134"), ("xl", "XL (12 + 24 blocks, 1408 wide)", "2,913"),
])
def test_the_released_transformers_are_known_without_reading_them(comfyui, size, blocks, count):
    path = comfyui / "models/diffusion_models/any_name.safetensors"
    sparse(path, f"hunyuanvideo_foley_{size}.json")
    report = doctor.examine(comfyui=comfyui)
    what = found(report, path.name).what
    assert what.startswith(f"HunyuanVideo-Foley transformer {blocks}, {count}.") and what.endswith("bfloat16")
    assert path.stat().st_blocks * 512 < 2_000_000  # still holes


def test_folders_that_extra_model_paths_names_are_searched(complete, tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / "disk/here").mkdir(parents=True)
    (complete / VAE).rename(tmp_path / "disk/here/codec.pth")
    assert not doctor.examine(comfyui=complete).is_well
    (complete / "extra_model_paths.yaml").write_text(f"a:\n  base_path: {tmp_path / 'disk'}\n  vae: |\n    there\n    here\n")
    assert doctor.examine(comfyui=complete).is_well


@pytest.mark.parametrize("base", ["~/", "$FOLEY_DISK", "${FOLEY_DISK}", "disk/..", "~/nowhere/.."])
def test_a_base_path_is_expanded_as_comfyui_does_it(complete, tmp_path, monkeypatch, base):
    pytest.importorskip("yaml")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("FOLEY_DISK", str(tmp_path / "home"))
    (tmp_path / "home/nowhere").mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    here = tmp_path if base == "disk/.." else tmp_path / "home"
    (here / "codecs").mkdir()
    (complete / VAE).rename(here / "codecs/codec.pth")
    (complete / "extra_model_paths.yaml").write_text(f"a:\n  base_path: {base}\n  vae: codecs\n")
    assert doctor.examine(comfyui=complete).is_well


@pytest.mark.parametrize("content, said", [
    (b"a:\n  vae: x: y\n", "it is no YAML (mapping values are not allowed here in "),
    (b"a:\n  base_path: /\xff\n", "its byte 17 is not UTF-8."),
    (b"- a\n- b\n", "it holds no sections."),
    (b"a: 5\n", "The section `a` of {file} is 5. Expected names of model folders"),
    (b"a:\n  base_path: 5\n", "The section `a` of {file} has 5 for `base_path`. Expected a path."),
    (b"a:\n  vae:\n", "The section `a` of {file} has None for `vae`. Expected a path."),
])
def test_extra_model_paths_that_comfyui_cannot_read_is_advice(complete, content, said):
    pytest.importorskip("yaml")
    file = complete / "extra_model_paths.yaml"
    file.write_bytes(content)
    (advice,) = must(doctor.examine(comfyui=complete))
    assert said.replace("{file}", str(file)) in advice.text and str(file) in advice.text and "\n" not in advice.text
    assert advice.command.startswith("Correct the file") and advice.link == f"{PAGE}#input"


def test_of_a_file_with_one_wrong_section_the_others_count(complete, tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / "disk").mkdir()
    (complete / VAE).rename(tmp_path / "disk/codec.pth")
    (complete / "extra_model_paths.yaml").write_text(f"a: 5\nb:\nc:\n  vae: {tmp_path / 'disk'}\n")
    assert len(must(doctor.examine(comfyui=complete))) == 1


@pytest.mark.parametrize("name, network", [(VAE, "vae"), ("models/text_encoders/tokenizer.json", "tokenizer")])
def test_a_link_that_leads_nowhere_is_a_damaged_file(complete, name, network):
    link = complete / name
    link.unlink()
    link.symlink_to(complete / "moved" / link.name)
    (complete / "models/vae/of_others.safetensors").symlink_to(complete / "moved/other")
    report = doctor.examine(comfyui=complete)
    (advice,) = must(report)
    assert f"is a link to {complete / 'moved' / link.name}, where there is nothing" in advice.text
    assert advice.command.startswith(f"rm {link} && ") and advice.command.endswith(f" --only {network}")
    assert advice.link == f"{PAGE}#damaged-file" and found(report, "of_others.safetensors") is None
    assert f"{link.name}, 0.0 MB: a link that leads nowhere" in doctor.to_text(report)


def test_folders_that_are_not_there_are_said(complete, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    texts = [advice.text for advice in must(doctor.examine([Path("nope"), Path("file")], Path("neither")))]
    assert texts == [
        "--comfyui is neither, and there is no such folder.", "--models is nope, and there is no such folder.",
        "--models is file, which is a file.",
    ]
    assert cli_doctor.main(["--models", "nope"]) == 1 and "All is well" not in capsys.readouterr().out


@pytest.mark.parametrize("header", [b"[1]", b'{"a": 1}', b'{"a": {}}', b'{"a": {"data_offsets": []}}', b'"text"', b"3"])
def test_a_header_of_anything_is_no_trace(complete, header):
    path = complete / VAE
    path.unlink()
    path.with_suffix(".safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert [advice.link for advice in must(doctor.examine(comfyui=complete))] == [f"{PAGE}#damaged-file"]


def test_the_small_model_can_be_incomplete_too(comfyui, monkeypatch, tmp_path):
    shutil.copytree(small_model.FOLDER, tmp_path / "weights")
    (tmp_path / "weights" / small_model.VAE).unlink()
    monkeypatch.setattr(small_model, "FOLDER", tmp_path / "weights")
    report = doctor.examine(comfyui=comfyui)
    assert [advice.text for advice in must(report)] == ["For the small model there is no file of: vae."]
    assert small_model.VAE in next(one.missing for one in report.workflows if one.name == "video_to_foley")


def test_the_command_gives_json_and_its_status(complete, capsys):
    assert cli.main(["doctor", "--json", "--comfyui", str(complete)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["is_well"] and torch.__version__.startswith(said["machine"]["needed"][0]["version"])
    assert {file["network"] for file in said["files"]} == {"transformer", "vae", "siglip2", "synchformer", "clap", "tokenizer"}


def test_torch_that_cannot_be_imported_is_said(comfyui, monkeypatch):
    monkeypatch.setattr(machine, "_devices", lambda _: ([], "libcudart.so.13: cannot open shared object file"))
    report = doctor.examine(comfyui=comfyui)
    assert not report.looked and "--force-reinstall torch" in must(report)[0].command
