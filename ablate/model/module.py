"""Training: one optimiser step per batch, on Lightning, resumable to the bit.

Lightning sees one epoch that holds all remaining steps; the epochs of the recipe are in the order of the steps
(`ablate.data.batches.TrainingSteps`). Every step starts the random generators from the seed and its own number, so a
step depends on the weights, the optimiser's state and its number alone, and a training that was stopped goes on as if
it had not been. Shapes: Q groups, P unique passages, N texts, H hidden size.
"""

from __future__ import annotations

import copy
import logging
import math
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch.utils.data import DataLoader

from ablate.data.batches import Batch, TrainingSteps
from ablate.model.device import Precision, own_generators, resolve_device, resolve_precision
from ablate.model.distributed import ALONE, World
from ablate.model.encoder import BiEncoder, StaticEncoder
from ablate.model.losses import batch_loss
from ablate.model.packing import backbone_of
from ablate.model.peaks import peak
from ablate.model.prepared import PreparedTraining
from ablate.model.resume import Checkpoint, Checkpoints
from ablate.model.sharding import put_together, split_as, split_up, whole
from ablate.recipe.schema import Runtime, TrainConfig
from ablate.records import UserError
from ablate.timing import timed

OnStep = Callable[[int, dict[str, float]], None]
OnDev = Callable[[int, BiEncoder], None]

LAG = {"cpu": 0, "cuda": 1}
"""By device, how many steps late the numbers of a step are asked for: one, so that a GPU always has work in its queue.
A CPU has none to wait for."""


@dataclass(frozen=True)
class FitReport:
    """What a training did and took; sums include the parts before an interruption."""

    steps: int
    groups: int
    """Training groups seen, over all epochs."""
    tokens: int
    """Real tokens through the encoder (no padding), each unique passage of a step once."""
    flops: float
    """Estimate of the floating-point operations for these tokens, see `FlopEstimate`."""
    queries: int
    """Unique queries (with their instruction) of the mix."""
    passages: int
    truncated_queries: int
    """How many of them were cut to model.query_length."""
    truncated_passages: int
    seconds: float
    """Inside steps, without measurements on the dev set and checkpoints."""
    mfu: float | None
    """Share of the devices' peak that `flops` in these seconds are; None where `ablate.model.peaks` knows none."""


def rate_at(step: int, total: int, train: TrainConfig) -> float:
    """Return the learning rate of a step (from 0), of `total` steps.

    It rises linearly over the first round(warmup * total) steps, without a step at zero, and then falls to zero
    linearly or along half a cosine, or stays.
    """
    num_warmup = round(train.warmup * total)
    if step < num_warmup:
        return train.learning_rate * (step + 1) / (num_warmup + 1)
    done = (step - num_warmup) / max(1, total - num_warmup)
    factor = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}[train.schedule]
    return train.learning_rate * factor


