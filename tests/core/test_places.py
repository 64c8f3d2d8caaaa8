"""Folders of the user's, as they are read."""

from hunyuan_foley_core.places import files_below


def test_files_are_found_once_through_links_and_a_link_to_a_folder_above_ends(tmp_path):
    models, elsewhere = tmp_path / "models", tmp_path / "disk"
    for folder in (models / "vae", elsewhere / "deep"):
        folder.mkdir(parents=True)
        (folder / "file.safetensors").touch()
    (models / "linked").symlink_to(elsewhere, target_is_directory=True)
    (models / "again").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "deep" / "up").symlink_to(models, target_is_directory=True)
    found = [path.relative_to(models).as_posix() for path in files_below(models)]
    assert found == ["again/deep/file.safetensors", "vae/file.safetensors"]
