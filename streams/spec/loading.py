"""Loads a pipeline from its author's file; a mistake in there is one line: where, what, and how.

A file is named as Python names modules (`team.orders`), or by its path (`./orders.py`).
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from streams import spec
from streams.errors import ConfigurationError, PipelineError
from streams.spec.functions import short
from streams.spec.pipeline import Pipeline

_NO_FILE = "run where it can be imported, as in my_team.my_pipeline, or give the file's path"
_HINTS: dict[type[BaseException], str] = {
    NameError: "import or define it above",
    KeyError: "use a name that is there",
    AttributeError: "use a name that it has",
    FileNotFoundError: "give a path that is there, from the pipeline's own directory",
}


def load_pipeline(module: str) -> Pipeline:
    """The pipeline that a module, or the file at a path, declares as `pipeline`.

    Raises:
        ConfigurationError: there is none; or its file fails, with the line where it does.
    """
    if not module:
        raise ConfigurationError("no pipeline given - set DRIFTLOOP_PIPELINE, or name its module")
    by_path = module.endswith(".py") or "/" in module
    found = _from_path(Path(module)) if by_path else _from_name(module)
    pipeline = getattr(found, "pipeline", None)
    if isinstance(pipeline, Pipeline):
        return pipeline
    if pipeline is not None:
        raise ConfigurationError(
            f"{module}: pipeline is a {type(pipeline).__name__}, not a Pipeline - assign "
            "pipeline = Pipeline(...), with nothing around or behind it"
        )
    others = [name for name, value in vars(found).items() if isinstance(value, Pipeline)]
    mend = f"rename {others[0]} to pipeline" if others else "assign one: pipeline = Pipeline(...)"
    raise ConfigurationError(f"{module} declares no pipeline - {mend}{_hidden(found)}")


def _from_path(path: Path) -> ModuleType:
    """The module in a file. What it imports is found from where its package begins."""
    if not path.is_file():
        raise ConfigurationError(f"no file {path} - give the path of a pipeline's .py file")
    path = path.resolve()
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    name = ".".join(parts)
    found = _find(name)
    if found is None or found.origin is None or Path(found.origin).resolve() != path:
        raise ConfigurationError(
            f"{path} has a name that is taken: Python reads {name} from "
            f"{found.origin if found else 'elsewhere'} - rename the file"
        )
    return _imported(name)


def _from_name(name: str) -> ModuleType:
    if name.startswith(".") or _find(name) is None:
        raise ConfigurationError(f"no module {name!r} - {_NO_FILE}")
    return _imported(name)


def _find(name: str) -> ModuleSpec | None:
    """Where Python would read a module; None for nowhere."""
    try:
        return importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # a package above it is none; an empty part
        return None
    except Exception as error:  # the package's own code
        raise explained(error) from error


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and whatever an author derives from it
        raise explained(error, str(getattr(_find(name), "origin", ""))) from error


def _hidden(found: ModuleType) -> str:
    """Says that a file in the working directory is hidden by a module of that name."""
    here = Path.cwd() / f"{found.__name__}.py"
    origin = getattr(found, "__file__", None)
    if not here.is_file() or (origin and Path(origin).resolve() == here.resolve()):
        return ""
    return f"; a module of Python's own hides ./{here.name}: rename that file"


def explained(error: BaseException, file: str = "") -> ConfigurationError:
    """An error in an author's code as one line: the file and line, what went wrong, the mend.

    `file` is named where the error does not say which it is.
    """
    if isinstance(error, SyntaxError):
        where = f"{short(error.filename or file or '?')}, line {error.lineno or 1}"
        return ConfigurationError(f"{where}: {error.msg} - correct the line")
    where = _place(error)
    if isinstance(error, PipelineError):
        return ConfigurationError(f"{where}: {error}" if where else str(error))
    where = where or "the pipeline"
    if isinstance(error, SystemExit):
        return ConfigurationError(f"{where}: ends the program - declare a pipeline and no more")
    said = " ".join(str(error).partition("For further information visit")[0].split())
    said = said or "no reason given"
    if isinstance(error, KeyError):
        said = f"there is no {said}"
    return ConfigurationError(f"{where}: {type(error).__name__}: {said[:300]} - {_mend(error)}")


def _place(error: BaseException) -> str:
    """The innermost line of the author's own code (not of Python, packages, or ours), if any."""
    places = [
        (frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    own = {file for file in {file for file, _ in places} if _own(file)}
    for file, line in reversed(places):
        if file in own:
            return f"{short(file)}, line {line}"
    return ""


def _own(file: str) -> bool:
    if file.startswith("<"):
        return False
    path = Path(file).resolve()
    ours = Path(spec.__file__).parents[1]
    inside = path.is_relative_to(ours) and not path.is_relative_to(ours / "pipelines")
    return not inside and not any(path.is_relative_to(home) for home in _not_authors())


def _not_authors() -> Iterator[Path]:
    """Where Python's own code and packages are, and the command line's."""
    yield Path(traceback.__file__).resolve().parent
    yield Path(spec.__file__).resolve().parents[2] / "workers"
    for entry in sys.path:
        if "site-packages" in entry or "dist-packages" in entry:
            yield Path(entry).resolve()


def _mend(error: BaseException) -> str:
    said = str(error)
    if isinstance(error, ModuleNotFoundError):
        return "install its package, or correct the name"
    if isinstance(error, ImportError):
        return _mend_of_import(error)
    if match := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", said):
        known = _arguments(match[1])
        near = difflib.get_close_matches(match[2], known, 1)
        return f"write {near[0]}=" if near else f"{match[1]} takes: {', '.join(known)}"
    if match := re.search(r"(\w+)\.__init__\(\) missing .*: (.+)$", said):
        return f"give {match[2]}" + (" by name" if "keyword-only" in said else "")
    return next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), "correct it")


def _mend_of_import(error: ImportError) -> str:
    if "circular import" in str(error):
        return "move what both files need to a third one"
    if "cannot import name" not in str(error):
        return "install what it asks for"
    if error.path and _own(error.path):
        return f"import a name that it has, or rename {short(error.path)} if it hides a package"
    return "import a name that the module has"


def _arguments(name: str) -> list[str]:
    """The arguments of one of the classes that a pipeline is declared with."""
    declared = getattr(spec, name, None)
    if not isinstance(declared, type) or not is_dataclass(declared):
        return ["no such argument"]
    return [one.name for one in fields(declared) if one.init]
