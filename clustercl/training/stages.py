"""The stages. Each reads the results of those before it from the run folder and adds its own."""

from collections.abc import Sequence
from functools import partial

import torch

from clustercl.data.augment import augment_pair, contrastive_views
from clustercl.data.feed import LabelledBatch, LabelledFeed, UnitBatch, UnitFeed
from clustercl.data.units import make_units, unit_image
from clustercl.evaluation.memory import SMALLER, memory_advice_untrained
from clustercl.methods import METHODS, Method
from clustercl.models.autoencoder import AutoEncoder
from clustercl.models.checkpoint import encoder_weights, load_segmentation, read_checkpoint
from clustercl.models.dice_ce import DiceCrossEntropy
from clustercl.models.encoder import Encoder
from clustercl.models.unet import UNet
from clustercl.training.context import Context
from clustercl.training.graph import parents
from clustercl.training.labels import Labels, agreement, warn_of_all_left_out, weight_left_out
from clustercl.training.launch import contrastive_batch
from clustercl.training.loop import fit
from clustercl.training.validation import held_out_loss, mean_dice, reconstruction_loss
from clustercl.training.work import Work, stage_seed

BACKGROUND_WEIGHT = 0.2  # in the cross-entropy of volumes
VALIDATION_UNITS = 64  # as many held-out units choose the best checkpoint of stages 1 and 3


def autoencoder_work(context: Context) -> Work:
    """Stage 1: learn a code for every unit of the training and unlabelled images."""
    settings = context.config.autoencoder
    model = AutoEncoder(context.new_encoder("autoencoder"), context.config.model.code_dim)
    feed = _unit_feed(context, "autoencoder")
    held_out = _validation_images(context)
    criterion = torch.nn.MSELoss()

    def loss(model: torch.nn.Module, batch: UnitBatch) -> torch.Tensor:
        images = context.to_device(batch.images)
        return criterion(model(images), images)

    def validate(model: AutoEncoder) -> float:
        return reconstruction_loss(model, held_out, settings.batch_size, context)

    return Work("autoencoder", context.layout(model), feed.batch, loss, validate, "validation_loss", False,
                context.header, criterion, feed.files)  # fmt: skip


def pretrain_work(context: Context) -> Work:
    """Stage 3: contrastive pre-training of the encoder on the training and unlabelled images."""
    config = context.config
    settings, kind = config.pretrain, METHODS[config.method]
    encoder = context.new_encoder("pretrain")
    if "autoencoder" in parents(config)["pretrain"]:
        _load_encoder(context, encoder, "autoencoder")
    model = kind(encoder, settings, config.model.projection_dim)
    feed = _unit_feed(context, "pretrain")
    labels = Labels(context, kind, feed)
    # In the checkpoints, as clustering again changes them: a run that was killed goes on with those it had.
    model.register_buffer("labels", labels.first())
    model.register_buffer("agreement", torch.tensor(1.0))
    if kind.one_of_a_class:
        feed.take_one_of_each(model.labels.numpy())
    if model.masks:
        share = weight_left_out(model.labels, model.level_weight() or (0.0,))
        context.say(f"pretrain: labels take away {share:.1%} of the weight of the negatives")
        warn_of_all_left_out(context, share)
    held_out = _validation_images(context)

    def loss(model: torch.nn.Module, batch: UnitBatch) -> torch.Tensor:
        images = context.to_device(batch.images)
        views = contrastive_views(
            images, batch.seeds, settings.views, context.colour, scale=settings.view_scale, spacing=context.voxel
        )
        return model(views, model.labels[batch.units.to(views.device)], batch.seeds)

    def validate(model: torch.nn.Module) -> float:
        return held_out_loss(model, held_out, settings, context)

    def cluster_again(step: int) -> None:
        after = labels.again(model.encoder)
        model.agreement.fill_(agreement(model.labels.cpu(), after))  # of a CPU no copy, so before they change
        model.labels.copy_(after)
        context.say(f"pretrain: clustered again after step {step}: adjusted Rand index {float(model.agreement):.3f} "
                    "with the classes before")  # fmt: skip
        if model.masks:
            warn_of_all_left_out(context, weight_left_out(after, model.level_weight() or (0.0,)))

    # A single unit has no negative: its loss says nothing, so the last checkpoint counts as the best.
    usable = validate if len(held_out) > 1 and kind.validates else None
    work = Work("pretrain", context.layout(model), feed.batch, loss, usable, "validation_loss", False, context.header,
                model.criterion, feed.files)  # fmt: skip
    work.numbers = partial(_numbers, model)
    work.after = lambda step: model.after_step(step, settings.steps)
    if settings.recluster_epochs:
        if kind.can_cluster_again():
            work.every, work.before = settings.recluster_epochs * feed.steps_per_epoch, cluster_again
        else:
            context.say(f"pretrain: method {config.method} is not clustered again, its loss uses no pseudo-classes")
    return work


