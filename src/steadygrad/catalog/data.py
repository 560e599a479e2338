"""What the data itself is like: the same everywhere, or of another size than the network."""

from __future__ import annotations

from steadygrad.catalog.entry import Entry
from steadygrad.records import Remedy

ENTRIES: tuple[Entry, ...] = (
    Entry(
        kind="constant_input",
        title="Inputs that are all the same",
        meaning="What enters the model doesn't differ from example to example: all zeros, one number, or one row again and "
        "again.",
        causes=(
            "The data was divided or cast so that everything became 0 (integers over 255, a wrong scale).",
            "Files could not be read, and a blank stands in for them.",
            "One example is repeated: an index that doesn't move, expand() of a single row.",
            "A mask or a normalisation over the wrong dimension takes all differences away.",
        ),
        remedies=(
            Remedy(
                "Look at a batch as it enters the model", "print(inputs.amin(), inputs.amax(), inputs.std(0))"
            ),
            Remedy("Turn integers into numbers before dividing", "inputs = inputs.float() / 255"),
            Remedy(
                "Normalise over the examples, not within one",
                "inputs = (inputs - inputs.mean(0)) / inputs.std(0)",
            ),
        ),
        verify="The spread over the examples, inputs.float().std(0), is above 0.",
        reference="Karpathy, A Recipe for Training Neural Networks, 2019, https://karpathy.github.io/2019/04/25/recipe/",
    ),
    Entry(
        kind="constant_targets",
        title="Targets that are all alike",
        meaning="All labels shown are one class, or all targets one number: a constant answer is right, and nothing else is "
        "learnt, whatever the accuracy says.",
        causes=(
            "The labels were scaled or cast so that all became the same (labels / 255 as integers).",
            "The loader isn't shuffled and the data is sorted by class.",
            "The wrong column was read, or a filter left one class over.",
            "The class is very rare and the batches are small.",
        ),
        remedies=(
            Remedy("Count the labels", "print(torch.bincount(labels))"),
            Remedy("Shuffle", "loader = DataLoader(data, batch_size=64, shuffle=True)"),
            Remedy(
                "Draw rare classes more often",
                "sampler = torch.utils.data.WeightedRandomSampler(weights, len(weights))",
            ),
        ),
        verify="torch.bincount(labels) of a few batches shows every class.",
        reference="Buda et al., A systematic study of the class imbalance problem, 2018, arXiv:1710.05381",
    ),
    Entry(
        kind="unscaled_targets",
        title="Targets that aren't scaled",
        meaning="Regression targets are hundreds of times as large as anything the network puts out at its start, so loss and "
        "gradients are huge from the first step, or the way is too long for the rate; or so small that it drowns them.",
        causes=(
            "Targets are in their own units: dollars, pixels, seconds since 1970.",
            "The inputs were standardised and the targets forgotten.",
            "The loss is a squared error, which grows with the square of the scale.",
        ),
        remedies=(
            Remedy("Scale the targets", "targets = (targets - targets.mean(0)) / targets.std(0)"),
            Remedy("Start the output at their mean", "model[-1].bias.data.fill_(targets.mean())"),
            Remedy("Learn their logarithm, where they span powers of ten", "targets = torch.log1p(targets)"),
        ),
        verify="The first loss of a squared error is near 1.",
        reference="LeCun et al., Efficient BackProp, 1998, section 4.5, https://doi.org/10.1007/3-540-49430-8_2",
    ),
)
