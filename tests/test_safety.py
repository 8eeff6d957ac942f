"""What the package may not do: unpickle, evaluate text, start a shell, or speak to the network but to download data."""

import ast
from pathlib import Path

import pytest

import minivae

PACKAGE = Path(minivae.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "subprocess", "pty"}
NETWORK = {
    "socket",
    "ssl",
    "http",
    "urllib",
    "ftplib",
    "smtplib",
    "telnetlib",
    "requests",
    "httpx",
    "aiohttp",
    "urllib3",
}
DOWNLOADER = "data/download.py"
CALLS = {"eval", "exec", "compile", "__import__"}  # by name alone: model.eval() is another thing
METHODS = {"os.system", "os.popen", "os.execv", "os.spawnv", "yaml.load", "torch.load"}


def faults(source: str, name: str = "x.py") -> list[str]:
    """What a source file does that it may not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.split(".")[-1] in ("import_module", "__import__") and isinstance(node.args[0], ast.Constant):
                names = [node.args[0].value]
            if called in CALLS | METHODS:
                found.append(called)
            for keyword in node.keywords:
                constant = getattr(keyword.value, "value", None)
                if keyword.arg == "shell" and constant is not False:
                    found.append("shell")
                if keyword.arg == "allow_pickle" and constant is not False:
                    found.append("allow_pickle")
        roots = {module.partition(".")[0] for module in names}
        found += sorted(roots & MODULES)
        if name != DOWNLOADER:
            found += sorted(roots & NETWORK)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_does_nothing_of_the_kind(path):
    assert faults(path.read_text(), path.relative_to(PACKAGE).as_posix()) == []


def test_arrays_are_read_without_pickles():
    """NumPy's readers refuse pickles by default; a reader of the format itself must be told to."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("format.read_array"):
                told = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert told.get("allow_pickle") == "False", path


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "def f():\n    import marshal", "import os, socket",
        "from urllib.request import urlopen", "import_module('pickle')", "eval('1')", "exec(text)", "os.system('ls')",
        "run('ls', shell=True)", "run('ls', shell=on)", "np.load(path, allow_pickle=True)", "__import__('pickle')",
        "import subprocess", "compile(text, '', 'exec')",
    ],
)  # fmt: skip
def test_each_of_these_would_be_found(source):
    assert faults(source)


def test_what_is_like_them_is_not():
    assert not faults("model.eval()\nimport json\nnp.load(path, allow_pickle=False)\nre.compile('a')")
    assert not faults("import urllib.request", DOWNLOADER)
    assert faults("import urllib.request", "data/mnist.py") == ["urllib"]
