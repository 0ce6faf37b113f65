"""Builds the wheel: the package and the library that Go builds for this machine.

pip calls it (PEP 517): `pip install ./wrapper/python`. Without pip, `python3
wrapper/python/backend.py [folder]` makes the wheel; it is installed where there is
neither Go nor a compiler. It imports only the standard library, so that an install
needs no network.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "moelb"
VERSION = re.search(r'Version = "(.*)"', (HERE / "../../moelb.go").read_text())[1]
METADATA = f"""Metadata-Version: 2.1
Name: {NAME}
Version: {VERSION}
Summary: Balanced placement of Mixture-of-Experts experts
License: MIT
Requires-Python: >=3.9
"""


def _builder():
    """moelb/_build.py by itself: importing the package would want the library."""
    spec = importlib.util.spec_from_file_location("moelb_build", HERE / "moelb/_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    builder = _builder()
    root = builder.module_root()
    if root is None:
        raise SystemExit("moelb: the wheel is built from its source tree, which has go.mod and wrapper/c")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    tag = f"py3-none-{platform}"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, builder.NAME)
        try:
            builder.build(root, library)
        except builder.BuildError as e:
            raise SystemExit(f"moelb: {e}") from None
        info = f"{NAME}-{VERSION}.dist-info"
        files = {f.relative_to(HERE).as_posix(): f.read_bytes() for f in sorted((HERE / "moelb").rglob("*")) if f.suffix == ".py" or f.name == "py.typed"}
        files[f"moelb/{builder.NAME}"] = library.read_bytes()
    files[f"{info}/METADATA"] = METADATA.encode()
    files[f"{info}/entry_points.txt"] = b"[vllm.general_plugins]\nmoelb = moelb.integrations.vllm:register\n"
    files[f"{info}/LICENSE"] = (root / "LICENSE").read_bytes()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: moelb\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    name = f"{NAME}-{VERSION}-{tag}.whl"
    record = ""
    with zipfile.ZipFile(Path(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(content)}\n"
            wheel.writestr(path, content)
        wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return name


def build_sdist(sdist_directory, config_settings=None):
    raise SystemExit("moelb: there is no source distribution apart from the repository: build a wheel")


if __name__ == "__main__":
    if len(sys.argv) > 2 or sys.argv[1:] == ["--help"]:
        raise SystemExit("usage: backend.py [FOLDER]: builds the wheel into FOLDER, else into the current one")
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    target.mkdir(parents=True, exist_ok=True)
    print(target / build_wheel(target))
