"""Which weights are chosen, on descriptions written by hand."""

from __future__ import annotations

import pytest
from claims import description, entries, group

from fifomark.core.inspection import Form
from fifomark.sanitizer.forms import Chosen, choose
from fifomark.torchfile.description import Group


def chosen(*groups: Group, keys: tuple[str, ...] = ()) -> Chosen:
    return choose(description(groups=groups, root_keys=keys))


def names(choice: Chosen) -> list[str]:
    return [entry.name for entry in choice.entries]


def codes(choice: Chosen) -> list[str]:
    return [finding.code for finding in choice.findings]


def test_a_mapping_of_tensors_is_a_state_dict() -> None:
    choice = chosen(group("", "weight", "bias"))
    assert (choice.form, names(choice), codes(choice)) == ("state_dict", ["weight", "bias"], [])


def test_a_state_dict_with_a_few_other_things_is_still_one() -> None:
    choice = chosen(group("", "weight", others=("epoch", "_metadata")))
    assert (choice.form, codes(choice)) == ("state_dict", ["FM206"])
    assert "epoch" in choice.findings[0].message


@pytest.mark.parametrize("key", ["model_state_dict", "state_dict", "model_state", "model", "net", "network", "weights", "params", "module"])
def test_weights_under_a_known_key_are_a_checkpoint(key: str) -> None:
    keys = ("epoch", key, "optimizer", "ema")
    choice = chosen(
        group("", others=keys), group(key, "a.weight"), group("ema", "a.weight"), group("optimizer.state.0", "exp_avg"), keys=keys
    )
    assert (choice.form, names(choice), codes(choice)) == ("checkpoint", ["a.weight"], ["FM206"])
    assert choice.findings[0].evidence == "epoch, optimizer, ema"


def test_of_two_known_keys_the_first_on_the_list_is_taken() -> None:
    assert names(chosen(group("model", "other"), group("state_dict", "mine"))) == ["mine"]


def test_a_known_key_may_lie_one_level_down() -> None:
    choice = chosen(group("checkpoint.model", "a"), group("history.losses", "b"))
    assert (choice.form, names(choice)) == ("checkpoint", ["a"])


def test_the_only_candidate_is_taken_under_any_key() -> None:
    choice = chosen(group("brain", "w"), group("optimizer.state.0", "exp_avg"), group("lr_scheduler", "x"), group("rng_state", "y"))
    assert names(choice) == ["w"]


def test_tensors_beside_a_checkpoint_do_not_hide_it() -> None:
    choice = chosen(group("", "loss", others=("model",)), group("model", "a.weight", "a.bias"), keys=("loss", "model"))
    assert (choice.form, names(choice), codes(choice)) == ("checkpoint", ["a.weight", "a.bias"], ["FM206"])


def test_a_state_dict_that_holds_another_one_is_ambiguous() -> None:
    choice = chosen(group("", "fc.weight", "fc.bias"), group("state_dict", "fc.weight", "fc.bias", "x"))
    assert (choice.form, codes(choice)) == (None, ["FM307"])


def test_several_candidates_are_refused_by_name() -> None:
    choice = chosen(group("generator", "w"), group("discriminator", "w"))
    assert (choice.form, names(choice), codes(choice)) == (None, [], ["FM307"])
    assert "generator, discriminator" in choice.findings[0].message


@pytest.mark.parametrize(("kind", "form"), [("module", "module"), ("script", "torchscript")])
def test_modules_and_scripts_are_forms_of_their_own(kind: str, form: Form) -> None:
    assert chosen(group("", "a.weight", kind=kind)).form == form


def test_a_module_inside_a_checkpoint_is_a_module() -> None:
    assert chosen(group("", others=("model",)), group("model", "a.weight", kind="module")).form == "module"


def test_only_an_optimizer_is_said_so() -> None:
    keys = ("state", "param_groups")
    for choice in (chosen(group("", others=keys), group("state.0", "exp_avg"), keys=keys), chosen(group("", others=keys), keys=keys)):
        assert (choice.form, codes(choice)) == (None, ["FM306"])
    assert codes(chosen(group("optimizer.state.0", "exp_avg"), keys=("optimizer",))) == ["FM306"]


def test_no_tensors_are_no_weights() -> None:
    choice = chosen(group("", others=("epoch",)), keys=("epoch",))
    assert codes(choice) == ["FM305"]
    assert "epoch" in choice.findings[0].message


def test_a_list_of_tensors_is_no_state_dict() -> None:
    assert codes(chosen(group("", "0", "1", kind="sequence"))) == ["FM305"]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."])
def test_prefixes_of_wrappers_are_stripped_to_a_fix_point(prefix: str) -> None:
    choice = chosen(group("", f"{prefix}fc.weight", f"{prefix}fc.bias"))
    assert (names(choice), codes(choice)) == (["fc.weight", "fc.bias"], ["FM501"])
    assert prefix in choice.findings[0].message


def test_a_prefix_that_not_all_names_share_stays() -> None:
    choice = chosen(group("", "module.fc.weight", "n_averaged"))
    assert (names(choice), codes(choice)) == (["module.fc.weight", "n_averaged"], [])


def test_a_prefix_that_is_a_whole_name_stays() -> None:
    assert names(chosen(group("", "module."))) == ["module."]


def test_lightnings_prefix_is_stripped_from_its_checkpoints_only() -> None:
    lightning = ("state_dict", "pytorch-lightning_version")
    assert names(chosen(group("state_dict", "model.fc.weight"), keys=lightning)) == ["fc.weight"]
    assert names(chosen(group("state_dict", "model.fc.weight"), keys=("state_dict",))) == ["model.fc.weight"]


def test_two_tensors_of_one_name_are_refused() -> None:
    twice = Group(path=(), kind="mapping", entries=entries("0", "0"))
    assert (choose(description(groups=(twice,))).form, codes(choose(description(groups=(twice,))))) == (None, ["FM307"])


def test_a_prefix_of_five_hundred_wrappers_is_stripped_whole() -> None:
    assert names(chosen(group("", *("module." * 500 + name for name in ("fc.weight", "fc.bias"))))) == ["fc.weight", "fc.bias"]
