"""Starts a recording where memheft.pth is not read (an editable install, a folder on PYTHONPATH).

`memheft run` puts this folder first on PYTHONPATH.  The interpreter imports us as its `sitecustomize`; we
start the recording as memheft.pth does, take back every trace of ourselves, and import the real
`sitecustomize`. When there is none, that import fails in our place, which `site` takes for what it is: no
`sitecustomize` at all.
"""

import os
import sys

_folder = os.path.dirname(__file__)
_boot = os.environ.get("MEMHEFT_BOOT")
if _boot:
    import _imp

    _modules = set(sys.modules)
    try:
        _spec = type(sys.implementation)(name="memheft._engine", origin=_boot.split("|")[1])  # type: ignore[call-arg]
        _imp.create_dynamic(_spec)  # type: ignore[arg-type]
    except (ImportError, IndexError):
        pass  # the watcher says that the recording never started
    for _name in set(sys.modules) - _modules:  # in development mode, loading us looks up a codec
        del sys.modules[_name]
    del os.environ["MEMHEFT_BOOT"]
    if "MEMHEFT_PYTHONPATH" in os.environ:
        os.environ["PYTHONPATH"] = os.environ.pop("MEMHEFT_PYTHONPATH")
    else:
        os.environ.pop("PYTHONPATH", None)
if _folder in sys.path:
    sys.path.remove(_folder)
sys.path_importer_cache.pop(_folder, None)
sys.modules.pop("sitecustomize", None)
import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401