class FlopEstimate:
    """Counts the floating-point operations of training steps on one encoder.

    Per token 2 for the forward and 2 for the backward pass through each parameter outside the embeddings, and 2 more
    where the parameter is trained; attention adds 12 * layers * hidden * length^2 per text (Kaplan et al. 2020,
    arXiv 2001.08361, section 2.1). A table of token vectors has one addition per dimension in each of both passes.
    """

    def __init__(self, encoder: BiEncoder) -> None:
        """Count the encoder's parameters."""
        if isinstance(encoder, StaticEncoder):
            self._per_token, self._per_square = 2 * encoder.hidden_size, 0
            return
        embeddings = {id(p) for m in encoder.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
        others = [p for p in encoder.parameters() if id(p) not in embeddings]
        self._per_token = sum(p.numel() * (6 if p.requires_grad else 4) for p in others)
        config = encoder.network.config
        self._per_square = 12 * config.num_hidden_layers * config.hidden_size

    def __call__(self, lengths: Sequence[int]) -> float:
        """Return the operations of a step on texts of these token lengths."""
        return float(self._per_token * sum(lengths) + self._per_square * sum(length * length for length in lengths))


class HalfCopy:
    """A bf16 copy of an encoder for forward and backward passes, beside the fp32 weights that are optimised.

    Plain bf16 weights would lose small updates (Micikevicius et al. 2018, arXiv 1710.03740, section 3.1).
    """

    def __init__(self, encoder: BiEncoder) -> None:
        """Copy the encoder; on a CPU with eager attention, whose backward pass is faster there in bf16."""
        self.encoder = copy.deepcopy(encoder)
        self.encoder.halve()
        if encoder.device.type == "cpu":
            backbone_of(self.encoder.network).set_attn_implementation("eager")
        pairs = zip(encoder.parameters(), self.encoder.parameters(), strict=True)
        self._pairs = [(master, half) for master, half in pairs if master.requires_grad]

    @timed("half copy")
    def pull(self) -> None:
        """Take over the weights of the fp32 encoder."""
        with torch.no_grad():
            torch._foreach_copy_([half for _, half in self._pairs], [master for master, _ in self._pairs])

    @timed("half copy")
    def push_gradients(self) -> None:
        """Give the gradients to the fp32 encoder and forget them here."""
        masters, halves = list[torch.Tensor](), list[torch.Tensor]()
        for master, half in self._pairs:
            master.grad = None if half.grad is None else torch.empty_like(master)
            if master.grad is not None and half.grad is not None:
                masters.append(master.grad)
                halves.append(half.grad)
            half.grad = None
        torch._foreach_copy_(masters, halves)


class OnTheWay:
    """Numbers on their way from the device to the host, which goes on meanwhile."""

    def __init__(self, values: torch.Tensor) -> None:
        """Start the copy behind what the device has to do already."""
        self._values = values.to("cpu", non_blocking=True)
        self._copied = None
        if values.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def arrived(self) -> list[float]:
        """Return them, as soon as the device is there."""
        if self._copied is not None:
            self._copied.synchronize()
        return list(self._values.tolist())


@dataclass(frozen=True)
class Launched:
    """An optimiser step that the device was told to do."""

    step: int
    """Its number, from 1."""
    values: OnTheWay
    """Loss and gradient norm."""
    rate: float
    tokens: int
    flops: float
    started: float


class RetrieverModule(lightning.LightningModule):
    """One optimiser step per batch: all texts in one graph, sorted by length, and the loss over the whole batch."""

    def __init__(
        self,
        encoder: BiEncoder,
        train: TrainConfig,
        *,
        seed: int,
        num_steps: int,
        precision: Precision,
        after_step: Callable[[int, dict[str, float]], None],
        resumed: Checkpoint | None = None,
        world: World = ALONE,
        held_tokens: int | None = None,
        lag: int = 0,
        told_at: Callable[[int], bool] = lambda step: False,
        peak: float | None = None,
        packed: bool | None = None,
        compiled: bool = False,
        sharded: bool = False,
    ) -> None:
        """`after_step` is called after each optimiser step with its number (from 1) and what was logged about it.

        That may be up to `lag` steps late, so that a device need not wait until the numbers of a step have come; not at
        the last step and those for which `told_at` holds, after which nothing is under way. `held_tokens` is that of
        `BiEncoder.embed`, `peak` the operations per second of all devices at best, where they are known, `packed`
        that of `BiEncoder.pack`, and `compiled` whether layers are compiled. `sharded`: the encoder is one of
        `split_up`; with `held_tokens` every forward pass is then done again, and no text is packed, so that all
        processes make as many passes.
        """
        super().__init__()
        self.automatic_optimization = False
        self.encoder = encoder
        self.steps_done = resumed.step if resumed else 0
        names = ("tokens", "flops", "groups", "seconds")
        self.counters = dict(resumed.counters) if resumed else dict.fromkeys(names, 0.0)
        self._train, self._seed, self._num_steps, self._precision = train, seed, num_steps, precision
        self._after_step, self._resumed = after_step, resumed
        self._world, self._sharded = world, sharded
        self._held_tokens = 0 if sharded and held_tokens is not None else held_tokens
        self._lag, self._told_at, self._peak = lag, told_at, peak
        self._packed, self._compiled = packed, compiled
        self._launched: deque[Launched] = deque()
        self._told = 0.0
        self._flops = FlopEstimate(encoder)
        self._trained = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
        if resumed:
            with torch.no_grad():
                for name, parameter in self._trained.items():
                    parameter.copy_(split_as(parameter, resumed.tensors[f"weight/{name}"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) without decay on biases and norms."""
        decayed = [p for p in self._trained.values() if p.ndim >= 2]
        others = [p for p in self._trained.values() if p.ndim < 2]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": self._train.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=self._train.learning_rate,
            fused=True,
        )
        self._optimizer = optimizer
        self._half = HalfCopy(self.encoder) if self._precision == "bf16" and not self._sharded else None
        computing = self.encoder if self._half is None else self._half.encoder
        computing.pack(False if self._sharded else self._packed)
        if self._compiled:
            computing.compile_layers()
        if self._resumed:
            self._restore(optimizer, self._resumed)
            self._resumed = None
        return optimizer

    def _in_order(self) -> list[str]:
        """Return the names of the trained parameters in the order of the optimiser's state."""
        return sorted(self._trained, key=lambda name: self._trained[name].ndim < 2)

    def _restore(self, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
        state = {
            place: {
                "step": torch.tensor(float(checkpoint.step)),
                "exp_avg": split_as(self._trained[name], checkpoint.tensors[f"first_moment/{name}"]),
                "exp_avg_sq": split_as(self._trained[name], checkpoint.tensors[f"second_moment/{name}"]),
            }
            for place, name in enumerate(self._in_order())
            if f"first_moment/{name}" in checkpoint.tensors
        }
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def checkpoint_tensors(self) -> dict[str, torch.Tensor]:
        """Return what the next step depends on, by name: trained weights (fp32) and the optimiser's moments.

        Of sharded weights all processes must ask; the one that leads gets them, whole and in its machine's memory.
        """
        tensors: dict[str, torch.Tensor] = {f"weight/{name}": parameter for name, parameter in self._trained.items()}
        for name, parameter in self._trained.items():
            if moments := self._optimizer.state.get(parameter):
                tensors[f"first_moment/{name}"] = moments["exp_avg"]
                tensors[f"second_moment/{name}"] = moments["exp_avg_sq"]
        if not self._sharded:
            return tensors
        gathered = ((name, whole(tensor)) for name, tensor in tensors.items())
        return {name: tensor.cpu() for name, tensor in gathered if self._world.leads}

    @timed("forward")
    def loss(self, batch: Batch, encoder: BiEncoder) -> torch.Tensor:
        """Return the loss of a batch; queries and unique passages go through the encoder together.

        Of several processes each encodes its share, and all compute the loss of the whole batch.
        """
        shares = self._world.share([len(text) for text in batch.texts])
        mine = shares[self._world.rank]
        own = [batch.texts[place] for place in mine]
        fewest = max(map(len, shares)) if self._sharded else 1  # sharded: as many forward passes everywhere
        own += [min(batch.texts, key=len)] * (fewest - len(own))  # a share without texts still takes part
        own_NH = encoder.embed(own, self._train.sub_batch, self._held_tokens)[: len(mine)]
        vectors_NH = self._world.gather(own_NH, shares)
        num_queries = len(batch.query_tokens)
        return batch_loss(
            vectors_NH[:num_queries],
            vectors_NH[num_queries:],
            batch.positive_QP,
            batch.candidate_QP,
            self._train.temperature,
        )

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Do one optimiser step; raises UserError on a loss or gradient that is not a number.

        Without a lag that is before the weights change; with one they are lost by then, and so is the training.
        """
        started = time.perf_counter()
        rate = rate_at(self.steps_done, self._num_steps, self._train)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        rank = (self._world.rank,) if self._world.rank else ()  # other texts of the step, other dropout
        with own_generators(self._seed, "step", self.steps_done, *rank):
            if self._half is None:
                loss = self.loss(batch, self.encoder)
                with timed("backward"):
                    self.manual_backward(loss)
            else:
                self._half.pull()
                loss = self.loss(batch, self._half.encoder)
                with timed("backward"):
                    self.manual_backward(loss)
                self._half.push_gradients()
        if not self._sharded:  # sharded, the backward pass has summed them
            self._world.sum_gradients(self._trained.values())
        norm = whole(torch.nn.utils.clip_grad_norm_(list(self._trained.values()), self._train.clip_norm))
        launched = Launched(
            step=self.steps_done + 1,
            values=OnTheWay(torch.stack([loss.detach().float(), norm.float()])),
            rate=rate,
            tokens=batch.num_tokens,
            flops=self._flops([len(text) for text in batch.texts]),
            started=started,
        )
        if self._lag == 0:
            self._finite(launched)
        with timed("optimiser"):
            self._optimizer.step()
        self.steps_done += 1
        self.counters["tokens"] += launched.tokens
        self.counters["groups"] += len(batch.group_ids)
        self.counters["flops"] += launched.flops
        self._launched.append(launched)
        waits_for_all = self.steps_done == self._num_steps or self._told_at(self.steps_done)
        while len(self._launched) > (0 if waits_for_all else self._lag):
            self._tell(self._launched.popleft())

    def _finite(self, launched: Launched) -> tuple[float, float]:
        """Return loss and gradient norm of a step, once they are there; raises UserError unless both are numbers."""
        loss, norm = launched.values.arrived()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise UserError(
                f"training failed at step {launched.step} of {self._num_steps}: the loss is {loss} and the "
                f"gradient norm {norm}; lower train.learning_rate (now {self._train.learning_rate:g}) or raise "
                f"train.temperature (now {self._train.temperature:g})"
            )
        return loss, norm

    def _tell(self, launched: Launched) -> None:
        """Log a step; its seconds begin where those of the step before ended, if that was after its start."""
        loss, norm = self._finite(launched)
        now = time.perf_counter()
        seconds = now - max(launched.started, self._told)
        self._told = now
        self.counters["seconds"] += seconds
        logged = {
            "loss": loss,
            "learning_rate": launched.rate,
            "grad_norm": norm,
            "tokens": float(launched.tokens),
            "seconds": seconds,
        }
        if self._peak is not None:
            logged["mfu"] = launched.flops / seconds / self._peak
        self._after_step(launched.step, logged)


class MixData(lightning.LightningDataModule):
    """The steps of a training that remain, in order; a batch is what one step of `TrainingSteps` holds."""

    def __init__(self, steps: TrainingSteps, first: int) -> None:
        """`first` is the number of steps that are done already."""
        super().__init__()
        self._steps, self._first = steps, first

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of the remaining steps that draws nothing from the global random generator."""
        order = range(self._first, len(self._steps))
        return DataLoader(self._steps, batch_size=None, sampler=order, generator=torch.Generator())

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the relations; tokens move sub-batch by sub-batch."""
        return batch.to(device)


def fit(
    encoder: BiEncoder,
    prepared: PreparedTraining,
    *,
    runtime: Runtime,
    checkpoint_dir: Path,
    on_step: OnStep,
    on_dev: OnDev | None = None,
    world: World = ALONE,
) -> FitReport:
    """Train an encoder in place on a mix; goes on from the last checkpoint in `checkpoint_dir` if there is one.

    After each step `on_step(step, values)` is called (steps from 1; loss, learning_rate, grad_norm, tokens, seconds,
    and mfu where the device's peak is known), every `runtime.dev_every` steps then `on_dev(step, encoder)`, and every
    `runtime.checkpoint_every` steps a checkpoint is written last, so a step that a callback did not finish is done
    again. On a CPU a training that was stopped anywhere ends with the same bits as one that was not; the number of
    threads must stay the same. Of several processes only the one that leads the `world` shows, calls back and writes
    checkpoints; all read them. With `runtime.shard_weights` its encoder alone holds the trained weights at the end.
    Raises UserError for a loss that is not a number, a passage that is missing, a full disk, and checkpoints of another
    training.
    """
    steps = prepared.steps
    device = resolve_device(runtime.device)
    precision = resolve_precision(prepared.train.precision, device)
    best = _peak(device, precision, world)
    checkpoints = Checkpoints(checkpoint_dir, prepared.digest(precision))
    resumed = checkpoints.latest()
    encoder.train()
    if isinstance(encoder, StaticEncoder):
        encoder.network.show(np.union1d(steps.queries.distinct_ids(), steps.passages.distinct_ids()))
    with _step_line(runtime.progress and world.leads, len(steps), resumed.step if resumed else 0) as show:

        def told_at(step: int) -> bool:
            return step % runtime.checkpoint_every == 0 or (on_dev is not None and step % runtime.dev_every == 0)

        def after_step(step: int, logged: dict[str, float]) -> None:
            is_saved = step % runtime.checkpoint_every == 0
            tensors = module.checkpoint_tensors() if is_saved else {}
            if runtime.shard_weights and step == len(steps):  # before Lightning moves the parts
                put_together(trained, encoder, world)
            if not world.leads:
                return
            show(logged)
            on_step(step, logged)
            if on_dev is not None and step % runtime.dev_every == 0:
                on_dev(step, encoder)
            if is_saved:
                checkpoints.save(step, tensors, module.counters)

        trained = split_up(encoder, world, device, precision) if runtime.shard_weights else encoder
        module = RetrieverModule(
            trained,
            prepared.train,
            seed=prepared.seed,
            num_steps=len(steps),
            precision=precision,
            after_step=after_step,
            resumed=resumed,
            world=world,
            held_tokens=runtime.held_tokens,
            lag=LAG[device],
            told_at=told_at,
            peak=best,
            packed=runtime.packed,
            compiled=runtime.compile,
            sharded=runtime.shard_weights,
        )
        if module.steps_done < len(steps):
            _run(module, steps, device, Path(checkpoint_dir))
        elif runtime.shard_weights:
            put_together(trained, encoder, world)
    encoder.eval()
    flops, seconds = module.counters["flops"], module.counters["seconds"]
    return FitReport(
        steps=module.steps_done,
        groups=int(module.counters["groups"]),
        tokens=int(module.counters["tokens"]),
        flops=flops,
        seconds=seconds,
        mfu=None if best is None else flops / seconds / best,
        **prepared.counts,
    )


def _peak(device: str, precision: Precision, world: World) -> float | None:
    """Return the operations per second that the devices of a training do at best together, where it is known."""
    of_one = peak(torch.cuda.get_device_name(), precision) if device == "cuda" else None
    return None if of_one is None else of_one * world.size


def _run(module: RetrieverModule, steps: TrainingSteps, device: str, folder: Path) -> None:
    """Let Lightning do the remaining steps, quietly and without files of its own."""
    place = module.encoder.device
    interrupt = signal.getsignal(signal.SIGINT)
    with _quiet_lightning():
        trainer = lightning.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=[torch.cuda.current_device()] if device == "cuda" else 1,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
            plugins=[LightningEnvironment()],  # one device per process, also inside a cluster's job
        )
        try:
            trainer.fit(module, datamodule=MixData(steps, module.steps_done))
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into exit and ignores more
                if threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGINT, interrupt)
                raise KeyboardInterrupt from None
            raise SystemExit(error.code or 128 + signal.SIGTERM) from error  # Lightning's own exit has no code
        finally:
            module.encoder.to(place)
        if trainer.received_sigterm:  # in the last step, after which Lightning does not look any more
            raise SystemExit(128 + signal.SIGTERM)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning from announcing devices, loggers and workers inside a block."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _step_line(wanted: bool, total: int, start: int) -> Iterator[Callable[[dict[str, float]], None]]:
    """Show step, loss, speed and time left on a terminal; nothing elsewhere."""
    from tqdm import tqdm

    hidden = not wanted or not sys.stderr.isatty()
    with tqdm(total=total, initial=start, desc="training", unit=" steps", leave=False, disable=hidden) as bar:

        def show(logged: dict[str, float]) -> None:
            bar.set_postfix_str(f"loss {logged['loss']:.3f}", refresh=False)
            bar.update()

        yield show
