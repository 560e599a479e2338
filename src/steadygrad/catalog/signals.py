"""What goes in, what comes out, and units that no longer take part."""

from __future__ import annotations

from steadygrad.catalog.entry import Entry
from steadygrad.records import Remedy

_INITIALISE = Remedy(
    "Initialise for the activation", 'torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")'
)

ENTRIES: tuple[Entry, ...] = (
    Entry(
        kind="dead_units",
        title="Dead units",
        meaning="Units output 0 for every input, so no gradient passes through them and they never come back.",
        causes=(
            "A step so large that it pushed the biases far below 0.",
            "Weights or biases that start too low, or inputs that are all of one sign and large.",
            "ReLU as the last activation while targets are below 0.",
        ),
        remedies=(
            Remedy("Lower the learning rate", 'optimizer.param_groups[0]["lr"] /= 10'),
            Remedy("Let a little through below 0", "nn.LeakyReLU(0.01)"),
            _INITIALISE,
        ),
        verify="steadygrad.check(model, batch, loss_fn) finds units that fire in every layer.",
        reference="Lu et al., Dying ReLU and initialization, 2019, arXiv:1903.06733",
    ),
    Entry(
        kind="saturated_units",
        title="Saturated units",
        meaning="Units sit at the flat ends of their activation, where the slope is next to 0.",
        causes=(
            "Inputs that are not normalised.",
            "Initial weights too large for tanh or sigmoid.",
            "Steps that were too large.",
        ),
        remedies=(
            Remedy("Normalise the inputs", "inputs = (inputs - inputs.mean(0)) / (inputs.std(0) + 1e-6)"),
            Remedy("Initialise for the activation", "torch.nn.init.xavier_uniform_(layer.weight)"),
            Remedy("Normalise inside the network", "nn.LayerNorm(dim)"),
        ),
        verify="steadygrad.check(model, batch, loss_fn) no longer names the layer.",
        reference="Glorot and Bengio, AISTATS 2010, section 3, https://proceedings.mlr.press/v9/glorot10a.html",
    ),
    Entry(
        kind="double_softmax",
        title="Softmax twice",
        meaning="The model returns probabilities and the loss takes a softmax of them again, so it can't come near 0.",
        causes=(
            "The model ends with softmax and the loss is cross_entropy, which expects logits.",
            "The model ends with sigmoid and the loss is binary_cross_entropy_with_logits.",
        ),
        remedies=(
            Remedy("Return logits: leave the last softmax out", "return self.head(x)"),
            Remedy(
                "Or use the loss that takes probabilities", "F.nll_loss(torch.log(probabilities), targets)"
            ),
        ),
        verify="The loss of a batch that is learnt by heart goes to 0.",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
    ),
    Entry(
        kind="single_class_softmax",
        title="Softmax over one unit",
        meaning="A softmax over a single number is always 1: the output is a constant and nothing can be learnt.",
        causes=(
            "Two classes were given one output unit, and softmax where sigmoid belongs.",
            "The softmax runs over the wrong dimension, of size 1.",
        ),
        remedies=(
            Remedy("Use the loss for one logit", "F.binary_cross_entropy_with_logits(logit, target)"),
            Remedy("Or give each class a unit", "nn.Linear(features, 2)"),
        ),
        verify="The output differs from row to row, and gradients are no longer 0.",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html",
    ),
    Entry(
        kind="output_range_mismatch",
        title="Output can't reach the target",
        meaning="The last activation keeps the output in a range in which the targets don't lie.",
        causes=(
            "A sigmoid, tanh, softmax or ReLU ends a regression whose targets lie outside its range.",
            "The targets were not scaled as the network's output is.",
            "Logits were given to a loss that expects probabilities.",
        ),
        remedies=(
            Remedy("Leave the last activation out", "nn.Linear(features, 1)"),
            Remedy("Scale the targets", "targets = (targets - targets.mean()) / targets.std()"),
            Remedy("Use the loss that takes logits", "F.binary_cross_entropy_with_logits(logits, targets)"),
        ),
        verify="The output's smallest and largest values enclose those of the targets after some training.",
        reference="Goodfellow et al., Deep Learning, section 6.2.2, https://www.deeplearningbook.org/contents/mlp.html",
    ),
    Entry(
        kind="unnormalised_input",
        title="Inputs not normalised",
        meaning="The inputs are far from zero mean and unit spread, so the first layer sees a badly shaped loss.",
        causes=(
            "Raw pixels from 0 to 255, or raw measurements in their own units.",
            "Features whose scales differ by orders of magnitude.",
            "A large common offset.",
        ),
        remedies=(
            Remedy("Normalise the inputs", "inputs = (inputs - inputs.mean(0)) / (inputs.std(0) + 1e-6)"),
            Remedy("Let the network do it", "nn.Sequential(nn.BatchNorm1d(features), model)"),
        ),
        verify="Mean near 0 and spread near 1 for every input: print(x.mean(), x.std()).",
        reference="LeCun et al., Efficient BackProp, 1998, section 4.3, "
        "https://yann.lecun.com/exdb/publis/pdf/lecun-98b.pdf",
    ),
    Entry(
        kind="sharp_softmax",
        title="Softmax that is sure too early",
        meaning="The scores that go into a softmax are so far apart that one choice gets all the weight, and next to no "
        "gradient comes back through it.",
        causes=(
            "Attention scores aren't divided by the root of the dimension of a head.",
            "A temperature near 0 divides the scores, or a scale far above 1 multiplies them.",
            "The weights that make the scores start too large.",
        ),
        remedies=(
            Remedy(
                "Divide the scores by the root of the dimension",
                "scores = query @ key.transpose(-2, -1) / dim**0.5",
            ),
            Remedy("Raise the temperature", "loss = F.cross_entropy(similarity / 0.1, labels)"),
            Remedy("Normalise what the scores are made of", "nn.LayerNorm(dim)"),
        ),
        verify="Before training, the largest probability of a row is not far above 1 / choices.",
        reference="Vaswani et al., Attention is all you need, 2017, arXiv:1706.03762, section 3.2.1",
    ),
)
