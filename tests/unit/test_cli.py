"""The command line: what it prints where, and its exit codes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import expected
import pytest

import hub_compat
from hub_compat import cli
from hub_compat.errors import DestinationError, FormatError, VerificationError
from hub_compat.formats import (
    ConversionReport,
    Detection,
    Format,
    Producer,
    SignatureComparison,
    Variant,
    VerificationReport,
)

VARIANTS = (Variant((), ("default", "logits")), Variant(("train",), ("default",)))
DETECTION = Detection(
    path="some/module",
    format=Format.TF1_HUB_MODULE,
    file="saved_model.pb",
    variants=VARIANTS,
    producer=Producer("1.15.5", 134),
    evidence=("tfhub_module.pb names format 3", "no object graph"),
)


def _report(**changes: Any) -> ConversionReport:
    """A report with something in every field, whatever fields there are."""
    values: Dict[str, Any] = {
        "str": "somewhere",
        "int": 1234567,
        "float": 0.25,
        "Format": Format.TF1_HUB_MODULE,
        "Optional[str]": "default",
        "Tuple[Variant, ...]": VARIANTS,
        "Tuple[str, ...]": (),
        "Optional[VerificationReport]": None,
    }
    fields = dataclasses.fields(ConversionReport)
    arguments = {field.name: values[str(field.type)] for field in fields}
    arguments.update(changes)
    return ConversionReport(**arguments)


# The fakes below go into the module's dictionary: setattr() would first look up
# the lazy name, and so import TensorFlow.


def _main(*arguments: str) -> int:
    return cli.main(["hub-compat"] + list(arguments))


def _run(
    *arguments: str, environ: Optional[Dict[str, str]] = None
) -> subprocess.CompletedProcess[bytes]:
    package_parent = os.path.dirname(os.path.dirname(hub_compat.__file__))
    return subprocess.run(
        [sys.executable, "-m", "hub_compat"] + list(arguments),
        env=dict(os.environ, PYTHONPATH=package_parent, **(environ or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
    )


@pytest.fixture
def detect_calls(monkeypatch: Any) -> List[str]:
    """Replaces detect(): paths that end in "bad" fail; returns those asked for."""
    calls: List[str] = []

    def detect(path: str) -> Detection:
        calls.append(path)
        if path.endswith("bad"):
            raise FormatError("Not a module. Received: {!r}".format(path))
        return dataclasses.replace(DETECTION, path=path)

    monkeypatch.setitem(vars(hub_compat), "detect", detect)
    return calls


@pytest.fixture
def convert_calls(monkeypatch: Any) -> List[Dict[str, Any]]:
    """Replaces convert(): destination "taken" fails; returns the arguments."""
    calls: List[Dict[str, Any]] = []

    def convert(source: str, destination: str, **options: Any) -> ConversionReport:
        calls.append(dict(options, source=source, destination=destination))
        if destination == "taken":
            raise DestinationError("It exists. Received: 'taken'")
        return _report(source=source, destination=destination, warnings=("careful",))

    monkeypatch.setitem(vars(hub_compat), "convert", convert)
    return calls


def test_detect_is_readable(detect_calls: List[str], capsys: Any) -> None:
    """Without --json, a person reads format, producer, variants and evidence."""
    assert _main("detect", "a/module") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in ("a/module", "TF1 Hub module", "TensorFlow 1.15.5", "no object graph"):
        assert text in out
    assert "(no tags)  default, logits" in out
    assert "train      default" in out


def test_detect_json_is_a_list_of_plain_objects(
    detect_calls: List[str], capsys: Any
) -> None:
    """--json prints the dataclass's fields; enums are their values."""
    assert _main("detect", "--json", "a/module") == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["path"] == "a/module"
    assert document["format"] == "tf1_hub_module"
    assert document["variants"][1] == {"tags": ["train"], "signatures": ["default"]}
    assert document["producer"]["tensorflow_version"] == "1.15.5"


def test_detect_reports_every_directory(detect_calls: List[str], capsys: Any) -> None:
    """One failure neither hides the other directories nor goes unnoticed."""
    assert _main("detect", "one", "bad", "two") == 1
    out, err = capsys.readouterr()
    assert detect_calls == ["one", "bad", "two"]
    assert out.index("one") < out.index("two")
    assert err == "hub-compat: error: Not a module. Received: 'bad'\n"


def test_detect_json_holds_the_errors_too(detect_calls: List[str], capsys: Any) -> None:
    """The list has an entry per directory, in order; failures say which error."""
    assert _main("detect", "bad", "two", "--json") == 1
    bad, two = json.loads(capsys.readouterr().out)
    assert bad["path"] == "bad"
    assert bad["error"]["type"] == "FormatError"
    assert "Not a module" in bad["error"]["message"]
    assert two["path"] == "two"


