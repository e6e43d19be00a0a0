"""Plug-ins: what is found where, what is refused at start and in which words, and how requests read them."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from penstock_decoding.catalogue import SHIPPED
from penstock_decoding.errors import DecodingFault, ParameterError, PluginError
from penstock_decoding.params import Step, read_decoding
from penstock_decoding.plugins import ENTRY_POINTS, load_plugins
from penstock_decoding.processor import Ask
from penstock_decoding.processors import DEFAULT_ORDER, PROCESSORS
from penstock_decoding.strategies import STRATEGIES

EXAMPLES = Path(__file__).parents[2] / "examples"

HEAD = """
from dataclasses import dataclass
from penstock_decoding.errors import ParameterError
from penstock_decoding.strategies.sample import Sample
"""

PROCESSOR = """
@dataclass(frozen=True, slots=True)
class AddParams:
    amount: float
    times: int = 1

    def __post_init__(self):
        if self.amount < 0:
            raise ParameterError("amount", "must be at least 0")

class Add:
    name = "add"
    Params = AddParams

    def plan(self, asks):
        return None
"""

STRATEGY = """
@dataclass(frozen=True, slots=True)
class TwiceParams:
    n: int = 1

class Twice(Sample):
    name = "twice"
    Params = TwiceParams
"""


def write(folder: Path, source: str, name: str = "mine.py") -> str:
    file = folder / name
    file.write_text(HEAD + source)
    return str(file)


def test_without_plugins_the_catalogue_is_what_is_shipped() -> None:
    catalogue = load_plugins()
    assert (dict(catalogue.processors), dict(catalogue.strategies)) == (PROCESSORS, STRATEGIES)
    assert (catalogue.default_order, dict(catalogue.origins)) == (DEFAULT_ORDER, {})


def test_file_gives_all_its_classes(tmp_path: Path) -> None:
    """Imported classes (here the shipped `Sample`) and private ones are no plug-ins."""
    file = write(tmp_path, PROCESSOR + STRATEGY + "class _Private(Sample):\n    pass\n")
    catalogue = load_plugins([file])
    assert [*catalogue.processors] == [*PROCESSORS, "add"]
    assert [*catalogue.strategies] == [*STRATEGIES, "twice"]
    assert catalogue.default_order == DEFAULT_ORDER
    assert dict(catalogue.origins) == {("processor", "add"): file, ("strategy", "twice"): file}
    assert catalogue.called("processor", "add") == "the plug-in processor 'add'"
    assert catalogue.called("processor", "top_k") == "the processor 'top_k'"


def test_loading_changes_no_table(tmp_path: Path) -> None:
    load_plugins([write(tmp_path, PROCESSOR + STRATEGY)])
    assert "add" not in PROCESSORS
    assert "twice" not in STRATEGIES
    assert "add" not in SHIPPED.processors


def test_one_class_of_a_file(tmp_path: Path) -> None:
    catalogue = load_plugins([write(tmp_path, PROCESSOR + STRATEGY) + ":Twice"])
    assert "twice" in catalogue.strategies
    assert "add" not in catalogue.processors


def test_module_and_class_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, PROCESSOR + STRATEGY, "my_penstock_plugin.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert {"add", "twice"} <= {*load_plugins(["my_penstock_plugin"]).processors, "twice"}
    assert "twice" in load_plugins(["my_penstock_plugin"]).strategies
    assert "add" not in load_plugins(["my_penstock_plugin:Twice"]).processors


def test_class_itself() -> None:
    @dataclass(frozen=True, slots=True)
    class Params:
        share: float = 0.5

    class Mine:
        name = "mine"

        def plan(self, asks: Sequence[Ask[Params]]) -> None:
            return None

    Mine.Params = Params  # type: ignore[attr-defined]
    assert load_plugins([Mine]).processors["mine"] is Mine  # type: ignore[comparison-overlap]


def test_two_files_of_one_name(tmp_path: Path) -> None:
    """Modules are told apart by their whole path."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    catalogue = load_plugins([write(tmp_path / "a", PROCESSOR), write(tmp_path / "b", STRATEGY)])
    assert ("add" in catalogue.processors, "twice" in catalogue.strategies) == (True, True)


