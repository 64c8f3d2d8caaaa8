import sys

if sys.argv[1:2] == ["doctor"]:
    from .cli_doctor import main

    sys.exit(main(sys.argv[2:]))

try:
    from .cli import main
except ModuleNotFoundError as error:
    from .errors import MissingPackageError

    missing = f"The Python package {error.name} is not installed for {sys.executable}."
    sys.exit(str(MissingPackageError(missing, "It comes with ComfyUI.", "`python -m hunyuan_foley_core doctor` says more.")))
sys.exit(main())