def test_convert_passes_its_flags_on(
    convert_calls: List[Dict[str, Any]], capsys: Any
) -> None:
    """Flags may stand before, between and after the arguments."""
    assert _main("convert", "a", "b") == 0
    assert _main("convert", "--overwrite", "a", "--link=copy", "b", "--json") == 0
    assert _main("convert", "a", "b", "--verify") == 0
    assert _main("convert", "a", "b", "--tolerance=0.5") == 0
    assert _main("convert", "a", "b", "--target=tf1.15") == 0
    assert _main("convert", "a", "b", "--follow-links") == 0
    assert _main("convert", "a", "b", "--slim") == 0
    plain = {"source": "a", "destination": "b", "overwrite": False, "link": "auto"}
    plain.update(verify=False, tolerance=None, target=None, follow_links=False)
    plain.update(slim=False)
    assert convert_calls == [
        plain,
        dict(plain, overwrite=True, link="copy"),
        dict(plain, verify=True),
        dict(plain, verify=True, tolerance=0.5),
        dict(plain, target="tf1.15"),
        dict(plain, follow_links=True),
        dict(plain, slim=True),
    ]


def test_prune_empties_the_cache(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """It says what it removed; with nothing there, that is nothing."""
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", str(tmp_path / "cache"))
    assert _main("prune") == 0
    assert "0 converted modules" in capsys.readouterr().out
    (tmp_path / "cache" / "ab" / ("ab" * 32)).mkdir(parents=True)
    assert _main("prune", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "entries": 1,
        "leftovers": 0,
        "size": 0,
        "directory": str(tmp_path / "cache"),
    }
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", "gs://bucket/cache")
    assert _main("prune") == 1
    assert "Only a local cache" in capsys.readouterr().err


def test_verification_is_readable(monkeypatch: Any, capsys: Any) -> None:
    """A person reads how many signatures were compared, and why others were not."""
    report = VerificationReport(
        tolerance=1e-5,
        signatures=(
            SignatureComparison(
                (), "default", ("y",), skipped=("z: uses Multinomial",),
                largest_absolute=2.5e-7, largest_relative=1e-7,
            ),
            SignatureComparison(("train",), "default", (), "uses RandomUniform"),
        ),
        seconds=0.5,
    )  # fmt: skip
    monkeypatch.setitem(
        vars(hub_compat), "convert", lambda *_, **__: _report(verification=report)
    )
    assert _main("convert", "a", "b", "--verify") == 0
    out = capsys.readouterr().out
    for text in (
        "1 of 2 signatures compared; largest difference 2.5e-07, relative 1e-07",
        "not compared: (no tags): default: z: uses Multinomial",
        "not compared: train: default: uses RandomUniform",
    ):
        assert text in out


def test_failed_verification_is_in_the_json(monkeypatch: Any, capsys: Any) -> None:
    """With --json the report comes along with the error; the exit code is 1."""

    def convert(*_: Any, **__: Any) -> None:
        error = VerificationError("They differ. Received: 'a'")
        error.report = VerificationReport(
            1e-5, (SignatureComparison((), "default", ("y",), mismatches=("y",)),), 0.5
        )
        raise error

    monkeypatch.setitem(vars(hub_compat), "convert", convert)
    assert _main("convert", "a", "b", "--verify", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["type"] == "VerificationError"
    assert document["verification"]["signatures"][0]["mismatches"] == ["y"]


def test_convert_is_readable(convert_calls: List[Dict[str, Any]], capsys: Any) -> None:
    """Without --json, a person reads what became of the module."""
    assert _main("convert", "a", "b") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in ("a -> b", 'signature "default"', "1.2 MB linked", "careful"):
        assert text in out


def test_convert_json_is_one_object(
    convert_calls: List[Dict[str, Any]], capsys: Any
) -> None:
    """--json prints every field of the report."""
    assert _main("convert", "a", "b", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {f.name for f in dataclasses.fields(ConversionReport)}
    assert document["warnings"] == ["careful"]


def test_convert_failure(convert_calls: List[Dict[str, Any]], capsys: Any) -> None:
    """An error is one message on standard error, and exit code 1."""
    assert _main("convert", "a", "taken") == 1
    assert capsys.readouterr() == (
        "",
        "hub-compat: error: It exists. Received: 'taken'\n",
    )
    assert _main("convert", "a", "taken", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["destination"] == "taken"
    assert document["error"]["type"] == "DestinationError"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a command is missing"),
        (["frobnicate"], "unknown command"),
        (["detect"], "usage: hub-compat detect DIR..."),
        (["convert", "a"], "usage: hub-compat convert DIR OUT; received: a"),
        (["convert", "a", "b", "c"], "received: a b c"),
        (["convert", "a", "b", "--link=soft"], "auto|hard|copy"),
        (["convert", "a", "b", "--tolerance=-1"], "tolerance"),
        (["detect", "a", "--jsno"], "jsno"),
    ],
)
def test_bad_usage(arguments: List[str], message: str, capsys: Any) -> None:
    """A command line that makes no sense is explained, with exit code 2."""
    assert _main(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hub-compat: error: ")
    assert message in err
    assert "--help" in err


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--help"], ["COMMAND", "detect DIR...", "convert DIR OUT", "--version"]),
        (["-h"], ["COMMAND"]),
        (["detect", "--help"], ["detect DIR...", "--json"]),
        (["--help", "convert"], ["--overwrite", "auto|hard|copy", "Default: auto"]),
    ],
)
def test_help(arguments: List[str], texts: List[str], capsys: Any) -> None:
    """Help goes to standard output and names commands and flags."""
    assert _main(*arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in texts:
        assert text in out


def test_version(capsys: Any) -> None:
    """--version prints the package's version."""
    assert _main("--version") == 0
    assert capsys.readouterr().out == "hub-compat {}\n".format(hub_compat.__version__)


def test_a_path_may_begin_with_a_dash(detect_calls: List[str], capsys: Any) -> None:
    """After --, everything is an argument."""
    assert _main("detect", "--", "--json") == 0
    assert detect_calls == ["--json"]


def test_interrupt(monkeypatch: Any, capsys: Any) -> None:
    """Ctrl-C ends with 130 and without a traceback."""

    def detect(path: str) -> Detection:
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(hub_compat), "detect", detect)
    assert _main("detect", "a") == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_closed_pipe_is_no_traceback() -> None:
    """`hub-compat ... | head` ends quietly when head has had enough."""
    package_parent = os.path.dirname(os.path.dirname(hub_compat.__file__))
    process = subprocess.Popen(
        [sys.executable, "-m", "hub_compat", "--help"],
        env=dict(os.environ, PYTHONPATH=package_parent),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert err == b""


def test_detect_imports_no_tensorflow(tmp_path: Path) -> None:
    """The detector's answer comes without TensorFlow, also for an error."""
    (tmp_path / "tensorflow").mkdir()
    code = "raise RuntimeError('tensorflow was imported')"
    (tmp_path / "tensorflow" / "__init__.py").write_text(code)
    runner = (
        "import sys; sys.path.insert(0, sys.argv.pop(1));"
        "from hub_compat.cli import main; sys.exit(main())"
    )
    package_parent = os.path.dirname(os.path.dirname(hub_compat.__file__))
    result = subprocess.run(
        [sys.executable, "-c", runner, str(tmp_path), "detect", str(tmp_path)],
        env=dict(os.environ, PYTHONPATH=package_parent),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(b"hub-compat: error: ")
    assert b"Traceback" not in result.stderr


@pytest.mark.skipif(
    not os.environ.get("HUB_COMPAT_TEST_INSTALLED"), reason="nothing is installed"
)
def test_the_installed_command() -> None:
    """The wheel puts hub-compat next to Python."""
    command = Path(sys.executable).parent / "hub-compat"
    output = subprocess.check_output([str(command), "--version"])
    assert output.decode().split() == ["hub-compat", hub_compat.__version__]


@pytest.mark.parametrize("name", expected.module_names())
def test_detect_on_real_modules(name: str, capsys: Any) -> None:
    """Every recorded module is found to be what it is."""
    recorded = expected.load_expected(name)
    assert _main("detect", str(recorded.path), "--json") == 0
    (document,) = json.loads(capsys.readouterr().out)
    marker = (recorded.path / "tfhub_module.pb").exists()
    assert document["format"] == ("tf1_hub_module" if marker else "tf1_saved_model")
    tags = {tuple(variant["tags"]) for variant in document["variants"]}
    assert tags == set(recorded.variants)


@pytest.mark.modeless
@pytest.mark.tensorflow
def test_convert_a_real_module(tmp_path: Path) -> None:
    """In a process of its own: a result, JSON alone on stdout, no chatter."""
    names = expected.module_names()
    if not names:
        pytest.skip("no recorded modules")
    source = expected.load_expected(names[0]).path
    out = tmp_path / "out"
    result = _run("convert", str(source), str(out), "--json")
    assert result.returncode == 0, result.stderr.decode()
    document = json.loads(result.stdout.decode())
    assert document["destination"] == str(out)
    assert document["format"] == "tf1_hub_module"
    assert (out / "saved_model.pb").exists()
    again = _run("convert", str(source), str(out))
    assert again.returncode == 1
    assert again.stdout == b""
    # TensorFlow 2.21 says things of its own on import, whatever it is told.
    assert again.stderr.splitlines()[-1].startswith(b"hub-compat: error: ")
    assert _run("convert", str(source), str(out), "--overwrite").returncode == 0
    assert hub_compat.detect(str(out)).format is Format.TF2_REUSABLE