class FakeEntryPoint(EntryPoint):
    """An entry point whose object is at hand."""

    loaded: Any

    def load(self) -> Any:
        if isinstance(type(self).loaded, Exception):
            raise type(self).loaded
        return type(self).loaded


def install(monkeypatch: pytest.MonkeyPatch, group: str, loaded: object) -> None:
    entry = type("Entry", (FakeEntryPoint,), {"loaded": loaded})("offered", "package.module:Class", group)

    def entry_points(*, group: str) -> EntryPoints:
        return EntryPoints([entry]).select(group=group)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)


def twice(tmp_path: Path) -> type[Any]:
    return load_plugins([write(tmp_path, STRATEGY)]).strategies["twice"]


def test_installed_packages_offer_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = twice(tmp_path)
    install(monkeypatch, "penstock.strategies", cls)
    catalogue = load_plugins()
    assert catalogue.strategies["twice"] is cls
    assert catalogue.origins["strategy", "twice"] == "entry point 'offered' of penstock.strategies"


@pytest.mark.parametrize("group", ENTRY_POINTS)
def test_broken_entry_point_is_named(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, group, ImportError("no module named lost"))
    told = rf"entry point 'offered' of {group}: cannot be loaded: ImportError: no module named lost"
    with pytest.raises(PluginError, match=told):
        load_plugins()


def test_entry_point_of_the_wrong_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "penstock.processors", twice(tmp_path))
    with pytest.raises(PluginError, match=r"package\.module:Class is not a processor class"):
        load_plugins()


REFUSED = {
    "broken_import": ("import nowhere_to_be_found", "cannot be loaded: ModuleNotFoundError: No module named"),
    "syntax": ("def (:", "cannot be loaded: SyntaxError: "),
    "exits": ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3"),
    "empty": ("", "there is no processor and no strategy in it"),
    "no_name": (PROCESSOR.replace('    name = "add"\n', ""), "class Add needs a name of small letters"),
    "bad_name": (PROCESSOR.replace('"add"', '"Add!"'), "class Add needs a name of small letters"),
    "no_params": (PROCESSOR.replace("    Params = AddParams\n", ""), "class Add needs Params, a frozen dataclass"),
    "thawed": (PROCESSOR.replace("frozen=True, ", ""), "its Params must be frozen"),
    "odd_type": (
        PROCESSOR.replace("times: int = 1", "times: set = None"),
        "its parameter 'times' has a type that JSON",
    ),
    "unknown_type": (PROCESSOR.replace("times: int", "times: 'Lost'"), "cannot be loaded: NameError: name 'Lost'"),
    "shipped_name": (
        PROCESSOR.replace('"add"', '"top_k"'),
        "there is a processor 'top_k' already, from Penstock itself",
    ),
    "needs_argument": (PROCESSOR + "    def __init__(self, size): ...\n", "class Add must be made with no argument"),
    "half_stateful": (
        PROCESSOR + "    def fork(self, source, target): ...\n    def release(self, slot): ...\n",
        r"class Add has fork\(\) but no rollback\(\)",
    ),
    "no_n": (STRATEGY.replace("n: int = 1", "m: int = 1"), "class Twice: its Params need a field n: int"),
    "float_n": (STRATEGY.replace("n: int = 1", "n: float = 1"), "class Twice: its Params need a field n: int"),
    "taken_field": (STRATEGY.replace("n: int = 1", "n: int = 1\n    chain: int = 1"), "cannot be called 'chain'"),
    "makes_nothing_of_params": (
        STRATEGY + "    def __init__(self): ...\n",
        "class Twice must be made with exactly its params",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused_in_one_line_that_names_the_file(fault: str, tmp_path: Path) -> None:
    source, told = REFUSED[fault]
    file = write(tmp_path, source)
    with pytest.raises(PluginError, match=told) as caught:
        load_plugins([file])
    assert str(caught.value).startswith(file)
    assert "\n" not in str(caught.value)


def test_name_given_twice_names_both_files(tmp_path: Path) -> None:
    first, second = (write(tmp_path, PROCESSOR, name) for name in ("a.py", "b.py"))
    with pytest.raises(PluginError, match=f"{second}: there is a processor 'add' already, from {first}"):
        load_plugins([first, second])


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("nowhere/mine.py", "nowhere/mine.py: there is no such file"),
        ("nowhere_to_be_found", "nowhere_to_be_found: cannot be loaded: ModuleNotFoundError"),
        ("penstock_decoding.read:T", "penstock_decoding.read: there is no class 'T' in it"),
        ("penstock_decoding.finish:Finish", "class Finish has neither a processor's plan"),
    ],
)
def test_nothing_to_load(named: str, told: str) -> None:
    with pytest.raises(PluginError, match=told):
        load_plugins([named])