def _numbers(model: Method) -> dict[str, torch.Tensor]:
    """What a row of metrics.jsonl tells of a pre-training beside its loss."""
    found = {} if model.spread is None else {"embedding_spread": model.spread}
    return found | {"class_agreement": model.agreement} if model.settings.recluster_epochs else found


def finetune_work(context: Context) -> Work:
    """Stage 4: train the segmentation network on the labelled images, from the pre-trained encoder."""
    config, task = context.config, context.task
    encoder = context.new_encoder("finetune")
    for start in parents(config)["finetune"]:
        _load_encoder(context, encoder, start)
    model = UNet(encoder, task.num_classes)
    feed = LabelledFeed(
        context.prepared(context.split.labelled), config.data, task, config.finetune.batch_size,
        stage_seed(config.seed, "finetune"),
    )  # fmt: skip
    # Over the whole batch for volumes: a crop often lacks a class, and Dice of an absent class is all or nothing.
    # Background outnumbers the structures there, and weighing it less in the cross-entropy lets them be found sooner.
    volumes = task.spatial_dims == 3
    weight = torch.tensor([BACKGROUND_WEIGHT] + [1.0] * len(task.classes)) if volumes else None
    criterion = DiceCrossEntropy(whole_batch=volumes, weight=weight).to(context.fabric.device)
    validation = context.prepared(context.split.validation)

    def loss(model: torch.nn.Module, batch: LabelledBatch) -> torch.Tensor:
        images, labels = context.to_device(batch.images), batch.labels.to(context.fabric.device).long()
        images, labels = augment_pair(
            images, labels, batch.seeds, context.colour, spacing=context.voxel, strength=config.finetune.augment
        )
        return criterion(model(context.to_device(images)), labels)

    def validate(model: UNet) -> float:
        return mean_dice(model, validation, context)

    return Work("finetune", context.layout(model), feed.batch, loss, validate, "validation_dice", True, context.header,
                criterion, feed.files)  # fmt: skip


WORKS = {"autoencoder": autoencoder_work, "pretrain": pretrain_work, "finetune": finetune_work}


def new_work(stage: str, context: Context) -> Work:
    """What a stage trains, as the configuration wants it computed."""
    work = WORKS[stage](context)
    work.model.parts = getattr(context.config, stage).accumulate
    if context.config.compile:
        # Of a method the encoder alone: its loss gathers from all processes, which no graph holds.
        (work.model.encoder if stage == "pretrain" else work.model).compile()
    return work


def run_training(stage: str, context: Context) -> None:
    """Stage 1, 3 or 4, from its last checkpoint where there is one."""
    work, settings = new_work(stage, context), getattr(context.config, stage)
    folder, seed = context.run.path / stage, context.config.seed
    fit(work, settings, context.fabric, folder, seed, context.quiet, context.interrupt, context.peers)


def run_evaluate(context: Context) -> None:
    """Metrics of the fine-tuned network on the test split, at the original resolution."""
    from clustercl.evaluation.evaluate import evaluate_cases

    if context.fabric.is_global_zero:
        with context.run.reading("finetune"):
            network = load_segmentation(context.run.best("finetune")).network
        device = context.fabric.device
        with memory_advice_untrained("evaluation", device, SMALLER, f"clustercl evaluate {context.run.path}"):
            evaluate_cases(
                context.layout(network).to(device), context.find(context.split.test), context.task,
                context.config.data, device, context.config.evaluation, context.run.evaluation,
                note=context.split.note, quiet=context.quiet,
            )  # fmt: skip
    context.fabric.barrier()


def _unit_feed(context: Context, stage: str) -> UnitFeed:
    config = context.config
    prepared = context.prepared(context.training_ids)
    units = make_units(prepared, context.task, config.data)
    batch_size = getattr(config, stage).batch_size
    if stage == "pretrain" and batch_size > len(units):
        batch_size = contrastive_batch(config, len(units), context.fabric.world_size)
        context.say(f"pretrain: batches of {batch_size}, as there are only {len(units)} units")
    return UnitFeed(prepared, units, config.data, context.task, batch_size, stage_seed(config.seed, stage))


def _validation_images(context: Context) -> torch.Tensor:
    """Held-out units (b, c, *s), evenly chosen where there are many."""
    prepared = context.prepared(context.split.validation)
    units = make_units(prepared, context.task, context.config.data)
    kept = [units[number * len(units) // VALIDATION_UNITS] for number in range(VALIDATION_UNITS)]
    chosen: Sequence = kept if len(units) > VALIDATION_UNITS else units
    return torch.stack([unit_image(prepared, unit, context.config.data) for unit in chosen])


def _load_encoder(context: Context, encoder: Encoder, stage: str) -> None:
    with context.run.reading(stage):
        content = read_checkpoint(context.run.best(stage), stage)
    encoder.load_state_dict(encoder_weights(content))
    context.say(f"the encoder starts with the weights of stage {stage}")
