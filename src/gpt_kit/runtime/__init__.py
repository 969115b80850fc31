"""The machine: device, precision, random state, memory. Knows no model."""

from gpt_kit.runtime.compiling import can_compile, check_can_compile, without_compiling
from gpt_kit.runtime.device import choose_device, describe_machine
from gpt_kit.runtime.memory import is_out_of_memory, tune_memory
from gpt_kit.runtime.parallel import as_sharded, drop_gathered, gather, is_sharded, shard, share_gradients, whole
from gpt_kit.runtime.precision import Precision, choose_precision
from gpt_kit.runtime.random import random_state, restore_random_state, seed_everything
from gpt_kit.runtime.resources import free_memory, peak_memory, used_memory
from gpt_kit.runtime.signals import Interrupted, StopRequest, interruptible, stop_cause, stoppable
from gpt_kit.runtime.threads import release_threads
from gpt_kit.runtime.world import ALONE, World, start_world

__all__ = [
    "ALONE",
    "Interrupted",
    "Precision",
    "StopRequest",
    "World",
    "as_sharded",
    "can_compile",
    "check_can_compile",
    "choose_device",
    "choose_precision",
    "describe_machine",
    "drop_gathered",
    "free_memory",
    "gather",
    "interruptible",
    "is_out_of_memory",
    "is_sharded",
    "peak_memory",
    "random_state",
    "release_threads",
    "restore_random_state",
    "seed_everything",
    "shard",
    "share_gradients",
    "start_world",
    "stop_cause",
    "stoppable",
    "tune_memory",
    "used_memory",
    "whole",
    "without_compiling",
]
