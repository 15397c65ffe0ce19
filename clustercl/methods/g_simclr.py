"""G-SimCLR: k-means groups guide the batches, so that no batch holds two units of one group; the loss is NT-Xent.

Source: Chakraborty, Gosthipaty, Paul, "G-SimCLR: Self-Supervised Contrastive Learning with Guided Projection via Pseudo
Labelling", ICDM Workshops 2020. As there, the groups come from the code of an auto-encoder. Ours: that of stage 1,
which is not a denoising one, as `cluster.feature` and `cluster.whiten` make it; and as many groups as a batch holds
units, so that each gives one: units of small groups are seen more often than those of large ones.
"""

import torch

from clustercl.methods.base import Contrastive, Known

STARTS = 3  # of k-means, of which the best is kept


class GSimCLR(Contrastive):
    """Every other unit of a batch is a negative, and none of them is of the anchor's group."""

    needs_clusters = True
    one_of_a_class = True

    @classmethod
    def label(cls, known: Known, settings) -> torch.Tensor:
        from sklearn.cluster import KMeans

        count = min(settings.batch_size, known.n)
        means = KMeans(count, n_init=STARTS, random_state=known.seed & 0xFFFFFFFF).fit(known.features)
        return torch.from_numpy(means.labels_.astype("int64"))
