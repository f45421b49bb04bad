"""Distributed noise: each member adds a share, and the opened sum carries all of it (docs/distributed-noise.md).

    discrete   discrete Gaussian integers from the keystream, to 2^-225
    release    `SharedNoise`: how a bounded real vector becomes noised integers, and what that costs in privacy

For any release whose neighbours differ by a bounded L2 norm: the step of a private training, or a vector of counts.

    noise = SharedNoise(noise_multiplier=0.8, honest=12, members=18, dimension=114_816)
    integers = noise.release(vector, keystream)       # at each member; `vector` in units of the sensitivity
    total * noise.step                                # the sum of 12 to 18 of them, in units of the sensitivity
    noise.event(sampling_rate=0.1), noise.event_alone(sampling_rate=0.1)     # for `accounting.epsilon`
"""

from sordino_privacy.shared_noise.discrete import DiscreteGaussian, Integers
from sordino_privacy.shared_noise.release import SharedNoise, levels

__all__ = ["DiscreteGaussian", "Integers", "SharedNoise", "levels"]
