"""The training loop of timm's train.py, made of the parts that train.py is made of.

    timm_train.py FOLDER [--clip-grad 1.0] [--clip-mode norm] [--amp] [--accum 2] [--poison STEP]

train.py itself is in no release of timm.
"""

import argparse
import math
from contextlib import suppress
from functools import partial

import torch
from timm import create_model
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.models import model_parameters
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import (
    AverageMeter,
    CheckpointSaver,
    ModelEmaV3,
    NativeScaler,
    accuracy,
    dispatch_clip_grad,
    random_seed,
)

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--model", default="test_resnet")
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--lr", type=float, default=0.02)
parser.add_argument("--clip-grad", type=float)
parser.add_argument("--clip-mode", default="norm")
parser.add_argument("--amp", action="store_true")
parser.add_argument("--accum", type=int, default=1)
parser.add_argument("--poison", type=int)


def train_one_epoch(
    epoch, model, loader, optimizer, loss_fn, args, scheduler, amp_autocast, loss_scaler, model_ema
):
    losses = AverageMeter()
    model.train()
    optimizer.zero_grad()
    updates = epoch * (len(loader) // args.accum)
    for index, (images, target) in enumerate(loader):
        if args.poison == epoch * len(loader) + index:
            images[0, 0, 0, 0] = math.nan
        need_update = (index + 1) % args.accum == 0
        with amp_autocast():
            loss = loss_fn(model(images), target) / args.accum
        parameters = model_parameters(model, exclude_head="agc" in args.clip_mode)
        if loss_scaler is not None:
            loss_scaler(
                loss,
                optimizer,
                clip_grad=args.clip_grad,
                clip_mode=args.clip_mode,
                parameters=parameters,
                need_update=need_update,
            )
        else:
            loss.backward()
            if need_update:
                if args.clip_grad is not None:
                    dispatch_clip_grad(parameters, value=args.clip_grad, mode=args.clip_mode)
                optimizer.step()
        losses.update(loss.item() * args.accum, images.size(0))
        if not need_update:
            continue
        updates += 1
        optimizer.zero_grad()
        model_ema.update(model, step=updates)
        scheduler.step_update(num_updates=updates, metric=losses.avg)
    return losses.avg


@torch.no_grad()
def validate(model, loader):
    top1 = AverageMeter()
    model.eval()
    for images, target in loader:
        top1.update(accuracy(model(images), target)[0].item(), images.size(0))
    return top1.avg


def main():
    args = parser.parse_args()
    random_seed(0)
    model = create_model(args.model, num_classes=2, in_chans=3)
    optimizer = create_optimizer_v2(model, opt="momentum", lr=args.lr, weight_decay=2e-5, momentum=0.9)
    amp_autocast, loss_scaler = suppress, None
    if args.amp:
        amp_autocast = partial(torch.autocast, device_type="cpu", dtype=torch.bfloat16)
        loss_scaler = NativeScaler(device="cpu")
    model_ema = ModelEmaV3(model, decay=0.9, use_warmup=True)
    loader = create_loader(
        create_dataset("", root=args.folder, split="train"),
        input_size=(3, 32, 32),
        batch_size=8,
        is_training=True,
        use_prefetcher=False,
        no_aug=True,
        num_workers=0,
        device=torch.device("cpu"),
    )
    held_out = create_loader(
        create_dataset("", root=args.folder, split="val"),
        input_size=(3, 32, 32),
        batch_size=8,
        is_training=False,
        use_prefetcher=False,
        num_workers=0,
        device=torch.device("cpu"),
    )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=args.epochs,
        warmup_epochs=1,
        warmup_lr=1e-3,
        updates_per_epoch=len(loader) // args.accum,
    )
    saver = CheckpointSaver(
        model=model,
        optimizer=optimizer,
        args=args,
        model_ema=model_ema,
        amp_scaler=loss_scaler,
        checkpoint_dir=".",
        recovery_dir=".",
        max_history=1,
    )
    loss_fn = LabelSmoothingCrossEntropy(0.1)
    for epoch in range(args.epochs):
        mean = train_one_epoch(
            epoch, model, loader, optimizer, loss_fn, args, scheduler, amp_autocast, loss_scaler, model_ema
        )
        top1 = validate(model_ema, held_out)
        scheduler.step(epoch + 1, top1)
        saver.save_checkpoint(epoch, metric=top1)
        print(f"epoch {epoch} loss {mean:.6f} top1 {top1:.2f}")
    for name, one in (("weights", model), ("ema", model_ema)):
        values = list(one.state_dict().values())
        finite = all(value.isfinite().all() for value in values)
        print(
            name,
            "finite" if finite else "NOT FINITE",
            repr(sum(value.double().sum().item() for value in values)),
        )


if __name__ == "__main__":
    main()