def test_torch_at_the_top_is_refused_where_torch_is_not_loaded(tmp_path: Path) -> None:
    """The HTTP process loads plug-ins too, for their parameters; torch would cost it seconds and memory."""
    file = write(tmp_path, "import torch\n" + PROCESSOR)
    code = f"""
from penstock_decoding.errors import PluginError
from penstock_decoding.plugins import load_plugins
try:
    load_plugins([{file!r}])
except PluginError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{file}: imports torch; import it inside the functions that use it\n"


def test_examples_load_without_torch() -> None:
    files = [str(EXAMPLES / name) for name in ("plugin_processor.py", "plugin_strategy.py")]
    code = f"""
import sys
from penstock_decoding.plugins import load_plugins
catalogue = load_plugins({files!r})
print("torch" in sys.modules, *(name for _, name in catalogue.origins))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False watermark distinct_openings\n"


def read(tmp_path: Path, **fields: object) -> Any:
    catalogue = load_plugins([write(tmp_path, PROCESSOR + STRATEGY)])
    return read_decoding(fields, vocab_size=100, catalogue=catalogue), catalogue


def test_requests_name_them_like_any_other(tmp_path: Path) -> None:
    decoding, catalogue = read(
        tmp_path, n=3, decoding={"strategy": "twice", "chain": [{"add": 2}, {"top_k": 4}, {"temperature": 0.5}]}
    )
    assert decoding.strategy == Step("twice", catalogue.strategies["twice"].Params(n=3))
    assert decoding.chain[0] == Step("add", catalogue.processors["add"].Params(amount=2.0))
    assert [step.name for step in decoding.chain] == ["add", "top_k", "temperature"]


@pytest.mark.parametrize(
    ("decoding", "param", "told"),
    [
        ({"chain": [{"add": {"amount": -1}}]}, "decoding.chain[0].add.amount", "must be at least 0"),
        ({"chain": [{"add": {"amount": "x"}}]}, "decoding.chain[0].add.amount", "must be a number"),
        ({"chain": [{"add": {"amount": 1, "time": 2}}]}, "decoding.chain[0].add.time", "did you mean 'times'"),
        ({"chain": [{"ad": 1}]}, "decoding.chain[0].ad", "did you mean 'add'"),
        ({"strategy": "twicee"}, "decoding.strategy", "did you mean 'twice'"),
        ({"strategy": "twice", "width": 1}, "decoding.width", "unknown parameter"),
    ],
)
def test_their_parameters_are_checked_like_any_other(
    decoding: dict[str, object], param: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=told) as caught:
        read(tmp_path, decoding=decoding)
    assert caught.value.param == param


def test_without_the_plugin_its_name_is_unknown() -> None:
    with pytest.raises(ParameterError, match="unknown processor"):
        read_decoding({"decoding": {"chain": [{"add": 1}]}}, vocab_size=100)


def test_check_that_breaks_down_is_no_fault_of_the_caller(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`__post_init__` may raise anything: not a bare exception, which would tell the caller nothing, and not a 400."""
    source = PROCESSOR.replace('raise ParameterError("amount", "must be at least 0")', "1 / 0")
    catalogue = load_plugins([write(tmp_path, source)])
    with pytest.raises(DecodingFault, match=r"decoding.chain\[0\].add: AddParams failed: ZeroDivisionError"):
        read_decoding({"decoding": {"chain": [{"add": -1}]}}, vocab_size=100, catalogue=catalogue)
    assert "division by zero" in caplog.text
