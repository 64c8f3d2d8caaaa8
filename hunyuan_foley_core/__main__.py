import os
import sys

if not __package__:  # started by its path: ComfyUI's portable Python for Windows does not look into the current folder
    import runpy
    from pathlib import Path

    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    runpy.run_module("hunyuan_foley_core", run_name="__main__", alter_sys=True)  # ends the process

if hasattr(sys.stdout, "reconfigure"):  # a pipe on Windows may lack the characters of a name
    sys.stdout.reconfigure(errors="backslashreplace")

if sys.argv[1:2] == ["doctor"]:
    from .cli_doctor import main

    sys.exit(main(sys.argv[2:]))

try:
    from .cli import main
except ModuleNotFoundError as error:
    from .errors import MissingPackageError

    missing = f"The Python package {error.name} is not installed for {sys.executable}."
    sys.exit(str(MissingPackageError(missing, "It comes with ComfyUI.", "`python -m hunyuan_foley_core doctor` says more.")))
status = main()
if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # one of those that torchrun started
    from .train.sharding import leave

    leave(status)
sys.exit(status)
