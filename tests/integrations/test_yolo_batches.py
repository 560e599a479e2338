from __future__ import annotations

import math

import torch

from steadygrad.detect.finding import MAX_WHERE, make
from steadygrad.integrations.yolo_batches import STEPS_KEPT, Batches


def batch(files=("a/images/0.png", "a/images/1.png"), pixel=0.5, box=0.5, **changes):
    images = torch.full((len(files), 3, 4, 4), 0.5)
    images[-1, 0, 0, 0] = pixel
    boxes = torch.full((3, 4), 0.5)
    boxes[1, 0] = box
    return {
        "img": images,
        "im_file": files,
        "bboxes": boxes,
        "batch_idx": torch.tensor([0.0, 1.0, 1.0]),
        **changes,
    }


def told(batches, kind="nonfinite_gradient", step=0, **evidence):
    return batches.told(make(kind, "error", step, "Something.", where=["head.weight"], evidence=evidence))


def noted(*steps):
    batches = Batches()
    for step, one in enumerate(steps):
        batches.note(one)
        batches.lost({"box_loss": torch.tensor(1.0)})
        batches.stepped(step)
    return batches


def test_pixels_name_the_file():
    for value in (math.nan, math.inf, -math.inf):
        finding = told(noted(batch(pixel=value)))
        assert finding.summary == "Something; NaN or Inf in the pixels of a/images/1.png."
        assert finding.where == ("head.weight", "a/images/1.png")


def test_labels_name_the_file():
    assert "labels of a/images/1.png" in told(noted(batch(box=math.nan))).summary


def test_labels_of_whole_images():
    one = {"img": torch.zeros(3, 1, 2, 2), "cls": torch.tensor([0.0, math.nan, 1.0])}
    assert "labels of image 1 of the batch" in told(noted(one)).summary


def test_no_labels_at_all():
    one = batch(bboxes=torch.zeros(0, 4), batch_idx=torch.zeros(0), pixel=math.nan)
    assert "pixels of" in told(noted(one)).summary


def test_terms_of_the_loss():
    batches = Batches()
    batches.note(batch())
    batches.lost({"box_loss": torch.tensor(1.0), "dfl_loss": torch.tensor(math.nan)})
    batches.stepped(0)
    assert told(batches).summary == "Something; loss terms dfl_loss."


def test_every_batch_of_an_accumulated_step_is_looked_at():
    batches = Batches()
    for index in range(4):
        batches.note(batch(files=(f"{index}.png",), pixel=math.nan if index == 1 else 0.5))
    batches.stepped(0)
    assert "pixels of 1.png." in told(batches).summary


def test_row_that_a_replay_found():
    finding = told(noted(batch()), **{"first batch row": 1.0})
    assert finding.summary == "Something; carried by a/images/1.png."


def test_only_the_step_of_the_finding_counts():
    batches = noted(batch(pixel=math.nan), batch())
    assert "pixels" in told(batches, step=0).summary
    assert told(batches, step=1).summary == "Something."


def test_other_findings_and_forgotten_steps_stay_as_they_are():
    batches = noted(*[batch(pixel=math.nan)] * (STEPS_KEPT + 1))
    assert told(batches, step=0).summary == "Something."
    assert told(batches, kind="exploding_gradient", step=STEPS_KEPT).summary == "Something."


def test_many_files_stay_readable():
    one = batch(files=tuple(f"{index}.png" for index in range(40)), bboxes=None)
    one["img"].fill_(math.nan)
    finding = told(noted(one))
    assert "0.png, 1.png, 2.png and 37 more" in finding.summary
    assert len(finding.where) == MAX_WHERE
