"""P random identities of one source domain."""

import numpy as np

from dfgs.errors import DfgsError
from dfgs.samplers._uniform import draw_uniform
from dfgs.samplers.base import BatchSampler, Labels, Pass


class PkDomain(BatchSampler):
    """As PK, but all identities of a batch come from one domain; the domains' batches are mixed at random.

    A control: batches of look-alikes are mostly of one domain, since people of a domain resemble each other; this
    sampler has that purity without looking at any feature. A pass ends in each domain when fewer than P of its
    identities have images left, so domains get batches in proportion to their images. Source: ours.
    Cost: that of PK. Raises `DfgsError` for a domain with fewer than P identities and for an identity in two domains.
    """

    def __init__(self, labels: Labels, *, batch_size: int, instances: int, seed: int) -> None:
        super().__init__(labels, batch_size=batch_size, instances=instances, seed=seed)
        domains, sizes = np.unique(labels.identity_domains, return_counts=True)
        smallest = int(np.argmin(sizes))
        if sizes[smallest] < self.identities_per_batch:
            raise DfgsError(
                f"batch_size={batch_size} with instances={instances} needs {self.identities_per_batch} identities of "
                f"one domain, domain {domains[smallest]} has {sizes[smallest]}; "
                f"choose batch_size at most {sizes[smallest] * instances}"
            )

    def draw_pass(self, rng: np.random.Generator) -> Pass:
        """Draw identities uniformly in each domain, then mix the batches."""
        chunks, domains = self.labels.chunks(self.instances), self.labels.identity_domains
        members = [np.flatnonzero(domains == domain) for domain in np.unique(domains)]
        drawn = [rows[draw_uniform(chunks[rows], self.identities_per_batch, rng)] for rows in members]
        return self.serve(rng.permutation(np.concatenate(drawn)), self.labels.shuffled(rng))
