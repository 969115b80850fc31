"""Each remark on a curve made up to deserve it, once; and silence on a healthy one."""

from __future__ import annotations

import json
import math
import random

import pytest

from gpt_kit.training import SpikeRule, Watch

V, WARMUP = 61, 20


def healthy(step: int, rng: random.Random) -> float:
    return 1.5 + 2.6 * math.exp(-step / 150) + rng.gauss(0, 0.05)


def test_a_healthy_run_is_left_in_peace() -> None:
    """2,000 steps of a noisy falling loss with a validation that falls and then wobbles by 1 %."""
    watch, rng = Watch(V, WARMUP), random.Random(0)
    remarks = []
    for step in range(1, 2001):
        remarks += watch.after_step(step, healthy(step, rng), epoch=step / 1000)
        if step % 100 == 0:
            remarks += watch.after_evaluation(step, 1.6 + 2.6 * math.exp(-step / 150) + 0.01 * (step // 100 % 2))
    assert remarks == []


def test_a_spike_is_named_with_its_figures_and_only_once() -> None:
    watch, rng = Watch(V, WARMUP), random.Random(1)
    for step in range(1, 300):
        assert watch.after_step(step, healthy(step, rng), 0.1) == []
    (remark,) = watch.after_step(300, 6.0, 0.1)
    assert remark.startswith("step 300: the loss jumped to 6.00")
    assert "learning-rate" in remark and "warmup-steps" in remark
    assert watch.after_step(301, 6.5, 0.1) == []


def test_no_learning_is_noticed_after_the_warm_up_and_not_before() -> None:
    watch, rng = Watch(V, WARMUP), random.Random(2)
    guess = math.log(V)
    said = {}
    for step in range(1, 400):
        for remark in watch.after_step(step, guess + rng.gauss(0, 0.005), 0.1):
            said[step] = remark
    assert list(said) == [WARMUP + 100]
    assert "nothing is learned" in said[WARMUP + 100] and "4.11" in said[WARMUP + 100]


def test_a_loss_above_that_of_a_guess_asks_for_a_lower_rate_only() -> None:
    watch, rng = Watch(V, WARMUP), random.Random(2)
    said = [remark for step in range(1, 200) for remark in watch.after_step(step, 7 + rng.gauss(0, 0.5), 0.1)]
    assert len(said) == 1 and "worse than that of a guess" in said[0] and "ten times lower" in said[0]


def evaluated(watch: Watch, step: int, train_loss: float, val_loss: float) -> list[str]:
    return watch.after_step(step, train_loss, 0.1) + watch.after_evaluation(step, val_loss)


def test_over_fitting_needs_two_rises_in_a_row() -> None:
    watch = Watch(V, WARMUP)
    losses = ((1, 3.0), (2, 2.0), (3, 2.1), (4, 1.99), (5, 2.1))
    assert [evaluated(watch, step, 3 - step / 10, loss) for step, loss in losses] == [[]] * 5
    (remark,) = evaluated(watch, 6, 2.4, 2.2)
    assert "validation loss rises (2.200, its best was 1.990)" in remark
    assert "memorises" in remark and "dropout" in remark
    assert evaluated(watch, 7, 2.3, 2.3) == []


def test_a_validation_that_rises_together_with_the_training_loss_is_not_over_fitting() -> None:
    watch = Watch(V, WARMUP)
    assert [evaluated(watch, step, 2.0 + 0.1 * step, loss) for step, loss in ((1, 2.0), (2, 2.1))] == [[]] * 2
    (remark,) = evaluated(watch, 3, 2.3, 2.2)
    assert "gets worse" in remark and "learning-rate" in remark and "memorises" not in remark


def test_examples_are_meant_to_be_seen_again() -> None:
    """Text is not, and is spoken of."""
    remarks = [
        [remark for epoch in (3.9, 4.1, 8) for remark in Watch(V, WARMUP, running_text=text).after_step(9, 2.0, epoch)]
        for text in (True, False)
    ]
    assert len(remarks[0]) == 2 and "seen 4 times" in remarks[0][0] and remarks[1] == []


def test_after_a_restart_the_best_so_far_still_counts() -> None:
    watch = Watch(V, WARMUP, best_val=1.0)
    assert evaluated(watch, 10, 0.9, 1.1) == []
    (remark,) = evaluated(watch, 20, 0.8, 1.1)
    assert "its best was 1.000" in remark and "memorises" in remark


def test_a_text_seen_too_often_is_named_once() -> None:
    watch, rng = Watch(V, WARMUP), random.Random(3)
    assert watch.after_step(10, healthy(10, rng), epoch=4.0) == []
    (remark,) = watch.after_step(11, healthy(11, rng), epoch=4.01)
    assert "has been seen 4 times" in remark
    assert watch.after_step(12, healthy(12, rng), epoch=9.0) == []


def test_a_skipped_update_is_named_once() -> None:
    watch = Watch(V, WARMUP)
    (remark,) = watch.after_skipped_update(7, "not finite")
    assert remark.startswith("step 7: loss or gradient was not a finite number")
    assert "learning-rate" in remark and "bf16" in remark
    assert watch.after_skipped_update(8, "not finite") == []


def test_one_value_that_is_no_number_does_not_blind_the_watch() -> None:
    """A skipped step's NaN must not hide a later spike: NaN in the mean makes every comparison false."""
    watch, rng = Watch(V, WARMUP), random.Random(4)
    for step in range(1, 300):
        watch.after_step(step, math.nan if step == 290 else healthy(step, rng), 0.1)
    assert any("jumped" in remark for remark in watch.after_step(300, 9.0, 0.1))


def fed_rule(steps: int) -> SpikeRule:
    rng, rule = random.Random(5), SpikeRule()
    for _ in range(steps):
        rule.accept(rng.gauss(2.0, 0.1), rng.gauss(0.8, 0.05))
    return rule


@pytest.mark.parametrize(("loss", "grad_norm", "spike"), [(2.0, 0.8, False), (2.5, 1.0, False), (2.7, 0.8, True), (2.0, 1.2, True)])
def test_six_standard_deviations_in_loss_or_gradient_norm_are_a_spike(loss: float, grad_norm: float, spike: bool) -> None:
    """Losses 2.0 ± 0.1 and norms 0.80 ± 0.05: 5 and 4 deviations are none, 7 and 8 are one."""
    assert fed_rule(128).is_spike(loss, grad_norm) is spike


def test_there_is_no_spike_before_128_accepted_steps_nor_among_equal_values() -> None:
    assert not fed_rule(127).is_spike(100.0, 100.0)
    assert fed_rule(128).is_spike(100.0, 100.0)
    assert not SpikeRule([2.0] * 128, [1.0] * 128).is_spike(2.1, 1.1), "a deviation of 0 would make a spike of any rise"


def test_a_spike_rule_survives_json_and_knows_only_the_window() -> None:
    rule = fed_rule(300)
    again = SpikeRule(*json.loads(json.dumps([rule.losses, rule.grad_norms])))
    assert (again.losses, again.grad_norms) == (rule.losses, rule.grad_norms) and len(again.losses) == 128
    old = SpikeRule([50.0, *rule.losses], rule.grad_norms)
    assert old.is_spike(3.0, 0.8) and again.is_spike(3.0, 0.8), "a loss from before the window would hide the spike"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_neither_spikes_nor_part_of_the_past(bad: float) -> None:
    rule = fed_rule(128)
    assert not rule.is_spike(bad, 0.8) and not rule.is_spike(2.0, bad)
    rule.accept(bad, 0.8)
    rule.accept(2.0, bad)
    assert rule.losses == fed_rule(128).losses and rule.is_spike(3.0, 0.8)
