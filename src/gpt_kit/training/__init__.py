"""The training step, what surrounds it, and what survives it."""

from gpt_kit.training.checkpoint import (
    TrainingState,
    check_checkpoint,
    checkpoint_folder,
    newest_sound_checkpoint,
    restore_checkpoint,
    restore_progress,
    save_checkpoint,
    set_aside_after,
)
from gpt_kit.training.curves import draw_loss_png, draw_loss_text, points_of
from gpt_kit.training.files import WHOLE_MODEL, ModelFiles, refuse_other_model
from gpt_kit.training.fitting import affordable_rows, micro_batch_rows, with_fitting_micro_batch
from gpt_kit.training.memory_probe import StepCounter, StepMemory, largest_micro_batch
from gpt_kit.training.metrics import MetricsFile, Observer, Record, read_metrics
from gpt_kit.training.optimizers import Optimizers, clip_gradients
from gpt_kit.training.parallel import gathered, spread
from gpt_kit.training.plan import Events, MemoryPlan, TimePlan, count_events, plan_memory, plan_time
from gpt_kit.training.probing import Measured, probe
from gpt_kit.training.samples import SampleWriter, drop_samples_after, write_sample
from gpt_kit.training.schedules import learning_rate_share
from gpt_kit.training.step import (
    StepReport,
    compute_batch_loss,
    compute_loader_loss,
    optimizer_step,
    train_step_with_gradient_clipping,
)
from gpt_kit.training.trackers import Tracker, open_tracker
from gpt_kit.training.trainer import Trainer
from gpt_kit.training.watch import SpikeRule, Watch

__all__ = [
    "WHOLE_MODEL",
    "Events",
    "Measured",
    "MemoryPlan",
    "MetricsFile",
    "ModelFiles",
    "Observer",
    "Optimizers",
    "Record",
    "SampleWriter",
    "SpikeRule",
    "StepCounter",
    "StepMemory",
    "StepReport",
    "TimePlan",
    "Tracker",
    "Trainer",
    "TrainingState",
    "Watch",
    "affordable_rows",
    "check_checkpoint",
    "checkpoint_folder",
    "clip_gradients",
    "compute_batch_loss",
    "compute_loader_loss",
    "count_events",
    "draw_loss_png",
    "draw_loss_text",
    "drop_samples_after",
    "gathered",
    "largest_micro_batch",
    "learning_rate_share",
    "micro_batch_rows",
    "newest_sound_checkpoint",
    "open_tracker",
    "optimizer_step",
    "plan_memory",
    "plan_time",
    "points_of",
    "probe",
    "read_metrics",
    "refuse_other_model",
    "restore_checkpoint",
    "restore_progress",
    "save_checkpoint",
    "set_aside_after",
    "spread",
    "train_step_with_gradient_clipping",
    "with_fitting_micro_batch",
    "write_sample",
]
