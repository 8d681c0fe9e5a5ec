"""The rules on code, on descriptions written by hand."""

from __future__ import annotations

import sys

import pytest
from claims import call, description, use

from fifomark.core.findings import Finding, Level
from fifomark.core.policy import Policy
from fifomark.sanitizer.allowlist import BUILDING_BLOCKS, PLAIN_DATA, from_unknown_package
from fifomark.sanitizer.code_rules import MAX_CALLS, MAX_FINDINGS, disarmed, judge
from fifomark.torchfile.description import Description


def codes(seen: Description, policy: Policy = Policy()) -> list[tuple[str, Level]]:  # noqa: B008
    return [(finding.code, finding.level) for finding in judge(seen, policy).findings]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("torch._utils._rebuild_tensor_v2", "call"),
        ("torch._utils._rebuild_parameter", "call"),
        ("torch.FloatStorage", "storage"),
        ("torch.storage.UntypedStorage", "storage"),
        ("torch.bfloat16", "dtype"),
        ("collections.OrderedDict", "call"),
        ("builtins.set", "call"),
        ("torch.nn.modules.linear.Linear", "module"),
    ],
)
def test_a_building_block_used_as_it_should_be_is_no_finding(name: str, how: str) -> None:
    assert codes(description(globals=(use(name, how),))) == []
    assert codes(description(globals=(use(name),))) == []


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("torch.nn.modules.linear.Linear", "call"),
        ("torch.nn.modules.linear.Linear", "new"),
        ("torch.nn.functional.relu", "call"),
        ("torch.FloatStorage", "call"),
        ("torch.float32", "call"),
        ("builtins.list", "call"),
        ("torch._utils._rebuild_tensor_v2", "new"),
    ],
)
def test_a_building_block_used_otherwise_is_unsafe_and_shows_in_would_run(name: str, how: str) -> None:
    seen = judge(description(globals=(use(name, how),), calls=(call(f"{name}(1)"),)), Policy())
    assert [(f.code, f.level) for f in seen.findings] == [("FM211", Level.UNSAFE)]
    assert seen.would_run == (f"{name}(1)",)


@pytest.mark.parametrize("how", ["call", "new", "module", "storage", "dtype", "script"])
@pytest.mark.parametrize("name", ["posix.system", "builtins.eval", "torch.storage._load_from_bytes", "subprocess.Popen", "somebody.Thing"])
def test_what_is_on_no_list_is_unsafe_however_it_is_used(name: str, how: str) -> None:
    expected = "FM203" if (name, how) == ("somebody.Thing", "module") else "FM201"
    assert [code for code, _ in codes(description(globals=(use(name, how),)))] == [expected]


def test_a_call_shows_with_its_arguments() -> None:
    seen = judge(
        description(globals=(use("posix.system", "call"),), calls=(call("posix.system('id')"), call("posix.system('ls')"))), Policy()
    )
    assert seen.would_run == ("posix.system('id')", "posix.system('ls')")
    assert "posix.system('id')" in seen.findings[0].message
    assert seen.findings[0].evidence == "posix.system('id'); posix.system('ls')"


def test_a_call_that_the_parser_did_not_list_shows_all_the_same() -> None:
    assert judge(description(globals=(use("evil.Thing", "new"),)), Policy()).would_run == ("evil.Thing()",)


def test_calls_of_building_blocks_do_not_show() -> None:
    honest = description(globals=(use("collections.OrderedDict", "call"),), calls=(call("collections.OrderedDict()"),))
    assert judge(honest, Policy()).would_run == ()


def test_what_is_only_named_is_unsafe_as_an_import() -> None:
    seen = judge(description(globals=(use("posix.system"),)), Policy())
    assert [(f.code, f.level) for f in seen.findings] == [("FM202", Level.UNSAFE)]
    assert seen.would_run == ()


@pytest.mark.parametrize(
    "name", ["torch.nn.modules.module.torch.serialization.os.system", "torch.nn.modules.conv.Any", "torch.FloatStorage.from_file"]
)
def test_no_prefix_lets_a_name_through(name: str) -> None:
    assert codes(description(globals=(use(name),))) == [("FM202", Level.UNSAFE)]


def test_plain_data_is_a_warning() -> None:
    assert codes(description(globals=(use("argparse.Namespace", "new"),))) == [("FM205", Level.WARNING)]


def test_the_operator_can_add_to_the_plain_data_by_its_exact_name() -> None:
    seen = description(globals=(use("lab.Config", "call"), use("lab.Config2", "call")))
    assert codes(seen, Policy(allow=("lab.Config",))) == [("FM201", Level.UNSAFE), ("FM205", Level.WARNING)]


def test_the_operator_cannot_allow_the_misuse_of_a_building_block() -> None:
    seen = description(globals=(use("torch.FloatStorage", "call"),))
    assert codes(seen, Policy(allow=("torch.FloatStorage",))) == [("FM211", Level.UNSAFE)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("__main__.Net", "FM203"),
        ("models.resnet.Net", "FM203"),
        ("torchvision.models.resnet.ResNet", "FM203"),
        ("tempfile._TemporaryFileCloser", "FM201"),
        ("numpy.lib.npyio.NpzFile", "FM201"),
        ("torch.utils.data.DataLoader", "FM201"),
    ],
)
def test_a_module_of_an_unknown_class_is_taken_unless_its_package_is_known(name: str, code: str) -> None:
    assert [code for code, _ in codes(description(globals=(use(name, "module"),)))] == [code]


def test_what_hands_on_its_argument_belongs_in_torchscript_only() -> None:
    tagged = use("torch.jit._pickle.restore_type_tag", "call")
    assert codes(description(globals=(tagged,))) == [("FM211", Level.UNSAFE)]
    assert codes(description(container="torchscript", globals=(tagged,))) == [("FM204", Level.WARNING)]


def test_torchscript_classes_are_one_warning() -> None:
    seen = description(container="torchscript", globals=(use("__torch__.Net", "script"), use("__torch__.Linear", "script")))
    assert codes(seen) == [("FM204", Level.WARNING)]


def test_torchscript_names_are_nothing_special_in_another_container() -> None:
    assert codes(description(globals=(use("__torch__.Net", "script"),))) == [("FM201", Level.UNSAFE)]


def test_a_torchscript_class_that_is_called_is_unsafe() -> None:
    seen = description(container="torchscript", globals=(use("__torch__.Net", "script", "call"),))
    assert ("FM201", Level.UNSAFE) in codes(seen)


def test_findings_and_calls_are_capped_and_the_worst_stay() -> None:
    many = (*(use(f"argparse.Namespace{i}", "call") for i in range(MAX_FINDINGS)), use("posix.system", "call"))
    seen = judge(description(globals=many), Policy(allow=tuple(f"argparse.Namespace{i}" for i in range(MAX_FINDINGS))))
    assert len(seen.findings) == MAX_FINDINGS
    assert seen.findings[0].level is Level.UNSAFE
    calls = tuple(call(f"os.system({i})") for i in range(MAX_CALLS + 5))
    assert len(judge(description(globals=(use("os.system", "call"),), calls=calls), Policy()).would_run) == MAX_CALLS


def test_disarming_turns_code_into_warnings_and_says_so() -> None:
    findings = disarmed(
        judge(description(globals=(use("posix.system", "call"), use("os.path"), use("torch.float32", "call"))), Policy()).findings
    )
    assert {f.code for f in findings} == {"FM201", "FM202", "FM211", "FM210"}
    assert {f.level for f in findings} == {Level.WARNING}


def test_disarming_leaves_everything_else_as_it_is() -> None:
    others = [
        Finding(code=code, level=Level.UNSAFE, where="", message="", evidence=None, advice="") for code in ("FM109", "FM208", "FM209")
    ]
    assert disarmed(others) == others


def test_the_lists_are_apart_and_give_reasons() -> None:
    assert not set(BUILDING_BLOCKS) & set(PLAIN_DATA)
    assert all(block.reason for block in BUILDING_BLOCKS.values())
    assert all(block.reason for block in PLAIN_DATA.values())


def test_the_standard_library_is_no_unknown_package() -> None:
    unknown = {name for name in sys.stdlib_module_names if from_unknown_package(f"{name}.x")}
    assert unknown <= {"__main__"}


def test_layers_that_are_listed_are_torchs_own_modules() -> None:
    import importlib

    import torch

    gone = {"torch.nn.modules.linear._LinearWithBias"}  # since torch 1.8
    for name, block in BUILDING_BLOCKS.items():
        if "module" in block.uses and name not in gone:
            home, _, attribute = name.rpartition(".")
            assert issubclass(getattr(importlib.import_module(home), attribute), torch.nn.Module)


def test_functions_that_are_listed_make_tensors_of_tensors() -> None:
    import torch

    forbidden = {"load", "save", "from_file", "frombuffer", "from_numpy", "ones", "zeros", "empty", "full", "arange", "compile", "vmap"}
    kept = {name.rpartition(".")[2] for name, block in BUILDING_BLOCKS.items() if "function of tensors" in block.reason}
    assert not kept & forbidden
    for name in kept:
        homes = (torch, torch.Tensor, torch.nn.functional, torch._C._nn)
        assert any(callable(getattr(home, name, None)) for home in homes), name


@pytest.mark.parametrize("name", ["builtins.getattr", "builtins.eval"])
def test_an_attribute_is_judged_by_its_own_name(name: str) -> None:
    expected = [] if name == "builtins.getattr" else [("FM201", Level.UNSAFE)]
    assert codes(description(globals=(use(name, "attribute"),))) == expected


@pytest.mark.parametrize("how", [("call",), ("attribute", "call"), ("new",), ()])
def test_getattr_in_any_other_way_is_unsafe(how: tuple[str, ...]) -> None:
    assert [level for _, level in codes(description(globals=(use("builtins.getattr", *how),)))] == [Level.UNSAFE]


@pytest.mark.parametrize(
    "name", ["collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "argparse.Namespace", "pathlib.Path", "os.environ"]
)
def test_what_is_patched_is_unsafe_whatever_it_is(name: str) -> None:
    assert [level for _, level in codes(description(globals=(use(name, "patch"),)), Policy(allow=("os.environ",)))] == [Level.UNSAFE]
